"""Validating the ledger of an experiment: of runs that have ended beside the others, of all at the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from flows.bench import Bench
from flows.orchestrators import Orchestrator
from sim_core.error_table import Trouble
from sim_core.faultpoints import reach
from sim_core.ledger.decisions import Run
from sim_core.ledger.report import (
    EXPECTATIONS,
    ValidationReport,
    finished_runs,
    validate_in_sql,
)
from sim_core.ledger.validated import changed_runs
from tasks.simulate_shard import Log

RUNS_AT_ONCE = 100
"""That are validated beside the others; with fewer, Great Expectations' own work would weigh more."""
LAST_RUNS_AT_ONCE = 25
"""Of the last hundred: what is not validated when the last run ends keeps the user waiting."""


def validate(bench: Bench, orchestrator: Orchestrator) -> ValidationReport | None:
    """Validate the ledger of all finished runs; quarantine those that break the protocol."""
    if bench.config.validation.mode == "off":
        return None
    bench.expect_experiment()
    with bench.stage("validate", "validating the ledger"):
        reach("validate.begin")
        report = validate_changed(bench, finished_runs(bench.ledger, bench.plan.name))
    reasons = {
        failure.run_id: f"{failure.expectation}: {failure.detail}"
        for failure in reversed(report.failed)
    }
    for failure in report.failed:
        orchestrator.log.error(
            "%s",
            Trouble.VALIDATION_REFUSED.tell(
                run=failure.run_id[:12], rule=failure.expectation, detail=failure.detail
            ),
        )
    n_failed = len(report.failed)
    orchestrator.log.info("validation: %d expectations, %d failures", report.expectations, n_failed)
    reach("validate.end")
    if bench.config.validation.mode == "strict":
        bench.ledger.quarantine(reasons)
        bench.ledger.release(bench.plan.name, broken=reasons)
    return report


def validate_changed(bench: Bench, finished: Sequence[Run]) -> ValidationReport:
    """Validate which of the finished runs have changed since they were found valid, and note those that are."""
    if not finished:
        return ValidationReport(success=True, expectations=0, failed=())
    changed = changed_runs(bench.ledger, finished)
    runs = [run for run in finished if run["id"] in changed]
    if not runs:
        return ValidationReport(success=True, expectations=len(EXPECTATIONS), failed=())
    if bench.config.validation.engine == "sql":
        report = validate_in_sql(bench.ledger, runs)
    else:
        from tasks.validate_ledger import validate_runs

        report = validate_runs(bench.ledger, runs)
    broken = {failure.run_id for failure in report.failed}
    valid = [run for run in runs if run["run_key"] not in broken]
    bench.ledger.set_validated((r["id"], r["horizon"], changed[r["id"]]) for r in valid)
    return report


class EarlyValidation:
    """Validates runs that have ended while workers simulate others, in a thread, until it is closed.

    What is found valid is noted, and `validate` only sees whether it is still the same. What is
    not, or what has not come to its turn when the simulation ends, is left to `validate`.
    """

    def __init__(self, bench: Bench, log: Log) -> None:
        """Start the thread."""
        self._bench, self._log = bench, log
        self._gathering: list[str] = []
        self._n_to_come = 0
        self._lock = threading.Lock()
        self._batches: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="validation", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after the runs that it is at."""
        self._is_closed = True
        self._batches.put([])
        self._thread.join()

    def expect(self, n_runs: int) -> None:
        """Take note that so many runs more are about to be simulated."""
        with self._lock:
            self._n_to_come += n_runs

    def ended(self, run_key: str) -> None:
        """Take note of a run that is finished."""
        with self._lock:
            self._gathering.append(run_key)
            self._n_to_come -= 1
            enough = max(LAST_RUNS_AT_ONCE, self._n_to_come)
            if len(self._gathering) < min(RUNS_AT_ONCE, enough):
                return
            batch, self._gathering = self._gathering, []
        self._batches.put(batch)

    def _work(self) -> None:
        while keys := self._batches.get():
            if self._is_closed:
                return
            try:
                runs = finished_runs(self._bench.ledger, self._bench.plan.name, keys)
                validate_changed(self._bench, runs)
            except Exception as error:  # noqa: BLE001 - whatever it is, it comes again in `validate`
                self._log.warning("validation waits until all runs have ended: %s", error)
                return
