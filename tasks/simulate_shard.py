"""Some runs of an experiment, from claim to the last committed segment."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from sim_core.checkpoint import CheckpointFolder, decode
from sim_core.errors import CheckpointMismatch, Interrupted, QuorumlabError
from sim_core.ledger.store import Claim, Ledger
from sim_core.results import Execution
from sim_core.simulate import Job, RunError, RunSpec, Segment

FIRST_BACKOFF_SECONDS = 0.1


class Runner(Protocol):
    """What executes jobs; see `tasks.executors`."""

    def execute(self, jobs: Sequence[Job]) -> Iterator[Segment | RunError]:
        """Yield the segments of the jobs."""
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


class Workbench:
    """What shards share. Not a dataclass: Prefect would copy what it finds inside of one."""

    def __init__(
        self,
        ledger: Ledger,
        checkpoints: CheckpointFolder,
        runner: Runner,
        listener: Listener,
        worker_died: type[QuorumlabError],
        attempts: int,
    ) -> None:
        """Keep the parts; `attempts` is how often a run is tried whose worker dies."""
        self.ledger = ledger
        self.checkpoints = checkpoints
        self.runner = runner
        self.listener = listener
        self.worker_died = worker_died
        self.attempts = attempts
        self.stopping = threading.Event()
        """Set when the experiment ends early: shards stop after the segment that they are at."""


class Shard:
    """Runs that one worker executes one after the other."""

    def __init__(self, index: int, specs: Sequence[RunSpec]) -> None:
        """Keep the runs."""
        self.index = index
        self.specs = tuple(specs)


@task(
    name="simulate", task_run_name="simulate-{index}", cache_policy=NO_CACHE, persist_result=False
)
def simulate_shard(index: int, shard: Shard, workbench: Workbench) -> dict[str, Execution]:
    """Execute a shard's runs and commit their segments; return what was done for each run.

    A run whose worker dies goes on from its last checkpoint, at most `attempts` times; then it
    has failed, and the others go on.
    """
    logger = get_run_logger()
    done: dict[str, Execution] = {}
    deaths: Counter[str] = Counter()
    specs = list(shard.specs)
    while specs:
        try:
            _attempt(specs, workbench, done)
        except workbench.worker_died as error:
            specs = [spec for spec in specs if not _is_over(spec, done)]
            if not specs:
                break
            victim = specs[0].run_key
            deaths[victim] += 1
            logger.warning("run %s, death %d: %s", victim[:12], deaths[victim], error)
            workbench.listener.warn(f"run {victim[:12]}: {error}; it goes on from its checkpoint")
            if deaths[victim] >= workbench.attempts:
                _give_up(specs.pop(0), workbench, f"{error} ({deaths[victim]} times in this run)")
            time.sleep(FIRST_BACKOFF_SECONDS * 2 ** (deaths[victim] - 1))
        else:
            break
    logger.info("shard %d: %d runs", index, len(shard.specs))
    return done


def _is_over(spec: RunSpec, done: dict[str, Execution]) -> bool:
    execution = done.get(spec.run_key)
    return execution is not None and execution.is_over


def _attempt(specs: Sequence[RunSpec], bench: Workbench, done: dict[str, Execution]) -> None:
    claims = {claim.run_key: claim for claim in bench.ledger.claim(specs)}
    jobs: list[Job] = []
    for spec in specs:
        claim = claims[spec.run_key]
        start, checkpoint = load_checkpoint(claim, bench.checkpoints)
        jobs.append((replace(spec, detail=claim.detail), checkpoint))
        done[spec.run_key] = Execution(resumed_from_step=start)
    with closing(bench.runner.execute(jobs)) as items:  # type: ignore[type-var]
        for item in items:
            claim = claims[item.run_key]
            if isinstance(item, RunError):
                bench.ledger.fail(claim, item.message)
                done[item.run_key] = done[item.run_key].advanced(0, is_over=True)
                bench.listener.ended(item.run_key, item.message)
                continue
            bench.ledger.commit(claim, item)
            if bench.stopping.is_set():
                raise Interrupted("the experiment was stopped")
            n_steps = item.next_step - item.first_step
            is_over = item.summary is not None
            done[item.run_key] = done[item.run_key].advanced(n_steps, is_over=is_over)
            bench.listener.committed(item.run_key, n_steps)
            if is_over:
                bench.listener.ended(item.run_key, None)


def load_checkpoint(claim: Claim, folder: CheckpointFolder) -> tuple[int, bytes | None]:
    """Return step and bytes of a run's newest checkpoint that is whole; step 0 and None without."""
    for stored in claim.checkpoints:
        try:
            content = folder.read(stored)
            return decode(content, claim.run_key, source=stored.name).step, content
        except CheckpointMismatch as error:
            get_run_logger().warning("%s; the one before it is used", error)
    return 0, None


def _give_up(spec: RunSpec, bench: Workbench, message: str) -> None:
    (claim,) = bench.ledger.claim([spec])
    bench.ledger.fail(claim, message)
    bench.listener.ended(spec.run_key, message)
