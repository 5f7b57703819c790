"""Handing out shards of runs: as Prefect tasks, a bounded number at once."""

from __future__ import annotations

import contextlib
import math
import queue
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from flows.bench import Bench
from flows.orchestrators import Orchestrator
from flows.validate import EarlyValidation
from sim_core.errors import WorkerDied
from sim_core.forks import in_families
from sim_core.jobs import Attachment
from sim_core.ledger.writer import LedgerWriter
from sim_core.results import Execution
from sim_core.simulate import RunSpec
from tasks.adapt_to_machine import Adaptation
from tasks.executors import Executor
from tasks.logs.writing import FILE as LOG_FILE
from tasks.logs.writing import append
from tasks.simulate_shard import Shard, Workbench, unattached

SHARDS_PER_SLOT = 8
"""So many that the last shard to end does not keep the other workers idle for long."""
LARGEST_SHARD = 50
PROFILES = "profiles"
"""Folder of an experiment with those of its runs."""
POLL_SECONDS = 1.0
LONGEST_SEGMENT_SECONDS = 20.0
"""How long an experiment that ends early waits for what is being executed."""


def make_shards(
    runs: Sequence[RunSpec], max_in_flight: int, shard_runs: int | None = None
) -> list[Shard]:
    """Return the runs in shards; results never depend on how they are dealt out.

    Runs that have steps in common before an intervention are neighbours, and in one shard, unless
    `shard_runs` says otherwise: whoever executes it simulates those steps once.
    """
    size = shard_runs or min(
        LARGEST_SHARD, math.ceil(len(runs) / (max_in_flight * SHARDS_PER_SLOT))
    )
    families = in_families(runs)
    if shard_runs is not None:
        families = [[run] for family in families for run in family]
    parts: list[list[RunSpec]] = [[]]
    for family in families:
        if parts[-1] and len(parts[-1]) + len(family) > size:
            parts.append([])
        parts[-1] += family
    return [Shard(index, part) for index, part in enumerate(parts)]


def next_shard(waiting: deque[Shard], most_runs: int) -> Shard:
    """Take the next shard, or its first runs where it is larger than it may be.

    >>> waiting = deque([Shard(0, ["a", "b", "c"])])
    >>> next_shard(waiting, 2).specs, waiting[0].specs
    (('a', 'b'), ('c',))
    """
    shard = waiting.popleft()
    if len(shard.specs) <= most_runs:
        return shard
    waiting.appendleft(Shard(shard.index, shard.specs[most_runs:]))
    return Shard(shard.index, shard.specs[:most_runs])


def execute_shards(
    bench: Bench,
    runs: Sequence[RunSpec],
    executor: Executor,
    orchestrator: Orchestrator,
    validation: EarlyValidation | None = None,
) -> dict[str, Execution]:
    """Execute runs and return what was done for each of them; tell validation which are finished.

    Raises:
        Interrupted: another driver has claimed a run.
        ServiceLost: Ray is gone.
    """
    settings = bench.config.ledger
    with LedgerWriter(
        bench.ledger, segments=settings.segments_at_once, flush_seconds=settings.flush_seconds
    ) as writer:
        count = ProgressCount(bench, validation)
        executions = _execute(bench, runs, executor, orchestrator, writer, count)
    bench.queues["ledger"] = writer.counts
    return executions


def _execute(
    bench: Bench,
    runs: Sequence[RunSpec],
    executor: Executor,
    orchestrator: Orchestrator,
    writer: LedgerWriter,
    count: ProgressCount,
) -> dict[str, Execution]:
    workbench = Workbench(
        bench.ledger,
        writer,
        bench.checkpoints,
        executor,
        count,
        WorkerDied,
        bench.config.limits.attempts,
        bench.occupancy,
        bench.telemetry,
        attach=keeper_of(bench),
    )
    shards = make_shards(runs, executor.max_in_flight, bench.config.executor.shard_runs)
    adaptation = Adaptation(
        bench.config.adaptation,
        in_flight=executor.max_in_flight,
        shard_runs=max(len(shard.specs) for shard in shards),
        empty_caches=bench.cache.clear,
    )
    waiting, ended = deque(shards), queue.SimpleQueue[Any]()
    progress = orchestrator.progress(sum(run.config.simulation.steps for run in runs))
    executions: dict[str, Execution] = {}
    running: set[Any] = set()
    try:
        while waiting or running:
            adaptation.allow(executor.max_in_flight)
            while waiting and len(running) < adaptation.in_flight:
                shard = next_shard(waiting, adaptation.shard_runs)
                future = orchestrator.submit(shard, workbench)
                running.add(future)
                future.add_done_callback(ended.put)
            with contextlib.suppress(queue.Empty):
                future = ended.get(timeout=POLL_SECONDS)
                running.discard(future)
                executions |= future.result()
            progress.show(count.steps)
            if (adjustment := adaptation.look(writer.last_seconds)) is not None:
                orchestrator.log.info("adapted to the machine: %s", adjustment)
    finally:
        bench.adjustments = adaptation.report
        workbench.stopping.set()
        _await_the_rest(running)
        progress.close()
        orchestrator.close()
    return executions


def keeper_of(bench: Bench) -> Callable[[Attachment], None]:
    """Return what keeps what workers send besides results: profiles, and log lines of other machines."""
    keep_profile = keeper_of_profiles(bench)

    def keep(attachment: Attachment) -> None:
        if attachment.name == LOG_FILE:
            append(bench.log_target, attachment.content)
        else:
            keep_profile(attachment)

    return keep


def keeper_of_profiles(bench: Bench) -> Callable[[Attachment], None]:
    """Return what keeps the profiles of runs, in the experiment's folder."""
    if bench.config.profiling.kind == "off":
        return unattached
    from flows.profile import subject_of
    from tasks.profiles.keep import ProfileFolder

    runs = {run.spec.run_key: run for run in bench.plan.runs}
    folder = bench.folder / PROFILES
    return ProfileFolder(folder, lambda key: subject_of(bench.plan, runs[key])).add


def _await_the_rest(running: set[Any]) -> None:
    """Wait until no shard uses the executor any more, which is about to be closed.

    Each stops after the segment that it is at; one that takes longer is left behind.
    """
    for future in running:
        with contextlib.suppress(Exception):  # the experiment ends for a reason of its own
            future.result(timeout=LONGEST_SEGMENT_SECONDS)


class ProgressCount:
    """Counts committed steps, and passes on what shards report."""

    def __init__(self, bench: Bench, validation: EarlyValidation | None) -> None:
        """Start with what is committed already."""
        self.steps = 0
        self._spectator, self._validation = bench.spectator, validation
        self._telemetry = bench.telemetry
        self.warn = bench.spectator.warn

    def committed(self, run_key: str, steps: int) -> None:
        """Count steps of a run, and pass them on."""
        self.steps += steps
        self._spectator.committed(run_key, steps)

    def ended(self, run_key: str, error: str | None) -> None:
        """Pass on that a run has ended."""
        self._telemetry.ended(error)
        self._spectator.ended(run_key, error)
        if error is None and self._validation is not None:
            self._validation.ended(run_key)
