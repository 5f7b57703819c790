"""Designs in the unit cube: a row per draw, a column per factor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from sim_core.config.design import (
    DrawnDesign,
    LatinHypercubeDesign,
    MorrisDesign,
    SaltelliDesign,
    SobolDesign,
)


def draw_unit_cube(design: DrawnDesign) -> NDArray[np.float64]:
    """Return the rows `[n_rows, n_factors]` of a design, each value from 0 to 1.

    Rows are the same for the same design on every machine. More samples keep the rows that are
    there, but for a Latin hypercube, whose strata get narrower.
    """
    n_factors = len(design.factors)
    if isinstance(design, SaltelliDesign):
        from SALib.sample import sobol

        with _any_number():
            problem = salib_problem(list(design.factors))
            return np.asarray(
                sobol.sample(problem, design.samples, calc_second_order=False, seed=design.seed)
            )
    if isinstance(design, MorrisDesign):
        from SALib.sample import morris

        problem = salib_problem(list(design.factors))
        return np.asarray(
            morris.sample(problem, design.samples, num_levels=design.levels, seed=design.seed)
        )
    if isinstance(design, LatinHypercubeDesign | SobolDesign):
        from scipy.stats import qmc

        kind = qmc.Sobol if isinstance(design, SobolDesign) else qmc.LatinHypercube
        with _any_number():
            return np.asarray(kind(n_factors, rng=design.seed).random(design.samples))
    return np.random.default_rng(design.seed).random((design.samples, n_factors))


def salib_problem(names: list[str]) -> dict[str, object]:
    """Return how SALib wants to be told of factors that go from 0 to 1."""
    return {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}


@contextmanager
def _any_number() -> Iterator[None]:
    """Let a sequence be as long as asked for: a power of two is better, and the page says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The balance properties of Sobol")
        yield
