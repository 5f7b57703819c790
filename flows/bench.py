"""What all stages of an experiment share: plan, workspace, ledger, and who is watching."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.enrolment import enrol, enrol_more, enrol_next
from flows.search import is_optimisation
from flows.trials import Standing
from sim_core.bounded_queue import QueueCounts
from sim_core.caching import Cache, all_statistics
from sim_core.checkpoint import CheckpointFolder
from sim_core.comparison.report import Report
from sim_core.config import ExperimentConfig, ProfilingConfig
from sim_core.errors import OwnershipLost
from sim_core.ledger.blocks import KEPT
from sim_core.ledger.cached import CachedQueries
from sim_core.ledger.presence import present
from sim_core.ledger.store import Ledger, open_engine
from sim_core.ledger.stored import kept_kinds
from sim_core.operations import Operations
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.report import Optimisation
from sim_core.optimisation.trials import Trial
from sim_core.plan import Plan, Point, plan_runs
from sim_core.results import Findings
from sim_core.simulate import RunSpec
from sim_core.workspace import Workspace, open_workspace, remember_ledger
from tasks.describe_environment import describe_environment
from tasks.estimate_memory import refuse_what_does_not_fit
from tasks.logs.context import TOLD
from tasks.logs.writing import LogTarget
from tasks.occupancy import Occupancy
from tasks.simulate_shard import Log
from tasks.telemetry import Sources, Telemetry

LOG = logging.getLogger("quorumlab.experiment")


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment."""

    name: str
    key: str
    state: str
    """finished, or failed where a run has no result that counts."""
    counts: dict[str, int]
    findings: Findings
    validation: dict[str, Any] | None
    environment: dict[str, Any]
    wall_seconds: float
    comparison: Report | None = None
    """Of the points with the baseline; None where there is one point, or where no tables are made."""
    optimisation: Optimisation | None = None
    """What was found, where points were chosen by what others had found."""


class Spectator:
    """Whoever follows an experiment; this one looks away."""

    def stage(self, text: str) -> None:
        """Something else begins."""

    def planned(self, plan: Plan, committed: dict[str, int]) -> None:
        """The runs are known, and how many steps of each are committed already."""

    def committed(self, run_key: str, steps: int) -> None:
        """Steps of a run have been committed."""

    def ended(self, run_key: str, error: str | None) -> None:
        """A run has ended."""

    def tried(self, aim: Aim, trials: Sequence[Trial], wanted: int, seconds: float) -> None:
        """Trials of an optimisation are over; the rest takes about so many seconds."""

    def warn(self, text: str) -> None:
        """Something is not as it should be, and work goes on."""

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """The experiment is over."""


QUEUES = ("ledger", "publication", "telemetry")
"""Queues of an experiment whose figures are shown."""
NOBODY = Spectator()
SPECTATOR: ContextVar[Spectator] = ContextVar("spectator", default=NOBODY)
"""Who follows the experiments of this process; a flow's parameters are for the record only."""


