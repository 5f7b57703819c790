"""Who executed which shard, and when: how busy workers were, what they waited for, and what helps.

Times are seconds since the experiment began to simulate.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sim_core.operations import Operations

MATTERS = 0.1
"""Share of the workers' time from which waiting for something is worth a word."""
MATTERS_SECONDS = 10.0
"""What it has to have cost besides: small experiments are all start."""
LITTLE = "there is little to gain"


@dataclass(frozen=True)
class Place:
    """A worker process."""

    node: str
    """The machine, and the node of a Ray cluster where several may be on one."""
    pid: int


@dataclass(frozen=True)
class Stay:
    """A shard at a worker, from its first step until its last, or until the worker died."""

    shard: int
    runs: int
    place: Place
    began: float
    ended: float


@dataclass(frozen=True)
class Utilisation:
    """How busy workers were. Shares are of the time of as many workers as were busy at once."""

    workers: int
    """Most that were busy at the same moment."""
    nodes: dict[str, float]
    """Seconds that workers were busy, by node."""
    seconds: float
    busy_share: float
    start_share: float
    """Waiting for the first shard to begin."""
    tail_share: float
    """Waiting for the last shards to end."""
    between_share: float
    """Waiting for something to be handed out."""
    advice: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        where = f" on {len(self.nodes)} nodes" if len(self.nodes) > 1 else ""
        return (
            f"{workers}{where}, busy {self.busy_share:.0%} of {self.seconds:.1f} s; {self.advice}"
        )


class Occupancy:
    """Notes which shard is where, from any thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        operations: Operations | None = None,
    ) -> None:
        """Begin now; how long shards wait for a worker is timed as `executor.wait`."""
        self._clock, self._began = clock, clock()
        self._operations = operations or Operations()
        self._stays: list[Stay] = []
        self._lock = threading.Lock()

    @contextmanager
    def shard(self, index: int, runs: int) -> Iterator[Callable[[Place], None]]:
        """Note a shard while the block lasts; call what is given as soon as it is at a worker."""
        begun: list[tuple[Place, float]] = []
        entered = self._clock()

        def placed(place: Place) -> None:
            now = self._clock()
            begun.append((place, now - self._began))
            self._operations.record("executor.wait", now - entered)

        try:
            yield placed
        finally:
            ended = self._clock() - self._began
            with self._lock:
                self._stays += [Stay(index, runs, place, at, ended) for place, at in begun]

    def stays(self) -> list[Stay]:
        """Return what is over, in the order of its beginning.

        A worker that has another shard is done with the one before, whose last rows may still be on
        their way into the ledger.
        """
        with self._lock:
            found = sorted(self._stays, key=lambda stay: (stay.began, stay.shard))
        next_at: dict[Place, float] = {}
        clipped = []
        for stay in reversed(found):
            ended = min(stay.ended, next_at.get(stay.place, stay.ended))
            clipped.append(replace(stay, ended=ended))
            next_at[stay.place] = stay.began
        return clipped[::-1]

    def utilisation(self) -> Utilisation | None:
        """Return how busy workers were until the last shard ended; None without any."""
        stays = self.stays()
        return summarised(stays) if stays else None


def unnoted(place: Place) -> None:
    """Take no note of where a shard is."""


def here() -> Place:
    """Return this process as a place."""
    return Place(platform.node() or "localhost", os.getpid())


def summarised(stays: Sequence[Stay]) -> Utilisation:
    """Return how busy workers were, and what would help.

    >>> one, two = Place("a", 1), Place("a", 2)
    >>> str(summarised([Stay(0, 5, one, 0.0, 100.0), Stay(1, 5, two, 0.0, 40.0)]))
    '2 workers, busy 70% of 100.0 s; the last shards kept few workers busy: lower executor.shard_runs'
    """
    levels = _levels(stays)
    workers = max(n for _, _, n in levels)
    first, last = min(stay.began for stay in stays), max(stay.ended for stay in stays)
    full = max(end for _, end, n in levels if n == workers)
    total = workers * last or 1.0
    idle = {
        "start": workers * first,
        "tail": sum(
            (end - max(begin, full)) * (workers - n) for begin, end, n in levels if end > full
        ),
    }
    busy = sum(stay.ended - stay.began for stay in stays)
    shares = {name: seconds / total for name, seconds in idle.items()}
    shares["between"] = max(0.0, 1.0 - busy / total - sum(shares.values()))
    nodes: dict[str, float] = defaultdict(float)
    for stay in stays:
        nodes[stay.place.node] += stay.ended - stay.began
    return Utilisation(
        workers,
        {name: round(seconds, 3) for name, seconds in sorted(nodes.items())},
        round(last, 3),
        round(busy / total, 4),
        round(shares["start"], 4),
        round(shares["tail"], 4),
        round(shares["between"], 4),
        _advice(shares, last),
    )


def _levels(stays: Sequence[Stay]) -> list[tuple[float, float, int]]:
    """Return spans of time, and how many workers were busy in each."""
    changes: dict[float, int] = defaultdict(int)
    for stay in stays:
        changes[stay.began] += 1
        changes[stay.ended] -= 1
    found, n = [], 0
    moments = sorted(changes)
    for begin, end in pairwise(moments):
        n += changes[begin]
        found.append((begin, end, n))
    return found or [(moments[0], moments[0], 1)]


def _advice(shares: dict[str, float], seconds: float) -> str:
    """Return what would let workers wait less, in words: why they did, a colon, and what to do."""
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] < MATTERS or shares[worst] * seconds < MATTERS_SECONDS:
        return LITTLE
    if worst == "start":
        return "their start took most of the rest: more runs at once, or executor=processes"
    if worst == "tail":
        return "the last shards kept few workers busy: lower executor.shard_runs"
    return "they waited for work: raise executor.max_in_flight or checkpoint.every"


def trace(stays: Sequence[Stay]) -> str:
    """Return stays as a trace that Perfetto and Chrome show (microseconds; nodes, and workers in them)."""
    nodes = {name: n for n, name in enumerate(dict.fromkeys(stay.place.node for stay in stays), 1)}
    names = [
        {"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}}
        for name, number in nodes.items()
    ]
    spans: list[dict[str, Any]] = [
        {
            "ph": "X",
            "name": f"shard {stay.shard}",
            "cat": "simulate",
            "pid": nodes[stay.place.node],
            "tid": stay.place.pid,
            "ts": round(stay.began * 1e6),
            "dur": round((stay.ended - stay.began) * 1e6),
            "args": {"runs": stay.runs},
        }
        for stay in stays
    ]
    return json.dumps({"traceEvents": names + spans, "displayTimeUnit": "ms"}, indent=1) + "\n"
