"""From factors to the rows of a design: values of keys, before they become configurations."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config.design import AnyDesign, Factor, GridDesign, ListDesign
from sim_core.designs.unit_cube import draw_unit_cube
from sim_core.errors import ConfigurationError

MOST_ROWS = 1_000_000
DIGITS = 6
"""Significant digits of a value from a range: so many are shown, and so many are simulated."""


@dataclass(frozen=True)
class Design:
    """The rows of a design, and the different ones among them, which become points."""

    keys: tuple[str, ...]
    """The factors."""
    rows: tuple[tuple[Any, ...], ...]
    """Different values of the factors, in the order in which they appear first."""
    row_of: NDArray[np.int64]
    """Per draw `[n_draws]` the number of its row: choices and whole numbers make draws equal."""
    unit: NDArray[np.float64] | None
    """The draws in the unit cube `[n_draws, n_factors]`; None where nothing is drawn."""


def make_design(design: AnyDesign) -> Design:
    """Return the rows of a design.

    >>> from sim_core.config.design import GridDesign
    >>> make_design(GridDesign(factors={"a": ["x", "y"], "b": {"low": 0, "high": 1}}, levels=2)).rows
    (('x', 0.0), ('x', 1.0), ('y', 0.0), ('y', 1.0))

    Raises:
        ConfigurationError: it has more rows than anybody can run.
    """
    keys = tuple(design.factors)
    if isinstance(design, GridDesign | ListDesign):
        unit, draws = None, _listed(design)
    else:
        _refuse_endless(design.samples * (len(keys) + 2))
        unit = draw_unit_cube(design)
        columns = [
            [value_at(factor, u) for u in unit[:, index].tolist()]
            for index, factor in enumerate(design.factors.values())
        ]
        draws = list(zip(*columns, strict=True))
    numbers: dict[str, int] = {}
    rows: list[tuple[Any, ...]] = []
    row_of = np.empty(len(draws), dtype=np.int64)
    for index, draw in enumerate(draws):
        number = numbers.setdefault(json.dumps(draw), len(rows))
        if number == len(rows):
            rows.append(draw)
        row_of[index] = number
    return Design(keys, tuple(rows), row_of, unit)


def _listed(design: GridDesign | ListDesign) -> list[tuple[Any, ...]]:
    if isinstance(design, ListDesign):
        lists = [factor for factor in design.factors.values() if isinstance(factor, list)]
        return list(zip(*lists, strict=True))
    levels = [grid_values(factor, design.levels) for factor in design.factors.values()]
    _refuse_endless(math.prod(len(values) for values in levels))
    return list(itertools.product(*levels))


def _refuse_endless(n_rows: int) -> None:
    if n_rows > MOST_ROWS:
        raise ConfigurationError(
            f"design: {n_rows:,} points, {MOST_ROWS:,} are the most: fewer samples, levels or factors"
        )


def grid_values(factor: Factor, levels: int) -> list[Any]:
    """Return the values of a factor in a grid; whole numbers that coincide count once.

    >>> from sim_core.config.design import Range
    >>> grid_values(Range(low=1, high=100, log=True), 3), grid_values(["a", "b"], 5)
    ([1.0, 10.0, 100.0], ['a', 'b'])
    """
    if isinstance(factor, list):
        return factor
    low, high = factor.low, factor.high
    if factor.integer:
        evenly = np.geomspace(low, high, levels) if factor.log else np.linspace(low, high, levels)
        return list(dict.fromkeys(round(value) for value in evenly.tolist()))
    return [value_at(factor, level / (levels - 1)) for level in range(levels)]


def value_at(factor: Factor, unit: float) -> Any:
    """Return the value of a factor at a place from 0 to 1; values are equally likely.

    >>> from sim_core.config.design import Range
    >>> value_at(Range(low=1, high=6, integer=True), 0.99), value_at(["a", "b"], 0.5)
    (6, 'b')
    """
    if isinstance(factor, list):
        return factor[min(int(unit * len(factor)), len(factor) - 1)]
    low, high = factor.low, factor.high
    top = high + 1 if factor.integer else high
    if factor.log:
        value = math.exp(math.log(low) + unit * (math.log(top) - math.log(low)))
    else:
        value = low + unit * (top - low)
    if factor.integer:
        return int(min(max(math.floor(value), low), high))
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
