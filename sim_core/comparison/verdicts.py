"""What a comparison says: better, worse, no difference that matters, or too few replicates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sim_core.comparison.differences import Difference, Method
from sim_core.comparison.directions import WITHIN_ONE, Direction, direction_of
from sim_core.comparison.planning import MOST, replicates_needed
from sim_core.comparison.wording import plain, probability, signed


class Verdict(StrEnum):
    """The answer to: does it make a difference?"""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    EQUAL = "equal"
    """There is no difference in any replicate."""
    NO_DIFFERENCE = "no difference shown"
    """Whatever difference there is, it is smaller than what would matter."""
    TOO_FEW = "too few replicates"
    """A difference that would matter is neither shown nor excluded."""
    UNDEFINED = "undefined"
    """The metric has no values to compare."""


SMALLEST_MEAN = 0.2
"""Of metrics within 0 and 1: a share is taken of this where the baseline's mean is smaller."""
FINDINGS = frozenset([Verdict.BETTER, Verdict.WORSE, Verdict.HIGHER, Verdict.LOWER])


@dataclass(frozen=True)
class SmallestEffect:
    """The smallest difference that would matter: a share of the baseline's mean, or a size."""

    relative: float = 0.05
    """Of a metric within 0 and 1 this share is taken of 0.2 at least: 5 % are never below 0.01."""
    absolute: Mapping[str, float] = field(default_factory=dict)
    """Sizes of metrics, in place of the share."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Shares of metrics, in place of that of all; exactly of the baseline's mean."""

    def of(self, metric: str, baseline_mean: float | None) -> float | None:
        """Return the size for a metric; None where there is none because the baseline is 0.

        >>> SmallestEffect(absolute={"f1": 0.01}).of("f1", 0.8), SmallestEffect().of("mcc", -0.5)
        (0.01, 0.025)
        >>> round(SmallestEffect().of("recall", 0.001), 6), SmallestEffect().of("missed", 0.0)
        (0.01, None)
        """
        if metric in self.absolute:
            return self.absolute[metric]
        mean = abs(baseline_mean or 0.0)
        if metric in self.shares:
            return mean * self.shares[metric] or None
        return self.relative * (max(mean, SMALLEST_MEAN) if metric in WITHIN_ONE else mean) or None


@dataclass(frozen=True)
class Comparison:
    """A point against its baseline in one metric, with what that says."""

    point: str
    baseline: str
    metric: str
    found: Difference
    n_undefined: int
    """Replicates left out because the metric is undefined in them or in their baseline."""
    p_adjusted: float | None
    """Holm's, over all comparisons of the report."""
    smallest_effect: float | None
    replicates_needed: int | None
    """To show the smallest effect, where it is neither shown nor excluded."""
    verdict: Verdict

    @property
    def is_finding(self) -> bool:
        """Whether a difference is shown."""
        return self.verdict in FINDINGS

    @property
    def amount(self) -> str:
        """The difference with half of its interval."""
        found = self.found
        if found.difference is None:
            return "-"
        half = None if found.ci_high is None else found.ci_high - found.difference
        return signed(found.difference, half)

    @property
    def sentence(self) -> str:
        """All of it in a sentence."""
        return f"{self.point} against {self.baseline}: {self.metric} {self._predicate()}"

    def _predicate(self) -> str:
        found, p = self.found, probability(self.p_adjusted)
        units = f"{found.n} pairs" if found.is_paired else "values"
        if self.verdict == Verdict.UNDEFINED:
            return "cannot be compared: it is undefined in all replicates of one or the other"
        if self.verdict == Verdict.EQUAL:
            return f"is equal in all {units}"
        if self.is_finding:
            if found.test == Method.SIGN:
                return f"is {self.verdict}: {self.amount} in all {units}, {p}"
            small = f", less than {plain(self.smallest_effect)}" if self.is_small else ""
            return f"is {self.verdict}: {self.amount}{small}, {p}"
        if self.verdict == Verdict.NO_DIFFERENCE:
            return (
                f"shows no difference (smaller than {plain(self.smallest_effect)}): "
                f"{self.amount}, {p}"
            )
        return f"cannot be told: {self.amount}, {p}; {self.advice}"

    @property
    def advice(self) -> str:
        """What would decide it, where there are too few replicates."""
        found = self.found
        if found.p is None:
            return "two replicates of each at least are needed to see how much they vary"
        if self.smallest_effect is None:
            return f"the baseline is 0: say what matters with --smallest-effect {self.metric}=SIZE"
        if self.replicates_needed is None:
            return f"more than {MOST:,} replicates are needed to see {plain(self.smallest_effect)}"
        needed = about(self.replicates_needed)
        return f"about {needed:,} replicates are needed to see {plain(self.smallest_effect)}"

    @property
    def is_small(self) -> bool:
        """Whether the interval excludes every difference that would matter."""
        return excludes(self.found, self.smallest_effect)

    @property
    def saved(self) -> str:
        """The share of variance that pairing saved."""
        return (
            "-" if self.found.variance_saved is None else f"{100 * self.found.variance_saved:.0f} %"
        )


def judge(
    found: Difference, p_adjusted: float | None, smallest: float | None, metric: str, alpha: float
) -> Verdict:
    """Return what a difference says.

    A difference is shown by its adjusted p-value; that there is none, by an interval that lies
    within the differences that do not matter (an equivalence test, Schuirmann 1987), never by a
    p-value that is large.
    """
    if found.difference is None:
        return Verdict.UNDEFINED
    if found.test == Method.EQUAL:
        return Verdict.EQUAL
    if p_adjusted is not None and p_adjusted < alpha:
        return _direction(found.difference, metric)
    return Verdict.NO_DIFFERENCE if excludes(found, smallest) else Verdict.TOO_FEW


def _direction(difference: float, metric: str) -> Verdict:
    better = direction_of(metric)
    if better == Direction.NEITHER:
        return Verdict.HIGHER if difference > 0 else Verdict.LOWER
    is_higher_better = better == Direction.HIGHER
    return Verdict.BETTER if (difference > 0) == is_higher_better else Verdict.WORSE


def excludes(found: Difference, smallest: float | None) -> bool:
    """Return whether an interval excludes all differences of at least this size."""
    if smallest is None or found.ci_low is None or found.ci_high is None:
        return False
    return -smallest < found.ci_low and found.ci_high < smallest


def needed(found: Difference, smallest: float | None, alpha: float, family: int) -> int | None:
    """Return how many replicates show the smallest effect, as one of a family of comparisons.

    The level is that of the strictest comparison, alpha over the size of the family, so that
    Holm's correction does not undo it.
    """
    if smallest is None or found.sd is None or found.p is None:
        return None
    level = alpha / max(family, 1)
    if found.sd == 0:  # differences that never vary are tested by their sign
        return math.ceil(1 + math.log2(1 / level))
    return replicates_needed(smallest, found.sd, alpha=level, is_paired=found.is_paired)


def about(n: int) -> int:
    """Return a number of replicates to two digits, rounded up: a plan knows no more.

    >>> about(7), about(34), about(1234)
    (7, 34, 1300)
    """
    step = int(10 ** max(0, len(str(n)) - 2))
    return math.ceil(n / step) * step