class Bench:
    """One experiment at work. Not a dataclass: Prefect would copy what it finds inside of one."""

    def __init__(
        self, config: ExperimentConfig, points: Sequence[Point], plan: Plan, workspace: Workspace
    ) -> None:
        """Open the ledger and enter the experiment.

        Raises:
            WorkspaceError: the ledger cannot be opened.
            ExperimentConflict: the name exists and is another experiment.
        """
        self.config = config
        self.plan = plan
        self.workspace = workspace
        self.checkpoints = CheckpointFolder(workspace.checkpoints)
        remember_ledger(workspace, config.ledger)
        self.ledger = Ledger(
            open_engine(workspace.database, config.ledger),
            self.checkpoints,
            keep=config.checkpoint.keep,
            attempts=config.ledger.attempts,
            operations=Operations() if config.monitoring.enabled else None,
        )
        self.cache = Cache("ledger", config.cache)
        self.queries = CachedQueries(self.ledger, self.cache)
        self.queues = dict.fromkeys(QUEUES, QueueCounts())
        self.adjustments: list[dict[str, Any]] = []
        """What was done because the machine was short of something."""
        self.occupancy = Occupancy(operations=self.ledger.operations)
        """Which shard was executed where, and when."""
        self.spectator = SPECTATOR.get()
        self.telemetry = Telemetry(
            plan.name,
            config.monitoring,
            config.alerts,
            self.ledger.operations,
            tell=self._warn,
            sources=Sources(queues=lambda: self.queues),
            folder=workspace.experiment(plan.name),
        )
        """What is measured while it is at work."""
        self.log: Log = logging.getLogger("quorumlab.experiment")
        """Where issues are told, besides the spectator."""
        self.log_target = LogTarget(config.logging, workspace.folder / "logs", plan.name)
        self.environment = describe_environment()
        self.stage_seconds: dict[str, float] = {}
        self.began = time.monotonic()
        self.n_executed = 0
        """Runs that this command has handed out."""
        self._presence = ExitStack()
        try:
            self._presence.enter_context(present(self.ledger.engine, plan.name))
            self.plan = enrol(self.ledger, config, points, plan, self.environment)
        except BaseException:
            self._let_go()
            raise

    @property
    def folder(self) -> Path:
        """Folder of the experiment's files."""
        return self.workspace.experiment(self.plan.name)

    @property
    def page(self) -> Path | None:
        """Page that compares the points; None where there is one, or where no tables are made."""
        is_made = self.config.output.tables and len(self.plan.labels) > 1
        return self.folder / "report.html" if is_made else None

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Enter into the ledger that work stopped early, if it does; let go of the database.

        Who has lost its runs to another process has no say in the experiment's state either.
        """
        try:
            yield
        except OwnershipLost:
            raise
        except BaseException:
            self.ledger.set_interrupted(self.plan.name)
            raise
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._presence.close()
        self.queries.close()
        self.ledger.dispose()

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """Tell the spectator what begins, and keep how long it took."""
        self.spectator.stage(text)
        LOG.info("%s", text, extra=TOLD)
        began = time.monotonic()
        try:
            with self.telemetry.stage(name):
                yield
        finally:
            seconds = self.stage_seconds.get(name, 0.0) + time.monotonic() - began
            self.stage_seconds[name] = round(seconds, 3)
            LOG.info("%s took %.3f s", name, time.monotonic() - began)

    def _warn(self, text: str) -> None:
        self.spectator.warn(text)
        self.log.warning("%s", text, extra=TOLD)

    def expect_experiment(self) -> None:
        """Return if the experiment is still there.

        Raises:
            OwnershipLost: it was deleted meanwhile.
        """
        if self.ledger.experiment(self.plan.name) is None:
            raise OwnershipLost(
                f"experiment {self.plan.name} was deleted while this command worked on it; nothing "
                "more is written"
            )

    def tell_figures(self, log: Log) -> None:
        """Log how busy workers were, what went through the queues and what the caches of this process did."""
        if (utilisation := self.occupancy.utilisation()) is not None:
            log.info("%s", utilisation, extra=TOLD)
        for name, counts in self.queues.items():
            log.info("queue %s: %s", name, counts)
        for name, statistics in all_statistics().items():
            log.info("cache %s: %s", name, statistics)

    def missing_runs(self) -> list[RunSpec]:
        """Return the runs that have no result yet, or rows of too little detail."""
        found = {row["run_key"]: row for row in self.queries.runs_of(self.plan.name)}
        missing = []
        for run in self.plan.runs:
            row = found[run.spec.run_key]
            kept = KEPT[run.spec.detail] <= kept_kinds(run.spec.run_key, row["detail"])
            if row["summary"] is None or not kept:
                missing.append(run.spec)
        first = self.config.profiling.runs - self.n_executed
        self.n_executed += len(missing)
        return profiled(missing, self.config.profiling, first)

    def committed_steps(self) -> dict[str, int]:
        """Return how many steps of each run are committed, up to its horizon."""
        rows = self.queries.runs_of(self.plan.name)
        return {row["run_key"]: min(row["steps"], row["horizon"]) for row in rows}

    def grow(self) -> bool:
        """Enter what results ask for now; return whether there is anything.

        Replicates by `experiment.until`, or the next points of an optimisation.

        Raises:
            OwnershipLost: the experiment was deleted meanwhile.
        """
        before = self.plan
        if is_optimisation(self.config):
            self.plan, here = enrol_next(self.ledger, self.config, before)
            self._tell_trials(here)
        else:
            self.plan = enrol_more(self.ledger, self.config, before)
        return self.plan is not before

    def _tell_trials(self, here: Standing) -> None:
        """Tell the spectator what was found so far, and how long the rest takes as it went until now."""
        wanted = self.config.optimise.trials
        left = max(0, wanted - len(here.trials)) * self.config.experiment.replicates
        seconds = self.stage_seconds.get("simulate", 0.0) / max(1, self.n_executed) * left
        self.spectator.tried(here.aim, here.trials, wanted, seconds)


def profiled(runs: list[RunSpec], settings: ProfilingConfig, first: int) -> list[RunSpec]:
    """Return runs of which the first so many are executed under the profiler that is asked for."""
    if settings.kind == "off" or first <= 0:
        return runs
    return [replace(run, profile=settings.kind) for run in runs[:first]] + runs[first:]


def open_bench(config: ExperimentConfig, points: Sequence[Point]) -> Bench:
    """Plan an experiment and open its workspace.

    Raises:
        UserError: the configuration, a data file or the workspace cannot be used.
    """
    plan = plan_runs(config, points)
    limit = config.limits.max_estimated_mb
    refuse_what_does_not_fit(plan.configs, len(plan.runs), config.executor, limit)
    return Bench(config, points, plan, open_workspace(config.workspace))
