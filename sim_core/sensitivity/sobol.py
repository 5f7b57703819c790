"""Sobol' indices from Saltelli's crossed samples, with the noise of seeds taken out.

First order: the share of the parameters' variance that a factor explains by itself. Total order: with all of its
interactions. Estimators: Saltelli et al., "Variance based sensitivity analysis of model output", Computer Physics
Communications 181, 2010, equations (b) and (f); without noise they are those of SALib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim_core.sensitivity.resampling import (
    Estimate,
    Floats,
    estimate,
    noise_of_product,
    without_shared,
)


@dataclass(frozen=True)
class SobolIndices:
    """The indices of one factor."""

    factor: str
    first: Estimate
    total: Estimate
    first_uncorrected: float | None
    """As if the means over replicates had no noise."""
    total_uncorrected: float | None


def sobol_indices(factors: Sequence[str], values: Floats) -> list[SobolIndices]:
    """Return the indices of all factors; undefined where seeds explain all that is seen.

    Args:
        factors: Names of the factors.
        values: Replicates at the rows of `saltelli`: samples, their points (first A, then A with one
            factor of B each, then B), replicates `[n_samples, n_factors + 2, n_replicates]`.
    """
    n_factors = len(factors)
    statistics = _statistics(without_shared(values))

    def indices(means: Floats) -> Floats:
        mean, square, noise = (means[..., index : index + 1] for index in range(3))
        raw, clean = square - mean**2, square - mean**2 - noise
        lead = means.shape[:-1]
        shaped = means[..., 3:].reshape(*lead, 2, 2, n_factors)  # first, total; measured, noise
        measured, lifted = shaped[..., 0, :], shaped[..., 1, :]
        positive = np.where(clean > 0, clean, np.nan)[..., None]
        corrected = (measured - lifted) / positive
        plain = measured / np.where(raw > 0, raw, np.nan)[..., None]
        return np.concatenate([corrected, plain], axis=-2).reshape(*lead, 4 * n_factors)

    found = estimate(statistics, indices)
    return [
        SobolIndices(
            factor,
            found[index],
            found[n_factors + index],
            found[2 * n_factors + index].value,
            found[3 * n_factors + index].value,
        )
        for index, factor in enumerate(factors)
    ]


def _statistics(values: Floats) -> Floats:
    """Return per sample what is averaged: mean, square, its noise; per factor products, their noise."""
    a, crossed, b = values[:, :1], values[:, 1:-1], values[:, -1:]
    base = np.concatenate([a, b], axis=1)
    step = crossed - a
    mean, moved = base.mean(axis=2), step.mean(axis=2)
    parts = [
        mean.mean(axis=1, keepdims=True),
        (mean**2).mean(axis=1, keepdims=True),
        noise_of_product(base, base).mean(axis=1, keepdims=True),
        b.mean(axis=2) * moved,
        noise_of_product(np.broadcast_to(b, step.shape), step),
        moved**2 / 2,
        noise_of_product(step, step) / 2,
    ]
    return np.concatenate(parts, axis=1)
