"""Doing less at once while the machine is short of memory, processors or disk, and more after that.

Only what is handed out changes: how many shards at once, of how many runs. Results never depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from sim_core.config import AdaptationConfig

CALM_LOOKS = 3
"""Looks in a row without any shortage after which more is done again."""


@dataclass(frozen=True)
class Figures:
    """How much of a machine is in use."""

    memory_percent: float
    cpu_percent: float
    transaction_seconds: float
    """Length of the last transaction of the ledger."""


@dataclass(frozen=True)
class Adjustment:
    """What was changed, and why."""

    seconds: float
    """Since the beginning of the experiment's simulation."""
    reason: str
    in_flight: int
    shard_runs: int

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Adjustment(12.0, "memory 91 %", in_flight=1, shard_runs=5))
        'memory 91 %: 1 shards in flight, of at most 5 runs'
        """
        return (
            f"{self.reason}: {self.in_flight} shards in flight, of at most {self.shard_runs} runs"
        )


def read_machine() -> tuple[float, float]:
    """Return memory and processor time in use, in percent, the latter since the last call."""
    return psutil.virtual_memory().percent, psutil.cpu_percent(interval=None)


class Adaptation:
    """How many shards may be in flight, and how large; a look at the machine may change both."""

    def __init__(
        self,
        config: AdaptationConfig,
        *,
        in_flight: int,
        shard_runs: int,
        empty_caches: Callable[[], None],
        machine: Callable[[], tuple[float, float]] = read_machine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with as much as there may be."""
        self._config = config
        self._most_in_flight, self._most_runs = in_flight, shard_runs
        self.in_flight, self.shard_runs = in_flight, shard_runs
        self._empty_caches, self._machine, self._clock = empty_caches, machine, clock
        self._began = self._last = clock()
        self._calm = 0
        self._adjustments: list[Adjustment] = []
        if config.enabled:
            machine()  # from now on

    @property
    def report(self) -> list[dict[str, Any]]:
        """What was changed, oldest first."""
        return [asdict(adjustment) for adjustment in self._adjustments]

    def allow(self, in_flight: int) -> None:
        """Take note of how many shards there is room for by now, as a cluster grows and shrinks."""
        if in_flight != self._most_in_flight:
            had_all = self.in_flight == self._most_in_flight
            self._most_in_flight = in_flight
            self.in_flight = in_flight if had_all else min(self.in_flight, in_flight)

    def look(self, transaction_seconds: float) -> Adjustment | None:
        """Look at the machine if it is time; return what has been changed."""
        if not self._config.enabled or self._clock() - self._last < self._config.every_seconds:
            return None
        self._last = self._clock()
        figures = Figures(*self._machine(), transaction_seconds)
        reason = self._shortage(figures)
        self._calm = 0 if reason else self._calm + 1
        if reason is not None:
            return self._adjust(reason, self.in_flight - 1, max(1, self.shard_runs // 2))
        if self._calm >= CALM_LOOKS:
            return self._adjust("enough again", self.in_flight + 1, 2 * self.shard_runs)
        return None

    def _shortage(self, figures: Figures) -> str | None:
        """Return what the machine is short of, in words."""
        limits = self._config
        if figures.memory_percent > limits.memory_percent:
            self._empty_caches()
            return f"memory {figures.memory_percent:.0f} %"
        if figures.cpu_percent > limits.cpu_percent:
            return f"processors {figures.cpu_percent:.0f} %"
        if figures.transaction_seconds > limits.transaction_seconds:
            return f"transaction of {figures.transaction_seconds:.1f} s"
        return None

    def _adjust(self, reason: str, in_flight: int, shard_runs: int) -> Adjustment | None:
        before = self.in_flight, self.shard_runs
        self.in_flight = min(max(1, in_flight), self._most_in_flight)
        self.shard_runs = min(shard_runs, self._most_runs)
        if before == (self.in_flight, self.shard_runs):
            return None
        seconds = round(self._clock() - self._began, 1)
        made = Adjustment(seconds, reason, self.in_flight, self.shard_runs)
        self._adjustments.append(made)
        return made
