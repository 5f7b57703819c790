"""A plug-in that cannot be used is refused in words where it is named, and nowhere else."""

from __future__ import annotations

import json

import pytest

from tests.plugins.installed import Installed
from tests.program import Program

HEAD = """
from typing import Literal
from sim_core.config import DetectorBase, Frozen
from sim_core.detectors.base import Stationary
from sim_core.plugins import Plugin
class Config({base}):
    kind: Literal["{kind}"] = "{kind}"
class Scores(Stationary):
    def __init__(self, config, streams): ...
    def init(self, n_nodes, warmup, *, first=0): ...
    def score(self, state, x, rows=None): ...
"""
WHOLE = "    def learn(self, state, x, mask): ...\n"
FUNCTION = """
def make(config, streams):
    return Scores(config, streams)
PLUGIN = Plugin(config=Config, make=make)
"""
END = "PLUGIN = Plugin(config=Config, make=Scores)\n"


def source(kind: str, *, base: str = "DetectorBase", rest: str = WHOLE + END) -> str:
    return HEAD.format(base=base, kind=kind) + rest


BROKEN = {
    "unimportable": ("import no_such_library", "cannot be imported: ModuleNotFoundError"),
    "nameless": ("OTHER = 1", "cannot be imported: AttributeError"),
    "no_plugin": ("PLUGIN = 'text'", "names a str, not a sim_core.plugins.Plugin"),
    "baseless": (source("baseless", base="Frozen"), "no subclass of sim_core.config.DetectorBase"),
    "misnamed": (source("another"), 'lacks the line kind: Literal["misnamed"] = "misnamed"'),
    "zscore": (source("zscore"), "detector=zscore is a built-in kind"),
    "Loud": (source("Loud"), "a kind is written in small letters"),
    "unlearned": (source("unlearned", rest=END), "Scores lacks learn of sim_core.detectors.base"),
    "made_late": (source("made_late", rest=FUNCTION), "Scores lacks learn of"),
    "unmade": (source("unmade", rest="PLUGIN = Plugin(config=Config, make=3)"), "neither a class nor"),
}  # fmt: skip
REFUSALS = """
from sim_core.detectors import make_detector
from sim_core.errors import ConfigurationError
from sim_core.plugins.loading import load
from sim_core.randomness import Streams
found = {}
for kind in KINDS:
    try:
        make_detector(load("detector", kind).plugin.config(), Streams(1, 0))
    except ConfigurationError as error:
        found[kind] = str(error)
"""


@pytest.fixture
def broken(installed: Installed) -> Installed:
    """Return a folder in which many packages are broken, each in another way."""
    for kind, (code, _) in BROKEN.items():
        installed.add(f"broken-{kind.lower().replace('_', '-')}", "detectors", kind, code)
    for name in ("first", "second"):
        installed.add(f"twin-{name}", "detectors", "twin", source("twin"))
    return installed


def test_each_fault_is_told_with_package_entry_point_and_what_to_do(broken: Installed) -> None:
    found = broken.answer(REFUSALS.replace("KINDS", repr([*BROKEN, "twin"])))
    assert set(found) == {*BROKEN, "twin"}
    for kind, (_, reason) in BROKEN.items():
        package = f"broken-{kind.lower().replace('_', '-')}"
        assert reason in found[kind]
        assert f"plug-in detector={kind} of package {package}" in found[kind]
        assert f"quorumlab.detectors: {kind} = " in found[kind]
        assert f"pip uninstall {package}" in found[kind]
    assert "offered by twin-first and twin-second" in found["twin"]


def test_broken_plugin_is_refused_before_anything_starts_and_the_doctor_warns(
    broken: Installed, users: Program
) -> None:
    settings = ("executor=inline", "orchestrator=none", "tracking=off", "simulation.steps=2")
    refused = users.run("run", *settings, "detector=made_late")
    assert refused.returncode == 2
    assert not users.workspace.exists()
    assert "lacks learn" in refused.stderr
    assert "Traceback" not in refused.stderr
    looked_at = users.run("doctor", "--json")
    findings = {f["what"]: f for f in json.loads(looked_at.stdout)["findings"]}
    assert findings["plug-in detector=distance"]["state"] == "ok"
    assert findings["plug-in detector=unlearned"]["state"] == "warn"
    assert findings["plug-in detector=zscore"]["state"] == "warn"
