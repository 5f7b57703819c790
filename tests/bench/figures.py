"""Benchmark files with samples that are drawn, not measured: tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from flows.benchmarks.cases import Case, Group, summarised
from flows.benchmarks.files import Report
from flows.benchmarks.machine import describe_machine

CASES = ("step", "insert", "connect", "verify", "restore")


def times(rng: np.random.Generator, n: int, *, scale: float = 1.0, noise: float = 0.05) -> Any:
    """Return times as machines give them: skewed, and some twice as long as others."""
    slow = np.where(rng.random(n) < 0.05, 2.0, 1.0)
    return scale * slow * np.exp(noise * rng.standard_normal(n))


def document(samples: dict[str, Sequence[float]], **changes: Any) -> dict[str, Any]:
    """Return a benchmark file with these samples of cases in ms."""
    rows = [
        summarised(
            {
                "name": name,
                "unit": "ms",
                "yardstick": False,
                "failures": 0,
                "peak_rss_mb": 100.0,
                "cpu_percents": [],
                "samples": [float(x) for x in values],
                "pace_ms": [],
                "figure_samples": {},
                "ratio_samples": {},
            }
        )
        for name, values in samples.items()
    ]
    return {
        "suite": "forks",
        "commit": "0" * 40,
        "at": "2026-01-01T03:00:00+00:00",
        "machine": describe_machine(),
        "settings": {"repeat": 15, "warmup": 1, "workers": 1},
        "results": rows,
    } | changes


def report(samples: dict[str, Sequence[float]], **changes: Any) -> Report:
    """Return what reading such a file gives."""
    return Report.model_validate(document(samples, **changes))


def drawn(seed: int, *, scale: float = 1.0, n: int = 15, cases: Sequence[str] = CASES) -> Report:
    """Return a report of cases that all take the same time."""
    rng = np.random.default_rng(seed)
    return report({name: times(rng, n, scale=scale) for name in cases})


class Drawn:
    """A suite whose samples are drawn: it takes no time, and as long as it is told."""

    def __init__(self, seed: int = 1) -> None:
        """Be as fast as ever."""
        self.rng = np.random.default_rng(seed)
        self.scale = {"step": 1.0, "insert": 1.0}
        self.machine = 1.0
        """How slow the machine is."""
        self.calls = 0

    def pace(self) -> float:
        """Return what a fixed piece of work takes."""
        return 0.005 * self.machine

    def groups(self) -> list[Group]:
        """Return the suite."""
        return [Group(tuple(Case(name, "ms", self._opened(name)) for name in self.scale))]

    def _opened(self, name: str) -> Any:
        @contextmanager
        def opened() -> Iterator[Callable[[], float]]:
            yield lambda: self._call(name)

        return opened

    def _call(self, name: str) -> float:
        self.calls += 1
        return float(times(self.rng, 1, scale=self.machine * self.scale[name] / 1e3)[0])
