"""Suite `profiles`: each profile's experiment as a whole program, held against what was promised of it.

While it runs, its ledger is asked again and again, as a display would; its processes are looked at five
times a second. A sample is steps per minute of the whole program, start and end included.

The table promises processor shares at a pace of some hundred steps per minute, while this program takes
all of a processor and is done sooner. Compared is therefore the share that the promised pace would take:
processor seconds per step at that pace. The share while it ran is a figure of its own, `cpu_percent`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from flows.benchmarks.cases import Case, Group, Measured
from flows.suites.whole_programs import MB, Ended, new_folder, quorumlab, run_to_end
from sim_core.errors import QuorumlabError, UserError

STEPS, REPLICATES = 500, 4
NAME = "profiled"
REPEAT = 3
BETWEEN_QUERIES_SECONDS = 0.05
LARGEST_STORE_SHARE = 0.25
"""Of the machine's memory, for Ray's object store; profiles ask for as much as their machines have."""
Opened = Callable[[], AbstractContextManager[Callable[[], Measured]]]


@dataclass(frozen=True)
class Promise:
    """What the original said of a profile: the better end of rates, the worse end of costs."""

    agents: int
    steps_per_minute: float
    """The upper end: that many at least."""
    pace: float
    """Steps per minute at which it takes the share of the processors: the lower end."""
    memory_mb: float
    cpu_percent: float
    response_ms: float
    operations_per_second: float
    error_percent: float = 1.0


PROMISES = {
    "development": Promise(50, 400, 200, 400, 40, 100, 200),
    "production": Promise(100, 800, 400, 800, 70, 200, 400),
    "high_performance": Promise(200, 1_600, 800, 2_000, 90, 500, 800),
    "edge": Promise(25, 200, 100, 200, 30, 300, 100),
}
"""Upper ends of the ranges in the original's table, of costs as of rates."""


def profiles_suite() -> list[Group]:
    """Return a case for each profile."""
    return [
        Group((Case(name, "steps/min", running(name, promise), REPEAT, scale=1.0),))
        for name, promise in PROMISES.items()
    ]


def running(
    profile: str, promise: Promise, *, steps: int = STEPS, replicates: int = REPLICATES
) -> Opened:
    """Return what runs a profile's experiment in a new workspace and asks its ledger meanwhile."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Measured]]:
        def call() -> Measured:
            with new_folder() as folder:
                words = words_of(profile, promise.agents, steps, replicates)
                queries = Queries(folder / "ledger.db")
                command = quorumlab("run", *words, f"workspace={folder}")
                ended = run_to_end(command, folder, meanwhile=queries.ask)
                failed = 1 - finished_share(folder / "ledger.db", replicates)
                return sample(ended, queries, promise, steps * replicates, 100 * failed)

        yield call

    return opened


def words_of(profile: str, agents: int, steps: int, replicates: int) -> list[str]:
    """Return the overrides of a profile's experiment: its own settings, as far as this machine has room."""
    words = [
        f"profile={profile}",
        f"experiment.name={NAME}",
        f"simulation.nodes={agents}",
        f"simulation.steps={steps}",
        f"experiment.replicates={replicates}",
        "orchestrator=none",
        "tracking=off",
        "adversary=poisoner",
    ]
    room = int(psutil.virtual_memory().total / MB * LARGEST_STORE_SHARE)
    if profile == "production" and room < 8_192:
        words.append(f"executor.object_store_mb={max(128, room)}")
    return words


def sample(
    ended: Ended, queries: Queries, promise: Promise, n_steps: int, error_percent: float
) -> Measured:
    """Return what a program's end says, with the factors by which the promise was kept."""
    cpus = os.cpu_count() or 1
    pace_seconds = 60 / promise.pace
    found = {
        "steps_per_minute": 60 * n_steps / ended.seconds,
        "memory_mb": ended.peak_mb,
        "cpu_percent_at_promised_pace": 100 * ended.cpu_seconds / n_steps / pace_seconds / cpus,
        "query_p95_ms": queries.p95_ms(),
        "node_steps_per_second": n_steps * promise.agents / ended.seconds,
        "error_percent": error_percent,
    }
    factors = {f"factor_{name}": value for name, value in factors_of(found, promise).items()}
    running_percent = 100 * ended.cpu_seconds / ended.seconds / cpus
    return Measured(
        found["steps_per_minute"],
        cpu_percent=running_percent,
        peak_rss_mb=ended.peak_mb,
        figures={**found, "cpu_percent": running_percent, **factors},
    )


def factors_of(found: Mapping[str, float], promise: Promise) -> dict[str, float]:
    """Return by which factor each figure is better than promised; below 1: not met.

    Errors are met or not: 1 where they are below what was promised, else 0.
    """
    at_least = {
        "steps_per_minute": promise.steps_per_minute,
        "node_steps_per_second": promise.operations_per_second,
    }
    at_most = {
        "memory_mb": promise.memory_mb,
        "cpu_percent_at_promised_pace": promise.cpu_percent,
        "query_p95_ms": promise.response_ms,
    }
    factors = {name: found[name] / asked for name, asked in at_least.items()}
    factors |= {name: asked / found[name] for name, asked in at_most.items()}
    return {**factors, "error_percent": float(found["error_percent"] < promise.error_percent)}


class Queries:
    """Asks a ledger what displays ask, for as long as an experiment runs."""

    def __init__(self, path: Path) -> None:
        """Ask the ledger in this file, once it is there."""
        self._path = path
        self._seconds: list[float] = []

    def ask(self, ended: threading.Event) -> None:
        """Ask until the event is set."""
        from flows.inspect import opened

        while not self._has_experiment():
            if ended.wait(BETWEEN_QUERIES_SECONDS):
                return
        with opened(self._path.parent) as (_, ledger):
            while not ended.is_set():
                began = time.perf_counter()
                runs = ledger.runs_of(NAME)
                ledger.row_counts([run["id"] for run in runs])
                self._seconds.append(time.perf_counter() - began)
                ended.wait(BETWEEN_QUERIES_SECONDS)

    def _has_experiment(self) -> bool:
        if not self._path.exists():
            return False
        with closing(sqlite3.connect(self._path, timeout=10)) as connection:
            try:
                return bool(connection.execute("SELECT count(*) FROM run").fetchone()[0])
            except sqlite3.OperationalError:  # it has no tables yet
                return False

    def p95_ms(self) -> float:
        """Return the 95th percentile of all answers, in milliseconds.

        Raises:
            QuorumlabError: the experiment was over before a query was answered.
        """
        if not self._seconds:
            raise QuorumlabError("no query was answered while the experiment ran: it is too short")
        return float(np.percentile(self._seconds, 95) * 1e3)


def finished_share(path: Path, wanted: int) -> float:
    """Return which share of the runs a ledger has finished.

    Raises:
        UserError: there is no ledger.
    """
    if not path.exists():
        raise UserError(f"{path}: the experiment has left no ledger")
    with closing(sqlite3.connect(path)) as connection:
        (n,) = connection.execute("SELECT count(*) FROM run WHERE state = 'finished'").fetchone()
    return float(n) / wanted
