"""Whether what runs show agrees with an exact value: intervals, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sim_core.metrics import Metrics

FALSE_ALARMS = 0.001
"""Probability that a correct model differs in at least one of a law's rows, at most."""


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    metrics: Metrics
    """Its summary."""
    steps: Mapping[str, NDArray[Any]]
    """Columns of its rows of metrics, in order of step."""


@dataclass(frozen=True)
class Trials:
    """Independent trials of one run, and how many of them succeeded."""

    successes: int
    trials: int


Measurement = Trials | float | None
"""What one run tells about a quantity: trials, a value that is one draw, or nothing."""


@dataclass(frozen=True)
class Finding:
    """A measured value beside the exact one."""

    exact: float
    measured: float
    low: float
    high: float
    n: int
    """Trials, or runs."""
    unit: str
    """What is counted by n."""

    @property
    def agrees(self) -> bool:
        """Whether the exact value lies in the interval."""
        return self.low <= self.exact <= self.high

    @property
    def half_width(self) -> float:
        """Half of the width of the interval."""
        return (self.high - self.low) / 2


def judge(
    exact: float,
    found: Sequence[Measurement],
    *,
    n_rows: int = 1,
    is_square: bool = False,
) -> Finding:
    """Return the finding of all runs of a point.

    The interval has the confidence 1 - FALSE_ALARMS / n_rows, so that all of `n_rows` hold at once
    (Bonferroni): of Clopper and Pearson (1934) for trials, of Student's t for values, and for means of
    squares, which are skewed, of Student's t on the logarithm of the mean (delta method).

    >>> judge(0.5, [Trials(48, 100), Trials(55, 100)]).agrees
    True
    >>> judge(0.5, [Trials(10, 100), Trials(12, 100)]).agrees
    False
    """
    confidence = 1 - FALSE_ALARMS / n_rows
    trials = [each for each in found if isinstance(each, Trials)]
    if trials:
        successes, n = sum(t.successes for t in trials), sum(t.trials for t in trials)
        if n:
            ci = stats.binomtest(successes, n).proportion_ci(confidence, "exact")
            return Finding(exact, successes / n, float(ci.low), float(ci.high), n, "trials")
    values = np.array([v for v in found if isinstance(v, float) and math.isfinite(v)])
    mean = float(values.mean()) if values.size else math.nan
    if values.size < 2:
        return Finding(exact, mean, math.nan, math.nan, values.size, "runs")
    half = float(
        stats.t.ppf((1 + confidence) / 2, values.size - 1)
        * values.std(ddof=1)
        / math.sqrt(values.size)
    )
    low, high = mean - half, mean + half
    if is_square and mean > 0:
        low, high = mean * math.exp(-half / mean), mean * math.exp(half / mean)
    return Finding(exact, mean, low, high, values.size, "runs")
