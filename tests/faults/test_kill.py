"""Kill -9 at the worst moments; the same command gives the undisturbed result."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from flows.compose import compose_experiment
from sim_core.plan import plan_runs
from sim_core.simulate import simulate
from tests.program import Program, kill_everything, ray_workers

OVERRIDES = (
    "experiment.name=killed",
    "experiment.replicates=2",
    "simulation.nodes=100",
    "simulation.flows_per_node=600",  # 5 ms and more per step: killed long before the end
    "simulation.steps=500",
    "adversary=poisoner",
    "executor.num_cpus=2",
)
STEPS = 500
COMMITTED = 20


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, str]:
    """Return the ledger head of each run, simulated here without flow, Ray or database."""
    config, points = compose_experiment(OVERRIDES)
    heads = {}
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        heads[run.spec.run_key] = last.head.hex()
    return heads


@pytest.mark.faults
def test_run_goes_on_after_its_worker_was_killed(
    program: Program, undisturbed: dict[str, str]
) -> None:
    process = program.start("run", *OVERRIDES)
    program.wait_for(process, lambda: _is_under_way(program))
    workers = ray_workers(process)
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=1_000)
    assert process.returncode == 0, out + err
    _check(program, undisturbed)
    _check_resumed(program)


@pytest.mark.faults
def test_experiment_goes_on_after_everything_was_killed(
    program: Program, undisturbed: dict[str, str]
) -> None:
    del program.environment["PREFECT_API_URL"]  # a server of its own dies as well
    process = program.start("run", *OVERRIDES)
    program.wait_for(process, lambda: _is_under_way(program))
    kill_everything(process)
    again = program.run("run", *OVERRIDES)
    assert again.returncode == 0, again.stdout + again.stderr
    _check(program, undisturbed)
    _check_resumed(program)


def _is_under_way(program: Program) -> bool:
    steps = [s for (s,) in program.query("SELECT steps FROM run")]
    return any(COMMITTED <= s < STEPS // 2 for s in steps)


def _check(program: Program, undisturbed: dict[str, str]) -> None:
    """Compare heads, rows and MLflow's runs with those of an undisturbed experiment."""
    summary = program.summary()
    assert summary["state"] == "finished"
    assert {r["run_id"]: r["ledger_head"] for r in summary["runs"]} == undisturbed
    for table in ("block", "metrics"):
        counts = program.query(f"SELECT run, count(*) FROM {table} GROUP BY run")
        assert [n for _, n in counts] == [STEPS, STEPS], table
    doubled = "SELECT run, proposal FROM {} GROUP BY run, proposal HAVING count(*) > 1"
    assert program.query(doubled.format("proposal")) == []
    assert program.query(doubled.format("decision")) == []
    assert program.run("verify").returncode == 0
    published = _mlflow_runs(program.workspace / "mlflow.db")
    assert published == Counter((key, "FINISHED") for key in undisturbed)


def _check_resumed(program: Program) -> None:
    resumed = [r for r in program.summary()["runs"] if r["resumed_from_step"] > 0]
    assert resumed
    for run in resumed:
        assert run["steps_executed"] < run["steps"] == STEPS
        assert run["resumed_from_step"] + run["steps_executed"] == STEPS


def _mlflow_runs(database: Path) -> Counter[tuple[str, str]]:
    """Return how often each run key has a child run of each status."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute(
            "SELECT tags.value, runs.status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "WHERE tags.key = 'quorumlab.run_key' AND runs.lifecycle_stage = 'active'"
        ).fetchall()
    finally:
        connection.close()
    return Counter(rows)
