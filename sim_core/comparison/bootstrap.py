"""Bootstrap intervals of differences: what the t interval would be if nothing were normal."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_core.comparison.differences import Values

RESAMPLES = 2_000
SEED = 20_250
"""The same differences have the same interval, whenever it is computed."""
LARGEST_BATCH = 5_000_000
"""Numbers resampled at once (40 MB)."""
FEWEST = 4
"""Of fewer values resampling shows too little of how they vary."""

Bounds = tuple[float, float]


def bootstrap_of_pairs(differences: Sequence[Values], alpha: float = 0.05) -> list[Bounds | None]:
    """Return the interval of the mean of each sample of differences (BCa, Efron 1987).

    Samples of the same length are resampled together. None where there are fewer than four values
    or they do not vary.
    """
    found: list[Bounds | None] = [None] * len(differences)
    by_length: dict[int, list[int]] = {}
    for index, sample in enumerate(differences):
        if len(sample) >= FEWEST and np.ptp(sample) > 0:
            by_length.setdefault(len(sample), []).append(index)
    for length, places in by_length.items():
        at_once = max(1, LARGEST_BATCH // (length * max(RESAMPLES, length)))
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            rows = np.stack([differences[index] for index in part])
            low, high = _bootstrap((rows,), _mean, alpha)
            for index, bounds in zip(part, zip(low, high, strict=True), strict=True):
                found[index] = _defined(*bounds)
    return found


def bootstrap_of_samples(values: Values, baseline: Values, alpha: float = 0.05) -> Bounds | None:
    """Return the interval of the difference of the means of two independent samples (BCa)."""
    if min(len(values), len(baseline)) < FEWEST or np.ptp(values) == 0 == np.ptp(baseline):
        return None
    return _defined(*_bootstrap((values, baseline), _difference_of_means, alpha))


def _bootstrap(data: tuple[Values, ...], statistic: Any, alpha: float) -> tuple[Any, Any]:
    from scipy import stats

    with warnings.catch_warnings():  # what is degenerate comes back as NaN
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=1 - alpha,
            method="BCa",
            vectorized=True,
            axis=-1,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return interval.low, interval.high


def _mean(sample: Values, axis: int = -1) -> Any:
    return np.mean(sample, axis=axis)


def _difference_of_means(values: Values, baseline: Values, axis: int = -1) -> Any:
    return np.mean(values, axis=axis) - np.mean(baseline, axis=axis)


def _defined(low: Any, high: Any) -> Bounds | None:
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return float(low), float(high)
