"""How much runs differ because of their parameters, and how much because of their seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_core.sensitivity.resampling import Estimate, Floats, estimate, without_shared


@dataclass(frozen=True)
class VarianceParts:
    """The variance of single runs over a design, in two parts that make 1; None with one replicate."""

    sd: float
    """Standard deviation of single runs."""
    parameters: Estimate
    """Share of the variance that is the points'."""
    seeds: Estimate
    """Share of the variance that is between replicates of the same point."""
    shared: float | None
    """Share that is the seeds' and the same at all points: paired comparisons do not see it."""


def split_variance(values: Floats) -> VarianceParts:
    """Return the parts of the variance, by a random effects model of points and replicates.

    `y = mean + point + replicate + rest` (Searle, Casella & McCulloch, Variance Components, 1992,
    chapter 4): what the points' means vary by, less what is the rest's in that; what replicates of a
    point vary by; and in the latter what the replicates of one number have in common.

    Args:
        values: Independent draws of the design, their points, and replicates
            `[n_draws, n_points, n_replicates]`.
    """
    n_draws, n_points, n = values.shape
    centred = without_shared(values)
    means = centred.mean(axis=2)
    if n == 1:
        total = float((means**2).mean())
        nothing = Estimate(None, None, None)
        return VarianceParts(float(np.sqrt(total)), nothing, nothing, None)
    within = values.var(axis=2, ddof=1).mean(axis=1)
    rest = centred.var(axis=2, ddof=1).mean(axis=1)
    statistics = np.stack([means.mean(axis=1), (means**2).mean(axis=1), within, rest], axis=1)
    correction = n_draws * n_points / (n_draws * n_points - 1)

    def parts(average: Floats) -> Floats:
        mean, square, seeds, alone = (average[..., index] for index in range(4))
        alone = alone * correction
        points = np.maximum((square - mean**2) * correction - alone / n, 0)
        shared = np.maximum(seeds - alone, 0)
        total = points + seeds
        return np.stack([points / total, seeds / total, shared / total, np.sqrt(total)], axis=-1)

    parameters, seeds, shared, sd = estimate(statistics, parts)
    return VarianceParts(sd.value or 0.0, parameters, seeds, shared.value)
