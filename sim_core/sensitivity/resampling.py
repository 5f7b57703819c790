"""Means over the draws of a design, what is computed from them, and how sure that is.

A statistic is a function of means over draws, and its interval comes from drawing the draws again: Efron &
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles). A draw is what the design repeats
independently, such as a trajectory of Morris, with all replicates of its points.

Replicates of one number share random numbers over all points. So errors at different points are not independent,
and the noise in a product of means over replicates is taken from the replicates of that product itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_core.results import CONFIDENCE

Floats = NDArray[np.float64]
RESAMPLES = 1_000
SEED = 1
CHUNK = 2_000_000
"""Weights that are held at once."""
MOST_UNDEFINED = 0.05
"""Share of resamples in which a statistic may be undefined and still have an interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


def noise_of_product(left: Floats, right: Floats) -> Floats:
    """Return by how much noise lifts `mean(left) * mean(right)` over replicates, in the mean.

    That is their covariance over replicates, divided by how many there are; 0 with one replicate,
    which says nothing of noise.

    Args:
        left: Values `[..., n_replicates]`.
        right: Values of the same shape.
    """
    n = left.shape[-1]
    if n == 1:
        return np.zeros(left.shape[:-1])
    apart = left - left.mean(axis=-1, keepdims=True)
    other = right - right.mean(axis=-1, keepdims=True)
    return np.asarray((apart * other).sum(axis=-1) / (n - 1) / n)


def without_shared(values: Floats) -> Floats:
    """Return values `[..., n_replicates]` less the mean of their replicate over all points."""
    return np.asarray(values - values.mean(axis=tuple(range(values.ndim - 1)), keepdims=True))


def estimate(
    statistics: Floats, function: Callable[[Floats], Floats], resamples: int = RESAMPLES
) -> list[Estimate]:
    """Return what a function makes of means over draws, with intervals.

    >>> values = np.arange(100.0)[:, None]
    >>> [found] = estimate(values, lambda means: means)
    >>> found.value, 42 < found.low < 45, 54 < found.high < 57
    (49.5, True, True)

    Args:
        statistics: Per draw what is averaged `[n_draws, n_statistics]`.
        function: From means `[..., n_statistics]` to results `[..., n_results]`; NaN: undefined.
        resamples: How often draws are drawn again.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = function(statistics.mean(axis=0))
        again = function(_resampled_means(statistics, resamples))
    return [_estimate(value, again[:, index]) for index, value in enumerate(found.tolist())]


def _resampled_means(statistics: Floats, resamples: int) -> Floats:
    n_draws = len(statistics)
    rng = np.random.default_rng(SEED)
    step = max(1, CHUNK // n_draws)
    parts = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=size)
        parts.append(weights @ statistics / n_draws)
    return np.concatenate(parts)


def _estimate(value: float, again: Floats) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None, None, None)
    known = again[np.isfinite(again)]
    if len(known) < (1 - MOST_UNDEFINED) * len(again):
        return Estimate(value, None, None)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Estimate(value, low, high)
