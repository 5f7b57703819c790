"""Where an optimisation looks: factors, the rows of values that they allow, and how many."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sim_core.config.design import Factor, RandomDesign, Range, SobolDesign
from sim_core.designs import make_design
from sim_core.designs.rows import DIGITS

Row = tuple[Any, ...]
"""A value of each factor."""
MOST_LISTED = 100_000
"""Rows of a space that are listed to find those that are left."""
MOST_DRAWN = 2**16
FULL = 8
"""Times the size of a space after which a sequence has shown nearly all of it."""


class Space:
    """All rows of values that factors allow."""

    def __init__(self, factors: Mapping[str, Factor]) -> None:
        """Keep the factors, in order."""
        self.factors = dict(factors)
        self.keys = tuple(self.factors)

    @property
    def size(self) -> int | None:
        """How many rows there are; None where a factor may have any value of a range."""
        sizes = [_size(factor) for factor in self.factors.values()]
        known = [size for size in sizes if size is not None]
        return math.prod(known) if len(known) == len(sizes) else None

    @property
    def is_listed(self) -> bool:
        """Whether there are so few rows that all can be looked at."""
        return self.size is not None and self.size <= MOST_LISTED

    def row(self, params: Mapping[str, Any]) -> Row:
        """Return the values that Optuna's parameters stand for: numbers of lists are looked up."""
        return tuple(_value(factor, params[key]) for key, factor in self.factors.items())

    def params(self, row: Sequence[Any]) -> dict[str, Any] | None:
        """Return what Optuna calls a row; None where it lies outside.

        >>> space = Space({"a": ["x", "y"], "b": Range(low=0, high=1)})
        >>> space.params(("y", 0.25)), space.params(("y", 2.0))
        ({'a': 1, 'b': 0.25}, None)
        """
        found = {}
        for (key, factor), value in zip(self.factors.items(), row, strict=True):
            place = _place(factor, value)
            if place is None:
                return None
            found[key] = place
        return found

    def outside(self, row: Sequence[Any]) -> list[str]:
        """Return the keys whose value in a row is none that their factor allows."""
        pairs = zip(self.factors.items(), row, strict=True)
        return [key for (key, factor), value in pairs if _place(factor, value) is None]

    def drawn(self, sampler: str, n: int, seed: int) -> tuple[Row, ...]:
        """Return the first different rows of a sequence, as `design=random` or `sobol` has them."""
        kind = SobolDesign if sampler == "sobol" else RandomDesign
        return make_design(kind(factors=self.factors, samples=n, seed=seed)).rows

    def by_chance(
        self, is_new: Callable[[Row], bool], n: int, seed: int, *, passed: int
    ) -> list[Row]:
        """Return new rows by chance; fewer than `n` only where no more are left, or are found."""
        if self.is_listed:
            left = [row for row in self._all() if is_new(row)] if n else []
            order = np.random.default_rng(seed).permutation(len(left))
            return [left[index] for index in order[:n]]
        return self.first("random", is_new, n, seed, passed=passed)

    def first(
        self, sampler: str, is_new: Callable[[Row], bool], n: int, seed: int, *, passed: int
    ) -> list[Row]:
        """Return the first new rows of a sequence, in the same order however many are asked for.

        Args:
            sampler: `random` or `sobol`.
            is_new: Whether a row may be taken.
            n: How many rows.
            seed: Of the sequence.
            passed: How many rows are not new; so many more are looked at first.
        """
        most = min(MOST_DRAWN, FULL * self.size) if self.size and self.is_listed else MOST_DRAWN
        length = min(n + passed, most) if n else 0
        found: list[Row] = []
        while n and len(found) < n:
            found = [row for row in self.drawn(sampler, length, seed) if is_new(row)]
            if length >= most:
                break
            length = min(4 * length, most)
        if len(found) < n and self.is_listed:
            taken = {identity(row) for row in found}
            rest = [row for row in self._all() if is_new(row) and identity(row) not in taken]
            return [*found, *rest[: n - len(found)]]
        return found[:n]

    def _all(self) -> Iterator[Row]:
        lists = [
            range(int(factor.low), int(factor.high) + 1) if isinstance(factor, Range) else factor
            for factor in self.factors.values()
        ]
        return itertools.product(*lists)


def identity(row: Sequence[Any]) -> str:
    """Return what two rows share only if they are equal.

    >>> identity((1, "a")) == identity((1.0, "a")), identity((1,)) == identity((True,))
    (True, False)
    """
    parts = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in row]
    return json.dumps(parts, sort_keys=True)


def _size(factor: Factor) -> int | None:
    if isinstance(factor, list):
        return len(factor)
    return int(factor.high - factor.low) + 1 if factor.integer else None


def _value(factor: Factor, param: Any) -> Any:
    if isinstance(factor, list):
        return factor[param]
    if factor.integer:
        return int(param)
    return min(max(float(f"{param:.{DIGITS}g}"), factor.low), factor.high)


def _place(factor: Factor, value: Any) -> Any:
    """Return what Optuna calls a value; None where the factor does not allow it."""
    if isinstance(factor, list):
        same = identity((value,))
        return next((i for i, other in enumerate(factor) if identity((other,)) == same), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not factor.low <= value <= factor.high:
        return None
    if factor.integer:
        return int(value) if float(value).is_integer() else None
    return float(value)
