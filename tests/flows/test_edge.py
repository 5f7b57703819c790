"""The profile `edge`: the same results by one process that imports no service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flows.compose import compose_experiment
from sim_core.plan import plan_runs
from sim_core.simulate import simulate

OVERRIDES = (
    "profile=edge",
    "experiment.name=small",
    "simulation.steps=20",
    "experiment.replicates=2",
)
HEAVY = ("prefect", "ray", "mlflow", "great_expectations", "mesa", "pandas", "matplotlib")
PROGRAM = """
import atexit, json, sys
from flows.cli import main
def tell():
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
atexit.register(tell)
main()
"""


def run_edge(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command in a process of its own; return it and the packages that it had imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    *_, packages = done.stderr.strip().splitlines()
    return done, json.loads(packages)


def test_edge_reaches_the_same_heads_without_any_service(tmp_path: Path) -> None:
    done, packages = run_edge(tmp_path, "run", *OVERRIDES)
    assert done.returncode == 0, done.stderr
    progress = [line for line in done.stdout.splitlines() if "% of the steps" in line]
    assert progress[-1].strip() == "100 % of the steps, 2 of 2 runs"
    assert sum("100 %" in line for line in progress) == 1
    assert "in a browser" not in done.stdout, "there is nothing that a server could show"
    assert not set(packages) & set(HEAVY)
    folder = tmp_path / "workspace" / "experiments" / "small"
    summary = json.loads((folder / "summary.json").read_text())
    config, points = compose_experiment(OVERRIDES)
    heads = {}
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        heads[run.spec.run_key] = last.head.hex()
    assert {r["run_id"]: r["ledger_head"] for r in summary["runs"]} == heads
    assert summary["validation"] == {"success": True, "expectations": 37, "failed": []}
    queues = summary["queues"]
    assert (queues["ledger"]["processed"], queues["ledger"]["failed"]) == (2 * 2, 0)
    assert queues["publication"]["processed"] == 0
    assert queues["telemetry"]["processed"] >= 1
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.yaml",
        "summary.json",
        "validation.html",
        "validation.json",
    ]
    again, _ = run_edge(tmp_path, "run", *OVERRIDES)
    assert again.returncode == 0
    assert "2 of 2 runs finished (0 executed, 2 reused)" in again.stdout
