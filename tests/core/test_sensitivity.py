"""Sensitivity under noise: known indices are recovered, and without noise SALib's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter
from SALib.analyze import morris as salib_morris
from SALib.analyze import sobol as salib_sobol

from sim_core.config.design import AnyDesign, DesignConfig
from sim_core.designs import make_design
from sim_core.designs.unit_cube import draw_unit_cube, salib_problem
from sim_core.sensitivity import elementary_effects, sobol_indices, split_variance

Floats = NDArray[np.float64]
FACTORS = ("x1", "x2", "x3")
FIRST = (0.3139, 0.4424, 0.0)
TOTAL = (0.5576, 0.4424, 0.2437)
"""Ishigami & Homma, 1990, with a = 7 and b = 0.1; the variance is 13.84."""
VARIANCE = 13.8446


def ishigami(unit: Floats) -> Floats:
    x = np.pi * (2 * unit - 1)
    return np.asarray(
        np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    )


def design(kind: str, samples: int, seed: int = 1) -> Any:
    factors = {name: {"low": 0, "high": 1} for name in FACTORS}
    values = {"kind": kind, "factors": factors, "samples": samples, "seed": seed}
    found: AnyDesign = TypeAdapter(DesignConfig).validate_python(values)
    return found


def noisy(
    values: Floats, replicates: int, *, own: float, shared: float = 0.0, seed: int = 7
) -> Floats:
    """Return replicates `[n_draws, n_replicates]` with noise of their own and noise they share."""
    rng = np.random.default_rng(seed)
    alone = rng.normal(0, own, size=(len(values), replicates))
    return np.asarray(values[:, None] + alone + rng.normal(0, shared, size=replicates))


def saltelli(samples: int, replicates: int, seed: int = 1, **noise: float) -> Floats:
    unit = draw_unit_cube(design("saltelli", samples, seed))
    return noisy(ishigami(unit), replicates, **noise).reshape(samples, 5, replicates)


def test_without_noise_the_indices_are_those_of_salib():
    unit = draw_unit_cube(design("saltelli", 64))
    values = ishigami(unit)
    theirs = salib_sobol.analyze(
        salib_problem(list(FACTORS)), values, calc_second_order=False, seed=1
    )
    mine = sobol_indices(FACTORS, values.reshape(64, 5, 1))
    assert [f.first.value for f in mine] == pytest.approx(theirs["S1"], abs=1e-9)
    assert [f.total.value for f in mine] == pytest.approx(theirs["ST"], abs=1e-9)


def test_without_noise_the_effects_are_those_of_salib():
    drawn = design("morris", 30)
    unit = draw_unit_cube(drawn)
    values = ishigami(unit)
    theirs = salib_morris.analyze(salib_problem(list(FACTORS)), unit, values, num_levels=4, seed=1)
    mine = elementary_effects(FACTORS, unit, values.reshape(30, 4, 1))
    for ours, name in (("mu_star", "mu_star"), ("mu", "mu"), ("sigma", "sigma")):
        assert [getattr(f, ours).value for f in mine] == pytest.approx(list(theirs[name]), abs=1e-9)
    assert all(f.noise is None for f in mine)


@pytest.mark.parametrize("shared", [0.0, 20.0])
def test_ishigami_is_recovered_under_noise_as_large_as_itself(shared: float):
    values = saltelli(2048, 4, own=np.sqrt(VARIANCE), shared=shared)
    for found, first, total in zip(sobol_indices(FACTORS, values), FIRST, TOTAL, strict=True):
        assert found.first.low is not None
        assert found.first.high is not None
        assert found.total.low is not None
        assert found.total.high is not None
        assert found.first.low <= first <= found.first.high
        assert found.total.low <= total <= found.total.high
        assert found.total.high - found.total.low < 0.25
        assert found.total_uncorrected is not None
        assert found.total_uncorrected > found.total.high, "noise looks like interactions"


def test_noise_that_points_share_in_part_is_taken_out_too():
    """Points of a sample differ in one factor, so replicates of one number err alike at them."""
    unit = draw_unit_cube(design("saltelli", 2048))
    rng = np.random.default_rng(3)
    alike = np.repeat(rng.normal(0, 3, size=(2048, 1, 4)), 5, axis=1)
    values = ishigami(unit).reshape(2048, 5, 1) + alike + rng.normal(0, 1, size=(2048, 5, 4))
    found = sobol_indices(FACTORS, values)
    assert [f.first.value for f in found] == pytest.approx(FIRST, abs=0.06)
    assert [f.total.value for f in found] == pytest.approx(TOTAL, abs=0.06)


def test_intervals_of_indices_hold_the_truth_as_often_as_they_say():
    """40 designs, six indices each: 95 % of 240, less what few samples and percentiles cost."""
    held = []
    for seed in range(40):
        values = saltelli(256, 3, seed=seed, own=3.0)
        for found, first, total in zip(sobol_indices(FACTORS, values), FIRST, TOTAL, strict=True):
            for index, truth in ((found.first, first), (found.total, total)):
                assert index.low is not None
                assert index.high is not None
                held.append(index.low <= truth <= index.high)
    assert 0.91 <= np.mean(held) <= 0.99


def test_where_seeds_explain_everything_no_index_is_made_up():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(64, 5, 3))
    found = sobol_indices(FACTORS, values)
    assert all(f.total.low is None or f.total.low < 0.3 for f in found)
    parts = split_variance(values)
    assert parts.parameters.low == pytest.approx(0, abs=0.02)
    constant = sobol_indices(FACTORS, np.ones((64, 5, 3)))
    assert [f.first.value for f in constant] == [None, None, None]


def test_variance_is_split_into_parameters_seeds_and_what_seeds_share():
    values = saltelli(1024, 8, own=2.0, shared=3.0)
    parts = split_variance(values)
    observed_shared = np.var(values.mean(axis=(0, 1)), ddof=1)
    total = VARIANCE + 4 + observed_shared
    assert parts.parameters.value == pytest.approx(VARIANCE / total, abs=0.03)
    assert parts.seeds.value == pytest.approx((4 + observed_shared) / total, abs=0.03)
    assert parts.shared == pytest.approx(observed_shared / total, abs=0.03)
    assert parts.sd == pytest.approx(np.sqrt(total), rel=0.03)
    assert parts.parameters.low is not None
    assert parts.parameters.high is not None
    assert parts.parameters.low < VARIANCE / total < parts.parameters.high


def test_one_replicate_says_nothing_of_seeds():
    parts = split_variance(saltelli(64, 1, own=1.0))
    assert parts.seeds.value is None
    assert parts.shared is None


def test_morris_finds_what_matters_and_takes_noise_out_of_sigma():
    drawn = design("morris", 400)
    unit = draw_unit_cube(drawn)
    linear = 10 * unit[:, 0] - 3 * unit[:, 1]
    values = noisy(linear, 4, own=1.0, shared=5.0).reshape(400, 4, 4)
    one, two, none = elementary_effects(FACTORS, unit, values)
    assert one.mu_star.value == pytest.approx(10, abs=0.2)
    assert two.mu.value == pytest.approx(-3, abs=0.2)
    for found in (one, two):
        assert found.sigma.value == pytest.approx(0, abs=0.35), "a linear model has none"
    assert none.noise == pytest.approx(np.sqrt(2 / np.pi) * np.sqrt(2) / 2 / (2 / 3), rel=0.1)
    assert none.mu_star.value == pytest.approx(none.noise, rel=0.1)


def test_effects_are_of_the_factor_that_moved_whatever_the_order_of_moves():
    unit = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=float)
    both = np.concatenate([unit, unit[::-1]])
    values = (both @ np.array([1.0, 10.0, 100.0])).reshape(2, 4, 1)
    found = elementary_effects(FACTORS, both, values)
    assert [f.mu.value for f in found] == pytest.approx([1, 10, 100])


def test_draws_that_share_a_point_are_weighted_by_how_often_they_were_drawn():
    factors = {"a": [0, 1], "b": [0, 1]}
    drawn: AnyDesign = TypeAdapter(DesignConfig).validate_python(
        {"kind": "saltelli", "factors": factors, "samples": 64}
    )
    made = make_design(drawn)
    by_point = np.array([[3.0 * a + b] for a, b in made.rows])
    found = sobol_indices(made.keys, by_point[made.row_of].reshape(64, 4, 1))
    assert len(made.rows) == 4
    assert [f.total.value for f in found] == pytest.approx([0.9, 0.1], abs=0.03)
