"""What varies between points, as far as a picture can have it as an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sim_core.comparison.pairing import LARGEST
from sim_core.comparison.wording import plain
from sim_core.results import Interval

ABSENT = "(none)"


@dataclass(frozen=True)
class Spot:
    """A point of an experiment: where it is among the factors, and what was measured there."""

    label: str
    values: Mapping[str, Any]
    """What differs between points, by key."""
    intervals: Mapping[str, Interval]

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over the replicates, or None where it is undefined."""
        found = self.intervals.get(metric)
        mean = None if found is None else found.mean
        return mean if mean is not None and abs(mean) < LARGEST else None

    def n(self, metric: str) -> int:
        """Return over how many replicates."""
        found = self.intervals.get(metric)
        return 0 if found is None else found.n


@dataclass(frozen=True)
class Factor:
    """A key of the configuration that varies, with its value at each point."""

    name: str
    values: tuple[Any, ...]

    @cached_property
    def is_number(self) -> bool:
        """Whether values are numbers, so that distances between them mean something."""
        return all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in self.values
        )

    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """Values that occur: numbers by size, others in order of the points."""
        found = tuple(dict.fromkeys(self.values))
        return tuple(sorted(found)) if self.is_number else found

    def word(self, value: Any) -> str:
        """Return a value as an axis has it."""
        if value is None:
            return ABSENT
        if isinstance(value, bool):
            return "true" if value else "false"
        return plain(value) if isinstance(value, float) else str(value)


def factors_of(spots: Sequence[Spot]) -> list[Factor]:
    """Return the factors of some points, without those that follow from another.

    How many liars there are follows from which liars there are, where each kind has its share.

    >>> values = [{"a": "none", "b": 1}, {"a": "liar", "a.share": 0.2, "b": 1}, {"a": "none", "b": 2}]
    >>> [factor.name for factor in factors_of([Spot("", v, {}) for v in values])]
    ['a', 'b']
    """
    keys = dict.fromkeys(key for spot in spots for key in spot.values)
    factors = [Factor(key, tuple(spot.values.get(key) for spot in spots)) for key in keys]
    kept = [factor for factor in factors if len(factor.levels) > 1]
    for factor in sorted(kept, key=lambda f: len(f.name), reverse=True):
        if any(other is not factor and _follows(factor, other) for other in kept):
            kept = [other for other in kept if other is not factor]
    return kept


def _follows(factor: Factor, other: Factor) -> bool:
    """Return whether a factor's value is known where another's is, which says less than the point."""
    pairs = set(zip(other.values, factor.values, strict=True))
    return len(pairs) == len(other.levels) < len(factor.values)
