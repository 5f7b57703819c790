"""A report of comparisons in words and cells, for a terminal or a page: what is said, not how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from sim_core.comparison.report import Report
from sim_core.comparison.verdicts import SMALLEST_MEAN, Comparison, Verdict, about
from sim_core.comparison.wording import percent, plain, probability

MOST_NEEDED = 10_000
"""Replicates whose number is told."""
MOST_OTHERS = 3
POINTS_BY_POINT = 4
"""Up to so many points have a table each; beyond that each metric has one."""


@dataclass(frozen=True)
class Part:
    """Comparisons that belong into one table."""

    subject: str
    """Name of the point or metric that all of them are about."""
    first: str
    """What tells them apart, `metric` or `point`."""
    rows: tuple[Comparison, ...]

    @property
    def sizes(self) -> set[str]:
        """How many values the comparisons are of; one text where all are of as many."""
        return {size_of(comparison) for comparison in self.rows}


def parts_of(report: Report) -> list[Part]:
    """Return the tables of a report: one per point or, of many points, one per metric."""
    points = dict.fromkeys(c.point for c in report.comparisons)
    metrics = dict.fromkeys(c.metric for c in report.comparisons)
    if len(points) <= max(POINTS_BY_POINT, len(metrics) // 2):
        return [
            Part(point, "metric", tuple(c for c in report.comparisons if c.point == point))
            for point in points
        ]
    return [
        Part(metric, "point", tuple(c for c in report.comparisons if c.metric == metric))
        for metric in metrics
    ]


def size_of(comparison: Comparison) -> str:
    """Return how many values a comparison is of."""
    found = comparison.found
    if not found.is_paired:
        return f"{found.n} and {found.n_baseline}"
    return "1 pair" if found.n == 1 else f"{found.n} pairs"


def _probability(p: float | None) -> str:
    """Return a p-value for a column that says what it is."""
    words = probability(p).removeprefix("p = ").removeprefix("p ")
    return "-" if p is None else words.replace(" ", "")


def _effect_size(comparison: Comparison) -> str:
    size = comparison.found.effect_size
    return "-" if size is None else f"{size:+.2f}"


FIGURES: dict[str, Callable[[Comparison], str]] = {
    "baseline": lambda c: plain(c.found.baseline_mean),
    "mean": lambda c: plain(c.found.mean),
    "difference": lambda c: c.amount,
    "d": _effect_size,
    "p": lambda c: _probability(c.p_adjusted),
    "saved": lambda c: c.saved,
}
"""Columns of a table, from left to right, and what is in their cells."""


def in_short(comparison: Comparison) -> str:
    """Return a verdict for a cell: how many replicates are needed, how small a difference is."""
    verdict = comparison.verdict
    if verdict == Verdict.TOO_FEW and comparison.replicates_needed is not None:
        return needs(comparison.replicates_needed)
    if verdict == Verdict.TOO_FEW:
        return "too few"
    if verdict == Verdict.NO_DIFFERENCE:
        return f"within ±{plain(comparison.smallest_effect)}"
    return f"{verdict}, small" if comparison.is_finding and comparison.is_small else str(verdict)


def needs(n: int) -> str:
    """Return how many replicates it takes, as far as it matters.

    >>> needs(24), needs(3_651), needs(641_000)
    ('needs ~24', 'needs ~3.7k', 'needs >10k')
    """
    if n > MOST_NEEDED:
        return f"needs >{MOST_NEEDED // 1_000}k"
    n = about(n)
    return f"needs ~{n}" if n < 1_000 else f"needs ~{n / 1_000:g}k"


def others(comparisons: Sequence[Comparison]) -> list[str]:
    """Return what comparisons say that show no difference: in sentences, or counted if many."""
    rest = [c for c in comparisons if not c.is_finding]
    if len(rest) <= MOST_OTHERS:
        return [comparison.sentence for comparison in rest]
    counts = Counter(c.verdict for c in rest)
    words = {
        Verdict.NO_DIFFERENCE: "without a difference that matters",
        Verdict.TOO_FEW: "with too few replicates to tell",
        Verdict.EQUAL: "equal in every replicate",
        Verdict.UNDEFINED: "undefined",
    }
    told = ", ".join(f"{counts[v]} {text}" for v, text in words.items() if counts[v])
    return [f"other comparisons: {told}"]


def explanations(report: Report, *, is_wide: bool = True) -> list[str]:
    """Return how the figures are to be read; tables that are not wide have no effect size."""
    least = plain(report.smallest.relative * SMALLEST_MEAN)
    lines = [
        (
            f"difference ± half of its {percent(1 - report.alpha)} interval; {'d: effect size; ' if is_wide else ''}p: "
            f"adjusted after Holm over {report.family} tests, better or worse below "
            f"{report.alpha:g}; saved: share of the variance that the same random numbers took away."
        ),
        (
            f"What matters is {percent(report.smallest.relative)} of the baseline's mean ({least} at "
            "least for metrics between 0 and 1), or --smallest-effect. small, within: the "
            "difference, if any, is smaller. needs: too few replicates to tell; about so many "
            "show the smallest difference that matters, and fewer a larger one."
        ),
    ]
    if report.saved:
        low, middle, high = (f"{100 * f(report.saved):.0f} %" for f in (min, median, max))
        lines.append(
            f"Pairing saved {middle} of the variance of the differences (median of "
            f"{len(report.saved)} comparisons, {low} to {high})."
        )
    return lines
