"""Suite `run`: a whole run of the sizes that are asked for, from its configuration to its results.

A case is a run of so many nodes and steps in this process: ledger, validation by SQL, and what a display
asks of the ledger afterwards, twice, so that the size of the cache has something to say.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from flows.bench import SPECTATOR, Bench, Outcome, Spectator
from flows.benchmarks.cases import Case, Group, Measured
from flows.compose import compose_experiment
from flows.launch import plainly

SETTINGS = (
    "experiment.name=measured", "experiment.replicates=1", "adversary=poisoner",
    "executor=inline", "orchestrator=none", "tracking=off",
    "validation.engine=sql", "output.plots=false", "output.tables=false", "ledger.detail=alerts",
)  # fmt: skip
WINDOWS = 10
"""Windows of steps whose most active sources are asked for."""
Opened = Callable[[], AbstractContextManager[Callable[[], Measured]]]


def sized_suite(
    agents: Sequence[int] = (100,), steps: int = 50, cache_mb: Sequence[int] = ()
) -> list[Group]:
    """Return a case for each combination of a number of nodes and a size of the cache.

    Args:
        agents: Nodes.
        steps: Steps of each run.
        cache_mb: `cache.memory_mb`; none: as the configuration has it.
    """
    groups = []
    for nodes in agents:
        sizes: list[tuple[str, list[str]]] = [
            (f"_cache{mb}", [f"cache.memory_mb={mb}"]) for mb in cache_mb
        ]
        cases = tuple(
            Case(f"run_{nodes}x{steps}{suffix}", "ms/run", running(nodes, steps, *words))
            for suffix, words in sizes or [("", [])]
        )
        groups.append(Group(cases, tuple((case.name, cases[0].name) for case in cases[1:])))
    return groups


def running(nodes: int, steps: int, *settings: str) -> Opened:
    """Return what carries out a run in a new workspace every time."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Measured]]:
        sizes = (f"simulation.nodes={nodes}", f"simulation.steps={steps}")
        with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
            numbers = count()

            def call() -> Measured:
                where = f"workspace={Path(folder) / str(next(numbers))}"
                return _carry_out([*SETTINGS, *sizes, *settings, where], steps)

            yield call

    return opened


class Reader(Spectator):
    """Asks of the ledger what a display asks, twice, when the run is over."""

    def __init__(self) -> None:
        """Have nothing read yet."""
        self.seconds: list[float] = []
        """Of the first and of the second time."""
        self.hit_share = 0.0

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """Read, while the ledger is open."""
        del outcome
        (run,) = bench.plan.runs
        width = max(1, bench.config.simulation.steps // WINDOWS)
        for _ in range(2):
            began = time.perf_counter()
            bench.queries.runs_of(bench.plan.name)
            for first in range(0, bench.config.simulation.steps, width):
                bench.queries.top_sources(
                    run.spec.run_key, first_step=first, last_step=first + width - 1
                )
            self.seconds.append(time.perf_counter() - began)
        counts = bench.cache.statistics
        self.hit_share = counts.hits / max(1, counts.hits + counts.misses)


def _carry_out(words: Sequence[str], steps: int) -> Measured:
    reader = Reader()
    token = SPECTATOR.set(reader)
    began = time.perf_counter()
    try:
        config, points = compose_experiment(words)
        plainly(config, points, execute=True)
    finally:
        SPECTATOR.reset(token)
    seconds = time.perf_counter() - began
    first, again = reader.seconds
    figures = {
        "steps_per_minute": 60 * steps / seconds,
        "queries_ms": first * 1e3,
        "queries_again_ms": again * 1e3,
        "cache_hit_share": reader.hit_share,
    }
    return Measured(seconds, figures=figures)
