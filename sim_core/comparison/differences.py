"""How far a point is from its baseline in one metric: estimates, without a judgement."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
ROUNDING = 1e-12
"""Of the values' size: differences that vary less are taken to be equal."""
FEWEST_FOR_EFFECT = 3
"""Of fewer differences the correction of the effect size is 0 or undefined."""


class Method(StrEnum):
    """What a p-value comes from."""

    PAIRED_T = "paired t"
    WELCH = "Welch"
    SIGN = "sign"
    """Every difference is the same: only its sign can be tested."""
    EQUAL = "equal"
    """Every difference is 0: there is nothing to test, p is 1."""
    NONE = "none"
    """Fewer than two values."""


@dataclass(frozen=True)
class Difference:
    """Point minus baseline: estimates, interval and p-value; what is undefined is None."""

    test: Method
    is_paired: bool
    n: int
    """Pairs; without pairs, values of the point."""
    n_baseline: int
    mean: float | None
    baseline_mean: float | None
    difference: float | None
    sd: float | None
    """Of the paired differences; without pairs, what both samples have in common (pooled)."""
    ci_low: float | None
    ci_high: float | None
    effect_size: float | None
    """Cohen's d of the paired differences (d_z), or of two samples (d), corrected for small n."""
    p: float | None
    variance_saved: float | None
    """Share of the variance that two samples without common random numbers would have had."""
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None


def paired_difference(values: Values, baseline: Values, alpha: float = 0.05) -> Difference:
    """Return the difference of values that belong together one by one (Student 1908).

    >>> found = paired_difference(np.array([3.0, 4.0, 6.0]), np.array([1.0, 3.0, 3.0]))
    >>> found.difference, round(found.ci_low, 3), round(found.p, 4)
    (2.0, -0.484, 0.0742)
    """
    n = len(values)
    if n == 0:
        return nothing(is_paired=True)
    differences = values - baseline
    mean = float(differences.mean())
    found = replace(
        nothing(is_paired=True),
        n=n,
        n_baseline=n,
        mean=float(values.mean()),
        baseline_mean=float(baseline.mean()),
        difference=mean,
    )
    if n == 1:
        return found
    sd = float(differences.std(ddof=1))
    found = replace(found, sd=sd, variance_saved=variance_saved(values, baseline))
    if sd <= ROUNDING * float(np.abs([values, baseline]).max()):
        return _constant(found, mean, float(np.abs([values, baseline]).max()))
    error = sd / math.sqrt(n)
    low, high, p = _student(mean, error, n - 1, alpha)
    return replace(
        found,
        test=Method.PAIRED_T,
        ci_low=low,
        ci_high=high,
        p=p,
        effect_size=small_sample_correction(n - 1) * mean / sd if n >= FEWEST_FOR_EFFECT else None,
    )


def unpaired_difference(values: Values, baseline: Values, alpha: float = 0.05) -> Difference:
    """Return the difference of two independent samples (Welch 1947).

    >>> found = unpaired_difference(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))
    >>> found.difference, round(found.p, 4)
    (2.0, 0.0705)
    """
    n, m = len(values), len(baseline)
    mean = float(values.mean()) if n else None
    baseline_mean = float(baseline.mean()) if m else None
    found = replace(
        nothing(is_paired=False), n=n, n_baseline=m, mean=mean, baseline_mean=baseline_mean
    )
    if mean is None or baseline_mean is None:
        return found
    found = replace(found, difference=mean - baseline_mean)
    if n < 2 or m < 2:
        return found
    a, b = float(values.var(ddof=1)), float(baseline.var(ddof=1))
    sd = math.sqrt(((n - 1) * a + (m - 1) * b) / (n + m - 2))
    found = replace(found, sd=sd)
    size = float(max(np.abs(values).max(), np.abs(baseline).max()))
    if sd <= ROUNDING * size:
        return _constant(found, mean - baseline_mean, size)
    error = math.sqrt(a / n + b / m)
    degrees = error**4 / ((a / n) ** 2 / (n - 1) + (b / m) ** 2 / (m - 1))
    low, high, p = _student(mean - baseline_mean, error, degrees, alpha)
    correction = small_sample_correction(n + m - 2)
    return replace(
        found,
        test=Method.WELCH,
        ci_low=low,
        ci_high=high,
        p=p,
        effect_size=correction * (mean - baseline_mean) / sd,
    )


def nothing(*, is_paired: bool) -> Difference:
    """Return the difference of which nothing is known."""
    return Difference(Method.NONE, is_paired, 0, 0, *[None] * 9)


def variance_saved(values: Values, baseline: Values) -> float | None:
    """Return the share of variance that pairing saves; below 0 where it costs some.

    Two samples of the same sizes that share no random numbers differ with variance a + b.

    >>> variance_saved(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))
    1.0
    """
    apart = float(values.var(ddof=1) + baseline.var(ddof=1))
    return None if apart == 0 else 1 - float((values - baseline).var(ddof=1)) / apart


def small_sample_correction(degrees: int) -> float:
    """Return the factor that makes Cohen's d unbiased (Hedges 1981).

    >>> round(small_sample_correction(9), 4)
    0.9139
    """
    half = degrees / 2
    return math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


def _student(mean: float, error: float, degrees: float, alpha: float) -> tuple[float, float, float]:
    """Return the t interval and the two-sided p-value."""
    from scipy.special import stdtr, stdtrit  # Student's t without the 60 MB of scipy.stats

    half = float(stdtrit(degrees, 1 - alpha / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(degrees, -abs(mean) / error))


def _constant(found: Difference, difference: float, size: float) -> Difference:
    """Return the difference of values that do not vary: exactly 0, or exactly something."""
    if abs(difference) <= ROUNDING * size:
        return replace(
            found, test=Method.EQUAL, difference=0.0, sd=0.0, ci_low=0.0, ci_high=0.0, p=1.0
        )
    if not found.is_paired:  # the probability that two samples part so clearly (permutations)
        ways = math.comb(found.n + found.n_baseline, found.n)
        return replace(found, test=Method.SIGN, sd=0.0, p=min(1.0, 2 / ways))
    return replace(found, test=Method.SIGN, sd=0.0, p=2.0 ** (1 - found.n))
