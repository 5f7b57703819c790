"""Designs: which rows factors give, evenly, repeatably, and once each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from sim_core.config.design import AnyDesign, DesignConfig
from sim_core.designs import Design, make_design

UNIT = {"low": 0, "high": 1}


def config(kind: str, factors: dict[str, Any], **settings: Any) -> AnyDesign:
    values = {"kind": kind, "factors": factors, **settings}
    found: AnyDesign = TypeAdapter(DesignConfig).validate_python(values)
    return found


def made(kind: str, factors: dict[str, Any], **settings: Any) -> Design:
    return make_design(config(kind, factors, **settings))


def test_a_grid_has_every_combination_and_a_list_reads_side_by_side():
    factors = {"a": [1, 2], "b": ["x", "y"]}
    assert made("grid", factors).rows == ((1, "x"), (1, "y"), (2, "x"), (2, "y"))
    assert made("list", factors).rows == ((1, "x"), (2, "y"))


def test_levels_of_a_grid_are_even_on_their_scale():
    ranges = {
        "a": {"low": 1, "high": 1000, "log": True},
        "b": {"low": 1, "high": 3, "integer": True},
    }
    found = made("grid", ranges, levels=4)
    assert sorted({row[0] for row in found.rows}) == [1, 10, 100, 1000]
    assert sorted({row[1] for row in found.rows}) == [1, 2, 3]


@pytest.mark.parametrize("kind", ["random", "latin_hypercube", "sobol", "morris", "saltelli"])
def test_the_same_design_has_the_same_rows_and_another_seed_others(kind: str):
    factors = {"a": UNIT, "b": {"low": 0.001, "high": 1, "log": True}, "c": ["x", "y"]}
    once = made(kind, factors, samples=8)
    assert once.rows == made(kind, factors, samples=8).rows
    assert once.rows != made(kind, factors, samples=8, seed=2).rows
    values = [row[1] for row in once.rows]
    assert min(values) >= 0.001
    assert max(values) <= 1
    assert {row[2] for row in once.rows} == {"x", "y"}
    assert all(value == float(f"{value:.6g}") for value in values), "what is shown is simulated"


@pytest.mark.parametrize("kind", ["random", "sobol", "morris", "saltelli"])
def test_more_samples_keep_the_rows_that_are_there(kind: str):
    few, many = (made(kind, {"a": UNIT, "b": UNIT}, samples=n) for n in (6, 12))
    assert many.rows[: len(few.rows)] == few.rows
    assert len(many.rows) > len(few.rows)


def test_a_latin_hypercube_has_one_value_in_each_stratum():
    rows = made("latin_hypercube", {"a": UNIT, "b": UNIT}, samples=10).rows
    for column in zip(*rows, strict=True):
        assert sorted(int(value * 10) for value in column) == list(range(10))


def test_a_morris_trajectory_changes_one_factor_at_a_time():
    found = made("morris", {"a": UNIT, "b": UNIT, "c": ["x", "y"]}, samples=5)
    assert found.unit is not None
    trajectories = found.unit.reshape(5, 4, 3)
    changed = (np.diff(trajectories, axis=1) != 0).sum(axis=2)
    assert (changed == 1).all()


def test_saltelli_crosses_two_samples_in_one_factor():
    found = made("saltelli", {"a": UNIT, "b": UNIT}, samples=4)
    assert found.unit is not None
    blocks = found.unit.reshape(4, 4, 2)
    a, crossed, b = blocks[:, 0], blocks[:, 1:-1], blocks[:, -1]
    for factor in range(2):
        expected = a.copy()
        expected[:, factor] = b[:, factor]
        assert np.array_equal(crossed[:, factor], expected)


def test_draws_that_are_equal_become_one_point():
    found = made("random", {"a": [0, 1], "b": [0, 1]}, samples=50)
    assert len(found.rows) == 4
    assert len(found.row_of) == 50
    assert set(found.row_of.tolist()) == {0, 1, 2, 3}


def test_whole_numbers_are_equally_likely_at_both_ends():
    found = made("sobol", {"a": {"low": 1, "high": 4, "integer": True}}, samples=64)
    counts = np.bincount([found.rows[row][0] for row in found.row_of])
    assert counts.tolist() == [0, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("kind", "factors", "words"),
    [
        ("grid", None, "a design needs factors"),
        ("grid", {}, "a design needs factors"),
        ("grid", {"a": 3}, "a range .* or a list"),
        ("grid", {"a": []}, "a list without a value"),
        ("grid", {"a": [1, 1]}, "1 is in the list twice"),
        ("sobol", {"a": {"low": 2, "high": 1}}, "low=2 is not below high=1"),
        ("sobol", {"a": {"low": 0, "high": 1, "log": True}}, "begins above 0"),
        ("sobol", {"a": {"low": 0.5, "high": 1, "integer": True}}, "not whole numbers"),
        ("sobol", {"a": {"low": 0, "hihg": 1}}, "hihg"),
        ("list", {"a": [1, 2], "b": [1]}, "a has 2, b has 1"),
        ("list", {"a": UNIT}, "a is a range"),
    ],
)
def test_factors_that_are_none_are_refused_in_words(kind: str, factors: Any, words: str):
    with pytest.raises(ValidationError, match=words):
        config(kind, factors)


def test_parts_of_keys_may_be_mappings():
    found = config("grid", {"adversary": {"share": {"low": 0, "high": 1}, "count": [1, 2]}})
    assert list(found.factors) == ["adversary.share", "adversary.count"]
