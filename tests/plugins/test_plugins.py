"""A package that is installed brings kinds of its own, which are as good as the built-in ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.config import ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.identity import run_key
from sim_core.plan import plan_runs
from sim_core.plugins import offers
from tests.plugins.installed import Installed
from tests.program import Program

SMALL = (
    "simulation.nodes=10", "experiment.replicates=1", "checkpoint.every=4", "executor=inline",
    "orchestrator=none", "tracking=off", "output.plots=false", "output.tables=false",
    "validation.engine=sql", "monitoring.enabled=false",
)  # fmt: skip
OURS = ("traffic=bursts", "traffic.every=3", "adversary=saboteur")
SWEEP = ("-m", "detector=zscore,distance", *OURS)
LIBRARY_KEYS = """
from sim_core.config import ModelConfig
from sim_core.identity import result_relevant, run_key
def key(**groups):
    return run_key(ModelConfig.model_validate(groups), 1, 0)
"""


def run(users: Program, *words: str, steps: int = 12, workspace: str = "workspace") -> Any:
    """Run an experiment; return its counts, and the rows of its runs by the points' labels."""
    folder = users.folder / workspace
    settings = (f"workspace={folder}", f"simulation.steps={steps}", "experiment.name=one")
    done = users.run("run", *SMALL, *settings, *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "experiments" / "one" / "summary.json").read_text())
    return summary["counts"], {row["label"]: row for row in summary["runs"]}


def test_sweep_goes_on_from_its_checkpoints_and_new_code_makes_new_runs(
    users: Program, installed: Installed
) -> None:
    installed.add("broken", "detectors", "broken", "import no_such_library")  # and nobody minds
    run(users, *SWEEP, steps=4)
    _, resumed = run(users, *SWEEP)
    _, whole = run(users, *SWEEP, workspace="fresh")
    assert set(whole) == {"zscore", "distance"}
    assert whole["zscore"]["ledger_head"] != whole["distance"]["ledger_head"]
    for label, row in whole.items():
        assert (row["resumed_from_step"], resumed[label]["resumed_from_step"]) == (0, 4)
        assert resumed[label]["run_id"] == row["run_id"]
        assert resumed[label]["ledger_head"] == row["ledger_head"]

    installed.change("detector.py", ".max(axis=2)", ".mean(axis=2)")
    words = ("-m", "detector=distance,mahalanobis", *OURS, "experiment.name=two")
    done = users.run("run", *SMALL, "simulation.steps=12", *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads((users.workspace / "experiments" / "two" / "summary.json").read_text())
    assert summary["counts"]["reused"] == 0
    assert resumed["distance"]["run_id"] not in {row["run_id"] for row in summary["runs"]}


def test_mistakes_are_refused_in_the_words_of_built_in_kinds(installed: Installed) -> None:
    mistakes = {
        "detector=distance detector.learning_rate=3": (
            "detector.learning_rate: Input should be less than or equal to 1 (given: 3)"
        ),
        "detector=distanc": "which has: cusum distance ecod",
        "detector=distance detector.rate=3": "unknown key 'detector.rate'",
        "detector.kind=distanc": "'zscore', 'distance'",
        "traffic=bursts traffic.every=often": "traffic.every: Input should be a valid integer",
        "adversary=saboteur adversary.count=200": "there cannot be more liars than nodes",
    }
    found = installed.answer(
        "from flows.compose import compose_experiment\n"
        "from sim_core.errors import ConfigurationError\n"
        "found = []\n"
        f"for words in {list(mistakes)}:\n"
        "    try: compose_experiment(words.split())\n"
        "    except ConfigurationError as error: found.append(str(error))"
    )
    for told, expected in zip(found, mistakes.values(), strict=True):
        assert expected in told


def test_listings_and_dry_runs_know_plugins(users: Program) -> None:
    listed = users.run("run", "--help").stdout
    assert "detector: cusum, distance, ecod" in listed
    dry = users.run("run", *SMALL, "--dry-run", "detector=distance", *OURS, "simulation.steps=3")
    assert "runs         1 of 3 steps" in dry.stdout, dry.stderr
    assert not users.workspace.exists()


def test_keys_hold_the_plugins_that_are_used_and_no_others(
    installed: Installed, make_config: Any
) -> None:
    code = LIBRARY_KEYS + (
        "plain, groups = key(), dict(detector={'kind': 'distance'})\n"
        "later = dict(intervention={'step': 3, 'adversary': {'kind': 'saboteur'}})\n"
        "relevant = result_relevant(ModelConfig.model_validate(groups))\n"
        "found = [plain, key(**groups), relevant['plugins'], key(**later)]"
    )
    plain, ours, plugins, later = installed.answer(code)
    assert plain == run_key(ModelConfig(), 1, 0), "as where nothing is installed"
    (plugin,) = plugins.values()
    assert plugin["distribution"] == "quorumlab-example"
    assert plugin["entry_point"] == "quorumlab_example.detector:PLUGIN"
    installed.change("adversary.py", "rejects", "refuses")  # a docstring: no key changes
    installed.change("detector.py", "kind: Literal", "# A comment\n    kind: Literal")
    assert installed.answer(code)[1:] == [ours, plugins, later]
    (installed.folder / "quorumlab_example" / "weights.bin").write_bytes(b"\1")
    changed = installed.answer(code)
    assert changed[0] == plain
    assert changed[1] != ours
    assert changed[3] != later


def test_nothing_is_looked_for_as_long_as_all_kinds_are_built_in() -> None:
    offers.cache_clear()
    config, points = compose_experiment(
        ["detector=ewma,zscore", "adversary=flipper"], multirun=True
    )
    plan_runs(config, points)
    assert offers.cache_info().misses == 0


@pytest.mark.parametrize(
    "override",
    [
        "detector=quorumlab_example.detector:PLUGIN",
        "detector=./detector.py",
        "detector.kind=quorumlab_example.detector",
        "+detector.config=os.system",
        "detector={kind: os, make: system}",
        "+quorumlab.detectors={distance: 'os:system'}",
    ],
)
def test_a_configuration_names_kinds_and_never_code(override: str) -> None:
    with pytest.raises(ConfigurationError):
        compose_experiment([override])


@pytest.mark.slow
def test_a_ledger_outlives_the_package_of_its_runs(users: Program, installed: Installed) -> None:
    run(users, "detector=distance", *OURS)
    (info,) = installed.folder.glob("*.dist-info")
    info.rename(installed.folder / "gone")
    verified = users.run("verify")
    assert verified.returncode == 0, verified.stderr
    assert "all of it holds" in verified.stdout
    resumed = users.run("resume", "one")
    assert resumed.returncode == 2
    assert "no installed package offers it by an entry point" in resumed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "ray_local"])
def test_workers_load_the_plugins_of_the_runs_that_they_are_given(
    users: Program, executor: str
) -> None:
    """On Ray the second half of the network is in an actor, a third process."""
    large = ("detector=distance", *OURS, "simulation.nodes=130")
    _, here = run(users, *large)
    there = (f"executor={executor}", "executor.num_cpus=1", "executor.network_shards=2")
    _, away = run(users, *large, *there, workspace=executor)
    (one,), (other,) = here.values(), away.values()
    assert one["ledger_head"] == other["ledger_head"]
