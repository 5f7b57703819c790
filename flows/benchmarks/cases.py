"""What is measured, and how samples are taken: cases that belong together in turn, A B C A B C ..."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.benchmarks.machine import forget_peak, pace_seconds, peak_mb
from sim_core.errors import QuorumlabError


@dataclass(frozen=True)
class Measured:
    """What a sample says where it is more than a number: of other processes than this one."""

    value: float
    """As a plain sample: seconds, or what `Case.scale` turns into the unit."""
    cpu_percent: float | None = None
    """Of one processor."""
    peak_rss_mb: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """Other figures by name, each with its unit in the name."""


Call = Callable[[], "float | Measured"]


@dataclass(frozen=True)
class Case:
    """One thing to measure: `open` gives what a sample calls, and how many units a call is worth."""

    name: str
    unit: str
    """What a sample is given in, such as `ms/step`; of `.../s` and `.../min` more is better."""
    open: Callable[[], AbstractContextManager[Call]]
    """Gives a function that does the work once and returns the seconds that one unit took."""
    repeat: int | None = None
    """Samples at most, where one takes long."""
    scale: float = 1e3
    """Factor from seconds to the unit."""
    yardstick: bool = False
    """Whether it is no part of this program, but what a part of it is held against."""


@dataclass(frozen=True)
class Group:
    """Cases that are measured in turn, A B C A B C ..., so that ratios hold while speed drifts."""

    cases: tuple[Case, ...]
    ratios: tuple[tuple[str, str], ...] = ()
    """(name, to what): pairs whose ratio is reported."""


@dataclass
class Result:
    """The samples of one case."""

    case: Case
    by_turn: dict[int, float] = field(default_factory=dict)
    pace_ms: list[float] = field(default_factory=list)
    """Of the machine around each sample: `machine.pace_seconds` before and after it."""
    errors: list[QuorumlabError] = field(default_factory=list)
    cpu_percents: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    figures: dict[str, list[float]] = field(default_factory=dict)
    ratio_samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def samples(self) -> list[float]:
        """The samples in the order in which they were taken."""
        return list(self.by_turn.values())

    @property
    def ratios(self) -> dict[str, float]:
        """Medians of the ratios of pairs that were measured in the same turn."""
        return medians(self.ratio_samples)

    def row(self) -> dict[str, Any]:
        """Return the result as the benchmark file has it."""
        row = {
            "name": self.case.name,
            "unit": self.case.unit,
            "yardstick": self.case.yardstick,
            "failures": len(self.errors),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "cpu_percents": self.cpu_percents,
            "samples": self.samples,
            "pace_ms": self.pace_ms,
            "figure_samples": self.figures,
            "ratio_samples": self.ratio_samples,
        }
        return summarised(row)


def summarised(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with everything that follows from its samples; None where nothing was measured."""
    values = np.array(row["samples"], dtype=float)
    n, cpu = len(values), row["cpu_percents"]

    def of(function: Callable[..., Any], *arguments: Any) -> float | None:
        return float(function(values, *arguments)) if n else None

    attempts = n + row["failures"]
    return {
        **row,
        "n": n,
        "mean": of(np.mean),
        "median": of(np.median),
        "sd": float(values.std(ddof=1)) if n > 1 else None,
        "min": of(np.min),
        "max": of(np.max),
        "p95": of(np.percentile, 95),
        "p99": of(np.percentile, 99),
        "success_rate": n / attempts if attempts else None,
        "cpu_mean": float(np.mean(cpu)) if cpu else None,
        "cpu_peak": float(np.max(cpu)) if cpu else None,
        "ratios": medians(row["ratio_samples"]),
        "figures": medians(row["figure_samples"]),
    }


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each list that has one.

    >>> medians({"a": [1.0, 2.0, 9.0], "b": []})
    {'a': 2.0}
    """
    return {name: float(np.median(values)) for name, values in samples.items() if values}


def measure(
    group: Group,
    *,
    repeat: int,
    warmup: int,
    tick: Callable[[], None],
    ready: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Return the samples of all cases of a group, taken in turn.

    Args:
        group: What is measured.
        repeat: Samples of each case; slow ones take fewer.
        warmup: Calls of each case before its first sample.
        tick: Is told of each sample.
        ready: Is called when everything is warm, before the first sample.

    Raises:
        QuorumlabError: a case has failed every time.
    """
    results = [Result(case) for case in group.cases]
    with _opened(group.cases) as calls:
        for call in calls:
            for _ in range(warmup):
                call()
        ready()
        for turn in range(repeat):
            for result, call in zip(results, calls, strict=True):
                if turn < samples_of(result.case, repeat):
                    _sample(result, call, turn)
                    tick()
    for result in results:
        if result.errors and not result.by_turn:
            raise result.errors[-1]
    _add_ratios(results, group.ratios)
    return results


def samples_of(case: Case, repeat: int) -> int:
    """Return how many samples are taken of a case: slow ones take fewer than are asked for."""
    return min(repeat, case.repeat or repeat)


@contextmanager
def _opened(cases: Sequence[Case]) -> Iterator[list[Call]]:
    with ExitStack() as stack:
        yield [stack.enter_context(case.open()) for case in cases]


def _sample(result: Result, call: Call, turn: int) -> None:
    pace = pace_seconds()
    forget_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        said = call()
    except QuorumlabError as error:
        result.errors.append(error)
        return
    spent, passed = time.process_time() - cpu, time.perf_counter() - wall
    found = said if isinstance(said, Measured) else Measured(said)
    share = 100 * spent / passed if passed else 0.0
    result.by_turn[turn] = found.value * result.case.scale
    result.cpu_percents.append(share if found.cpu_percent is None else found.cpu_percent)
    peak = peak_mb() if found.peak_rss_mb is None else found.peak_rss_mb
    result.peak_rss_mb = max(result.peak_rss_mb, peak)
    result.pace_ms.append(1e3 * (pace + pace_seconds()) / 2)
    for name, value in found.figures.items():
        result.figures.setdefault(name, []).append(value)


def _add_ratios(results: Sequence[Result], ratios: Sequence[tuple[str, str]]) -> None:
    by_name = {result.case.name: result for result in results}
    for name, other in ratios:
        if name in by_name and other in by_name:
            one, two = by_name[name].by_turn, by_name[other].by_turn
            found = [one[turn] / two[turn] for turn in one if two.get(turn)]
            if found:
                by_name[name].ratio_samples[other] = found
