"""Runs are validated while others are simulated, each once, and with the same verdict in the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import flows.validate
from flows.bench import Bench, open_bench
from flows.compose import compose_experiment
from flows.orchestrators import PlainOrchestrator
from flows.validate import EarlyValidation, validate
from sim_core.errors import LedgerFailed

SMALL = (
    "experiment.name=early",
    "simulation.nodes=8",
    "simulation.steps=6",
    "simulation.flows_per_node=6",
    "experiment.replicates=5",
)
LOG = logging.getLogger("quorumlab.tests")
PATIENCE_SECONDS = 120


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the list of thread and key of each run that was held against the rules."""
    found: list[tuple[str, str]] = []
    real = flows.validate.validate_in_sql

    def judge(ledger: Any, runs: Any) -> Any:
        found.extend((threading.current_thread().name, run["run_key"]) for run in runs)
        return real(ledger, runs)

    monkeypatch.setattr(flows.validate, "validate_in_sql", judge)
    return found


@pytest.fixture
def by_twos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.validate, "RUNS_AT_ONCE", 2)


@contextmanager
def simulated(run_plainly: Callable[..., Any], workspace: Path) -> Iterator[Bench]:
    """Give an experiment whose five runs are simulated and not yet validated."""
    run_plainly(*SMALL, "validation.mode=off")
    words = (*SMALL, "executor=inline", "tracking=off", "validation.engine=sql")
    bench = open_bench(*compose_experiment([*words, f"workspace={workspace}"]))
    with bench.closing():
        yield bench


def keys_of(bench: Bench) -> list[str]:
    return [run.spec.run_key for run in bench.plan.runs]


def valid_in(bench: Bench) -> set[str]:
    return {r["run_key"] for r in bench.ledger.runs_of(bench.plan.name) if r["validated"]}


def await_valid(bench: Bench, keys: set[str]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while valid_in(bench) != keys:
        assert time.monotonic() < end, (valid_in(bench), keys)
        time.sleep(0.01)  # between two looks


@pytest.mark.usefixtures("by_twos")
def test_what_was_valid_beside_the_simulation_is_not_judged_again(
    run_plainly: Callable[..., Any], tmp_path: Path, judged: list[tuple[str, str]]
) -> None:
    with simulated(run_plainly, tmp_path / "workspace") as bench:
        keys = keys_of(bench)
        with closing(EarlyValidation(bench, LOG)) as early:
            for key in keys[:3]:
                early.ended(key)
            await_valid(bench, set(keys[:2]))
        assert judged == [("validation", key) for key in keys[:2]]
        report = validate(bench, PlainOrchestrator())
        assert report is not None
        assert report.success
        assert judged[2:] == [("MainThread", key) for key in keys[2:]]
        assert valid_in(bench) == set(keys)


@pytest.mark.usefixtures("by_twos")
def test_a_run_that_breaks_a_rule_is_left_to_the_stage_which_says_so(
    run_plainly: Callable[..., Any], tmp_path: Path, judged: list[tuple[str, str]]
) -> None:
    with simulated(run_plainly, tmp_path / "workspace") as bench:
        first, second, third, fourth, _ = keys_of(bench)
        change = text(
            "UPDATE metrics SET messages_sent = messages_sent + 1 WHERE step = 3 "
            "AND run = (SELECT id FROM run WHERE run_key = :key)"
        )
        bench.ledger.write(lambda connection: connection.execute(change, {"key": first}))
        with closing(EarlyValidation(bench, LOG)) as early:
            for key in (first, second, third, fourth):
                early.ended(key)
            await_valid(bench, {second, third, fourth})
        bench.ledger.write(lambda connection: connection.execute(change, {"key": third}))
        report = validate(bench, PlainOrchestrator())
        assert report is not None
        assert {failure.run_id for failure in report.failed} == {first, third}
        states = {r["run_key"]: r["state"] for r in bench.ledger.runs_of(bench.plan.name)}
        assert {k for k, state in states.items() if state == "quarantined"} == {first, third}
        assert [key for thread, key in judged if thread == "MainThread"].count(second) == 0


@pytest.mark.usefixtures("by_twos")
def test_a_failure_beside_the_simulation_is_told_and_costs_nothing(
    run_plainly: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, asked = flows.validate.finished_runs, threading.Event()

    def away(*arguments: Any) -> Any:
        if threading.current_thread().name == "validation":
            asked.set()
            raise LedgerFailed("the database is away")
        return real(*arguments)

    monkeypatch.setattr(flows.validate, "finished_runs", away)
    with simulated(run_plainly, tmp_path / "workspace") as bench:
        with caplog.at_level(logging.WARNING), closing(EarlyValidation(bench, LOG)) as early:
            for key in keys_of(bench):
                early.ended(key)
            assert asked.wait(PATIENCE_SECONDS)
        assert "validation waits until all runs have ended: the database is away" in caplog.text
        report = validate(bench, PlainOrchestrator())
        assert report is not None
        assert report.success
        assert valid_in(bench) == set(keys_of(bench))


@pytest.mark.parametrize(("executor", "is_beside"), [("processes", True), ("inline", False)])
def test_every_run_is_judged_once_and_beside_only_workers(
    run_plainly: Callable[..., Any],
    judged: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    is_beside: bool,
) -> None:
    told: list[str] = []
    real = EarlyValidation.ended

    def ended(self: EarlyValidation, run_key: str) -> None:
        told.append(run_key)
        real(self, run_key)

    monkeypatch.setattr(flows.validate, "RUNS_AT_ONCE", 1)
    monkeypatch.setattr(EarlyValidation, "ended", ended)
    outcome = run_plainly(*SMALL, f"executor={executor}")
    keys = sorted(r.run_id for r in outcome.findings.records)
    assert outcome.validation["success"]
    assert sorted(key for _, key in judged) == keys
    assert sorted(told) == (keys if is_beside else [])
