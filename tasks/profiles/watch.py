"""When each step of a run ended: a clock that remembers what it was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from sim_core.jobs import RunError
from sim_core.simulate import Segment
from tasks.profiles.figures import SHOWN, Operation, Operations


class Mark(NamedTuple):
    """A checkpoint: how many steps were over, and when, in seconds since 1970."""

    step: int
    at: float


class StepWatch:
    """The clock of one run, see `simulate_alone`; time between two segments is not counted."""

    def __init__(self, slow_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Call an operation slow that takes longer than `slow_seconds`."""
        self.marks: list[Mark] = []
        self._slow_seconds, self._clock = slow_seconds, clock
        self._asked: list[float] = []
        self._operations: list[Operation] = []

    def __call__(self) -> float:
        """Return the time, and remember it."""
        self._asked.append(self._clock())
        return self._asked[-1]

    def pulled(self, items: Iterator[Segment | RunError]) -> Iterator[Segment | RunError]:
        """Yield what comes, and take down how long it took."""
        while True:
            began = self._clock()
            self._asked.clear()
            item = next(items, None)
            if item is None:
                return
            if isinstance(item, Segment):
                self._note(item, began, self._clock())
            yield item

    def _note(self, segment: Segment, began: float, ended: float) -> None:
        """Take down the steps of a segment: the last times are their ends, and the segment's."""
        n = segment.next_step - segment.first_step
        times = [began, *self._asked[-(n + 1) : -1]]
        for index in range(n):
            step = segment.first_step + index
            name = f"set-up and step {step}" if not self._operations else f"step {step}"
            self._operations.append(Operation(name, times[index + 1] - times[index]))
        self._operations.append(
            Operation(f"checkpoint at step {segment.next_step}", ended - self._asked[-1])
        )
        self.marks.append(Mark(segment.next_step, time.time()))

    def operations(self) -> Operations:
        """Return how long steps and checkpoints took."""
        seconds = np.array([operation.seconds for operation in self._operations] or [0.0])
        slowest = sorted(self._operations, key=lambda operation: -operation.seconds)
        return Operations(
            n=len(self._operations),
            mean=float(seconds.mean()),
            p50=float(np.percentile(seconds, 50)),
            p95=float(np.percentile(seconds, 95)),
            longest=float(seconds.max()),
            slow_share=float((seconds > self._slow_seconds).mean()),
            slowest=tuple(slowest[:SHOWN]),
        )
