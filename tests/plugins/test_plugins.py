"""A package that is installed brings kinds of its own, which are as good as the built-in ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.config import ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.identity import run_key
from sim_core.plugins import offers
from tests.plugins.installed import Installed
from tests.program import Program

SMALL = (
    "simulation.nodes=10", "experiment.replicates=1", "checkpoint.every=4", "executor=inline",
    "orchestrator=none", "tracking=off", "output.plots=false", "output.tables=false",
    "validation.engine=sql", "monitoring.enabled=false",
)  # fmt: skip
ALL_THREE = ("traffic=bursts", "adversary=saboteur", "detector.learning_rate=0.1")


def run(users: Program, *words: str, steps: int = 12, name: str = "one") -> dict[str, Any]:
    """Run an experiment; return the rows of its runs by point."""
    done = users.run(
        "run", *SMALL, f"simulation.steps={steps}", f"experiment.name={name}", *words
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((users.workspace / "experiments" / name / "summary.json").read_text())
    rows = summary["runs"]
    assert all(row["state"] == "finished" for row in rows)
    return {row["point"].get("detector", {}).get("kind", "zscore"): row for row in rows} | {
        "counts": summary["counts"]
    }


def test_sweep_with_a_plugin_is_resumed_and_its_new_code_makes_new_runs(
    users: Program, installed: Installed
) -> None:
    sweep = ("-m", "detector=zscore,distance", *ALL_THREE)
    short = run(users, *sweep, steps=4)
    assert short["distance"]["ledger_head"] != short["zscore"]["ledger_head"]
    longer = run(users, *sweep)
    assert longer["distance"]["resumed_from_step"] == 4
    assert longer["distance"]["steps_executed"] == 8
    alone = run(users, "detector=distance", *ALL_THREE, name="alone", steps=12)
    assert alone["counts"]["reused"] == 1, "a run is the same run in another experiment"

    users.environment["QUORUMLAB_WORKSPACE"] = str(users.folder / "fresh")
    fresh = json.loads(
        json.dumps(whole_run(users, sweep))
    )
    assert fresh["distance"] == longer["distance"]["ledger_head"]
    del users.environment["QUORUMLAB_WORKSPACE"]

    installed.change("detector.py", ".max(axis=2)", ".mean(axis=2)")
    changed = run(users, "detector=distance", *ALL_THREE, name="changed")
    assert changed["counts"]["reused"] == 0
    (row,) = [row for kind, row in changed.items() if kind != "counts"]
    assert row["run_id"] != longer["distance"]["run_id"]
