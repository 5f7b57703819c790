"""Where the figures of a suite tend over its history: improving, stable, degrading.

Theil and Sen's slope over the medians of one benchmark after the other, and Kendall's test of whether
there is any (Mann 1945). A trend is one of 5 % from the first to the last, whose p-value is below 5 %;
cases are not corrected for how many there are, since nothing fails for a trend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from flows.benchmarks.files import RATE_UNITS, Report

SMALLEST_CHANGE = 0.05
ALPHA = 0.05
FEWEST = 5
"""Benchmarks: of four, no order is significant."""


class Tendency(StrEnum):
    """Where a figure tends."""

    IMPROVING = "improving"
    STABLE = "stable"
    DEGRADING = "degrading"
    TOO_FEW = "too few benchmarks"


@dataclass(frozen=True)
class Past:
    """What is known of an earlier benchmark."""

    at: str
    """When, in ISO 8601."""
    commit: str
    medians: Mapping[str, float]
    """Of each case."""
    units: Mapping[str, str]


@dataclass(frozen=True)
class Trend:
    """One case over its history."""

    name: str
    unit: str
    medians: tuple[float, ...]
    """Of one benchmark after the other."""
    change: float | None
    """Share of the first value by which the fitted line ends higher; None where none is fitted."""
    low: float | None
    """Of its 95 % interval."""
    high: float | None
    p: float | None
    tendency: Tendency


def past_of(report: Report) -> Past:
    """Return what a trend needs of a report."""
    rows = [row for row in report.results if row.samples]
    return Past(
        at=report.at or "",
        commit=report.label,
        medians={row.name: float(np.median(row.samples)) for row in rows},
        units={row.name: row.unit for row in rows},
    )


def trends_of(history: Sequence[Past]) -> list[Trend]:
    """Return where each case of the newest benchmark tends.

    Args:
        history: Benchmarks of one suite on one machine, the oldest first.
    """
    if not history:
        return []
    newest = history[-1]
    found = []
    for name, unit in newest.units.items():
        alike = [past for past in history if past.units.get(name) == unit]
        found.append(trend_of(name, unit, [past.medians[name] for past in alike]))
    return found


def trend_of(name: str, unit: str, medians: Sequence[float]) -> Trend:
    """Return where one figure tends.

    >>> trend_of("step", "ms", [1.0, 1.02, 1.04, 1.06, 1.08, 1.1]).tendency.value
    'degrading'
    >>> trend_of("rate", "rows/s", [1.0, 1.02, 1.04, 1.06, 1.08, 1.1]).tendency.value
    'improving'
    >>> trend_of("step", "ms", [1.0, 1.1, 1.0, 1.1, 1.0, 1.1]).tendency.value
    'stable'
    """
    from scipy import stats

    values = tuple(medians)
    n = len(values)
    if n < FEWEST:
        return Trend(name, unit, values, None, None, None, None, Tendency.TOO_FEW)
    if np.ptp(values) == 0:
        return Trend(name, unit, values, 0.0, 0.0, 0.0, 1.0, Tendency.STABLE)
    order = np.arange(n)
    line = stats.theilslopes(values, order)
    start = line.intercept if line.intercept > 0 else float(np.median(values))
    change, low, high = (
        float(s * (n - 1) / start) for s in (line.slope, line.low_slope, line.high_slope)
    )
    p = float(stats.kendalltau(order, values).pvalue)
    return Trend(name, unit, values, change, low, high, p, _tendency(unit, change, p))


def _tendency(unit: str, change: float, p: float) -> Tendency:
    if p >= ALPHA or abs(change) < SMALLEST_CHANGE:
        return Tendency.STABLE
    is_more_better = unit.endswith(RATE_UNITS)
    return Tendency.IMPROVING if (change > 0) == is_more_better else Tendency.DEGRADING
