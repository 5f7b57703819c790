"""Some runs of an experiment, from claim to the last committed segment."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import replace
from typing import Protocol

from sim_core.checkpoint import CheckpointFolder, decode
from sim_core.error_table import Trouble
from sim_core.errors import (
    CheckpointMismatch,
    FileUnwritten,
    Interrupted,
    OwnershipLost,
    QuorumlabError,
)
from sim_core.jobs import Attachment, Item, Job, RunError
from sim_core.ledger.store import Claim, Ledger
from sim_core.ledger.writer import LedgerWriter
from sim_core.results import Execution
from sim_core.simulate import RunSpec, Segment
from tasks.logs.context import TOLD, about_run, at_step
from tasks.occupancy import Occupancy, Place
from tasks.telemetry import Telemetry

LOG = logging.getLogger("quorumlab.runs")
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 10.0


Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Runner(Protocol):
    """What executes jobs; see `tasks.executors`."""

    dies_with_driver: bool
    """Whether a run that kills who executes it kills this process."""

    def execute(self, jobs: Sequence[Job], placed: Callable[[Place], None]) -> Iterator[Item]:
        """Yield the segments of the jobs, and tell where they are made."""
        ...


class Listener(Protocol):
    """Who is told about progress."""

    def committed(self, run_key: str, steps: int) -> None:
        """Steps of a run have been committed."""
        ...

    def ended(self, run_key: str, error: str | None) -> None:
        """A run has ended."""
        ...

    def warn(self, text: str) -> None:
        """Something is not as it should be, and work goes on."""
        ...


def unattached(attachment: Attachment) -> None:
    """Keep nothing."""


class Workbench:
    """What shards share. Not a dataclass: Prefect would copy what it finds inside of one."""

    def __init__(
        self,
        ledger: Ledger,
        writer: LedgerWriter,
        checkpoints: CheckpointFolder,
        runner: Runner,
        listener: Listener,
        worker_died: type[QuorumlabError],
        attempts: int,
        occupancy: Occupancy,
        telemetry: Telemetry,
        attach: Callable[[Attachment], None] = unattached,
    ) -> None:
        """Keep the parts; `attempts` is how often a run is tried whose worker dies."""
        self.ledger = ledger
        self.writer = writer
        self.checkpoints = checkpoints
        self.runner = runner
        self.listener = listener
        self.worker_died = worker_died
        self.attempts = attempts
        self.occupancy = occupancy
        self.telemetry = telemetry
        self.attach = attach
        """Keeps what workers have made besides results."""
        self.stopping = threading.Event()
        """Set when the experiment ends early: shards stop after the segment that they are at."""


class Shard:
    """Runs that one worker executes one after the other."""

    def __init__(self, index: int, specs: Sequence[RunSpec]) -> None:
        """Keep the runs."""
        self.index = index
        self.specs = tuple(specs)


def simulate_shard(shard: Shard, workbench: Workbench, log: Log) -> dict[str, Execution]:
    """Execute a shard's runs and commit their segments; return what was done for each run.

    A run whose worker dies goes on from its last checkpoint; one that gets nowhere in `attempts`
    tries has failed, and the others go on.
    """
    log.info("shard %d begins: %d runs", shard.index, len(shard.specs))
    done: dict[str, Execution] = {}
    reason: str | None = None
    n_deaths = 0
    while specs := [spec for spec in shard.specs if not _is_over(spec, done)]:
        try:
            with (
                workbench.telemetry.shard(shard.index, len(specs)) as trace,
                workbench.occupancy.shard(shard.index, len(specs)) as placed,
            ):
                _attempt(specs, workbench, done, reason, log, placed, trace)
        except workbench.worker_died as error:
            n_deaths += 1
            reason = str(error)
            log.warning("shard %d, death %d: %s", shard.index, n_deaths, error, extra=TOLD)
            workbench.listener.warn(f"{error}; its runs go on from their checkpoints")
            time.sleep(min(FIRST_BACKOFF_SECONDS * 2**n_deaths, LONGEST_BACKOFF_SECONDS))
        else:
            break
    log.info("shard %d ends: %d runs", shard.index, len(shard.specs))
    return done


def _is_over(spec: RunSpec, done: dict[str, Execution]) -> bool:
    execution = done.get(spec.run_key)
    return execution is not None and execution.is_over


def _attempt(
    specs: Sequence[RunSpec],
    bench: Workbench,
    done: dict[str, Execution],
    reason: str | None,
    log: Log,
    placed: Callable[[Place], None],
    trace: object,
) -> None:
    """Execute runs until they are over, or their worker dies; `reason` is why the last one did.

    Deaths of drivers, which nobody saw, count half: the run may only have waited its turn.
    """
    claims = {claim.run_key: claim for claim in bench.ledger.claim(specs)}
    first = claims[specs[0].run_key]
    was_seen = reason is not None or bench.runner.dies_with_driver
    if first.tries > (bench.attempts if was_seen else 2 * bench.attempts):
        why = reason or "whoever executed it died"
        with about_run(specs[0], first.steps):
            _fail(first, f"{why} ({first.tries - 1} times at step {first.steps})", bench, done)
        specs = specs[1:]
    jobs: list[Job] = []
    for spec in specs:
        claim = claims[spec.run_key]
        with about_run(spec), bench.telemetry.operations.timed("checkpoint.read"):
            start, checkpoint = load_checkpoint(claim, bench.checkpoints, log)
        kind = (
            spec.profile if reason is None else "off"
        )  # whatever killed the worker, it is not that
        jobs.append((replace(spec, detail=claim.detail, profile=kind), checkpoint))
        done[spec.run_key] = Execution(resumed_from_step=start)
    by_key = {spec.run_key: spec for spec in specs}
    commits = _Commits(bench, done, by_key)
    with closing(bench.runner.execute(jobs, placed)) as items:  # type: ignore[type-var]
        try:
            for item in items:
                claim = claims[item.run_key]
                if isinstance(item, Attachment):
                    _attach(item, bench)
                elif isinstance(item, RunError):
                    commits.settle()
                    with about_run(by_key[item.run_key]):
                        _fail(claim, item.message, bench, done)
                else:
                    n_nodes = by_key[item.run_key].config.simulation.nodes
                    bench.telemetry.segment(trace, item, n_nodes)
                    commits.add(claim, item)
                if bench.stopping.is_set():
                    raise Interrupted("the experiment was stopped")
            commits.settle()
        except BaseException:
            commits.let_arrive()
            if bench.stopping.is_set():
                _release(claims.values(), bench, done)
            raise


class _Commits:
    """Segments on their way into the ledger, which are counted when they are there."""

    def __init__(
        self, bench: Workbench, done: dict[str, Execution], specs: Mapping[str, RunSpec]
    ) -> None:
        self._bench, self._done, self._specs = bench, done, specs
        self._seconds: dict[str, float] = defaultdict(float)
        self._pending: deque[tuple[Future[None], Segment]] = deque()

    def add(self, claim: Claim, segment: Segment) -> None:
        """Hand over a segment, and count those that have arrived."""
        self._pending.append((self._bench.writer.submit(claim, segment), segment))
        while self._pending and self._pending[0][0].done():
            self._count(*self._pending.popleft())

    def settle(self) -> None:
        """Wait until all have arrived."""
        self._bench.writer.hurry()
        while self._pending:
            self._count(*self._pending.popleft())

    def let_arrive(self) -> None:
        """Wait until all have arrived or failed, as those after a failed one do."""
        self._bench.writer.hurry()
        while self._pending:
            with suppress(QuorumlabError):
                self._count(*self._pending.popleft())

    def _count(self, written: Future[None], segment: Segment) -> None:
        written.result()
        key, n_steps = segment.run_key, segment.next_step - segment.first_step
        is_over = segment.summary is not None
        self._done[key] = self._done[key].advanced(n_steps, is_over=is_over, shared=segment.shared)
        self._bench.listener.committed(key, n_steps)
        self._seconds[key] += segment.resources.wall_seconds
        with about_run(self._specs[key], segment.next_step):
            LOG.debug("committed steps %d to %d", segment.first_step, segment.next_step)
            if is_over:
                LOG.info("run finished in %.3f s", self._seconds[key])
        if is_over:
            self._bench.listener.ended(key, None)


def _attach(attachment: Attachment, bench: Workbench) -> None:
    """Keep what a worker has made besides results, which has no say in how the run ends."""
    try:
        bench.attach(attachment)
    except FileUnwritten as error:
        LOG.warning("%s", error, extra=TOLD)
        bench.listener.warn(str(error))


def _fail(claim: Claim, message: str, bench: Workbench, done: dict[str, Execution]) -> None:
    LOG.error("run failed: %s", message, extra=TOLD)
    bench.ledger.fail(claim, message)
    execution = done.get(claim.run_key, Execution(resumed_from_step=claim.steps))
    done[claim.run_key] = execution.advanced(0, is_over=True)
    bench.listener.ended(claim.run_key, message)


def _release(claims: Iterable[Claim], bench: Workbench, done: dict[str, Execution]) -> None:
    """Give up the runs that are not over, so that stopping them counts as no failed try."""
    for claim in claims:
        if not done[claim.run_key].is_over:
            with suppress(OwnershipLost):
                bench.ledger.release_claim(claim)


def load_checkpoint(claim: Claim, folder: CheckpointFolder, log: Log) -> tuple[int, bytes | None]:
    """Return step and bytes of a run's newest checkpoint that is whole; step 0 and None without."""
    for stored in claim.checkpoints:
        try:
            content = folder.read(stored)
            step = decode(content, claim.run_key, source=stored.name).step
            with at_step(step):
                LOG.debug("goes on from checkpoint %s", stored.name)
            return step, content
        except CheckpointMismatch as error:
            log.warning("%s", Trouble.CHECKPOINT_DAMAGED.tell(reason=error))
    return 0, None
