"""Elementary effects along trajectories: what a metric does when one factor alone is changed.

Morris, "Factorial sampling plans for preliminary computational experiments", Technometrics 33, 1991; the mean of
absolute effects, mu*: Campolongo, Cariboni & Saltelli, Environmental Modelling & Software 22, 2007. Without noise
they are those of SALib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim_core.sensitivity.resampling import Estimate, Floats, estimate, noise_of_product


@dataclass(frozen=True)
class ElementaryEffects:
    """The effects of one factor, in the metric's unit, over the whole range of the factor."""

    factor: str
    mu_star: Estimate
    """Mean of absolute effects: whether the factor matters."""
    mu: Estimate
    """Mean of effects: in which direction."""
    sigma: Estimate
    """Standard deviation of effects less noise: whether it depends on the others or on where."""
    noise: float | None
    """What mu* would be if seeds alone made the differences; None with one replicate."""


def elementary_effects(
    factors: Sequence[str], unit: Floats, values: Floats
) -> list[ElementaryEffects]:
    """Return the effects of all factors.

    Args:
        factors: Names of the factors.
        unit: The rows of `morris` in the unit cube `[n_draws, n_factors]`.
        values: Replicates at these rows: trajectories, their points, replicates
            `[n_trajectories, n_factors + 1, n_replicates]`.
    """
    n_draws, n_points, n = values.shape
    steps = np.diff(unit.reshape(n_draws, n_points, len(factors)), axis=1)
    moved = np.abs(steps).argmax(axis=2)  # which factor each step changes
    length = np.take_along_axis(steps, moved[:, :, None], axis=2)
    by_step = np.diff(values, axis=1) / length
    effects = np.take_along_axis(by_step, moved.argsort(axis=1)[:, :, None], axis=1)
    return [_of_factor(name, effects[:, index], n) for index, name in enumerate(factors)]


def _of_factor(name: str, effects: Floats, n_replicates: int) -> ElementaryEffects:
    """Return what effects `[n_trajectories, n_replicates]` say of a factor."""
    means = effects.mean(axis=1)
    noise = noise_of_product(effects, effects)
    correction = len(means) / (len(means) - 1)

    def summary(average: Floats) -> Floats:
        mean, size, square, lifted = (average[..., index] for index in range(4))
        variance = (square - mean**2) * correction - lifted
        return np.stack([size, mean, np.sqrt(np.maximum(variance, 0))], axis=-1)

    statistics = np.stack([means, np.abs(means), means**2, noise], axis=1)
    floor = math.sqrt(2 / math.pi * float(noise.mean())) if n_replicates > 1 else None
    mu_star, mu, sigma = estimate(statistics, summary)
    return ElementaryEffects(name, mu_star, mu, sigma, floor)
