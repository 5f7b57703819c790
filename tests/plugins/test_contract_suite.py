"""`pytest --quorumlab-contracts` holds installed plug-ins to what built-in kinds are held to."""

from __future__ import annotations

import shutil
import subprocess
import tomllib

import pytest

from sim_core.contracts import pytest_plugin
from sim_core.contracts.suite import _checks
from tests.plugins.installed import CHECKOUT, EXAMPLE, Installed

PLUGINS = ("-p", "sim_core.contracts.pytest_plugin", "-p", "_hypothesis_pytestplugin")


def check(installed: Installed, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in an empty folder, with the plug-ins that an installation would load by itself."""
    folder = installed.folder.parent / "tests"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(folder))
        return installed.python("-m", "pytest", *options, *PLUGINS, str(folder), *words)


def test_example_package_keeps_its_contracts(installed: Installed) -> None:
    """By the option, and by a test of its own, of which a few checks are run here."""
    shutil.copytree(EXAMPLE / "tests", installed.folder.parent / "tests")
    done = check(installed, "--quorumlab-contracts", "-k", "test_plugin or resumed_run")
    assert done.returncode == 0, done.stdout
    assert "45 passed" in done.stdout


FAULTS = {
    "distance-shapes_and_types": ("detector.py", 'state["mean"] +=', 'state["mean"] = state["mean"] +'),
    "distance-scores_are_finite_and_not_negative": (
        "detector.py", "np.abs(x - mean[:, None])", "(x - mean[:, None])",
    ),
    "distance-strange_flows_score_higher_than_ordinary_ones": (
        "detector.py", ".max(axis=2)", ".max(axis=2) * 0",
    ),
    "saboteur-each_ballot_follows_from_its_own_question_alone": (
        "adversary.py", "luck < self.spite", "np.arange(len(luck)) % 2 == 0",
    ),
    "bursts-some_nodes_alone_see_what_they_see_among_all": (
        "traffic.py", "first=first, step=step)\n        is_burst", "step=step)\n        is_burst",
    ),
    "bursts-flows_of_a_step_depend_on_nothing_but_the_step": (
        "traffic.py", "flows.x[:] = x", "flows.x[:] = np.random.random() + x",
    ),
}  # fmt: skip
"""What is done to the code of the example, by the checks that must notice."""


def test_fault_fails_the_check_that_names_it(installed: Installed) -> None:
    for file, old, new in FAULTS.values():
        installed.change(file, old, new)
    failed = installed.answer(
        "from sim_core.contracts.suite import _checks\n"
        "found = []\n"
        "for parameter in _checks([]):\n"
        "    name = parameter.id.partition('-')[2]\n"
        f"    if name in {list(FAULTS)}:\n"
        "        try: parameter.values[0]()\n"
        "        except AssertionError: found.append(name)"
    )
    assert sorted(failed) == sorted(FAULTS)


def test_kind_that_nobody_offers_is_a_mistake() -> None:
    with pytest.raises(pytest.UsageError, match="no installed package offers distanc"):
        list(_checks(["distanc"]))


def test_plugin_of_pytest_is_declared_and_imports_nothing_of_the_model(
    installed: Installed,
) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"quorumlab": pytest_plugin.__name__}
    loaded = installed.answer(
        "import sys, pytest, sim_core.contracts.pytest_plugin\n"
        "found = sorted({name.split('.')[0] for name in sys.modules} & "
        "{'numpy', 'numba', 'pydantic', 'hypothesis', 'scipy'})"
    )
    assert loaded == []
