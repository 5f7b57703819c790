"""The search space of an optimisation as configurations: from rows of values to points, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.designs import Bases, changed_settings, is_group, validated, value_at
from sim_core.config import ExperimentConfig
from sim_core.config.explain import shown
from sim_core.errors import ConfigurationError
from sim_core.optimisation.asking import propose
from sim_core.optimisation.goals import aim_of
from sim_core.optimisation.space import Row, Space
from sim_core.optimisation.trials import Trial, trial_of
from sim_core.plan import Point
from sim_core.results import RunRecord

PLACE = "optimise.factors"
START = "start"


def is_optimisation(config: ExperimentConfig) -> bool:
    """Return whether an experiment's points are chosen by what others have found."""
    return bool(config.optimise.factors)


class Search:
    """What an optimisation may try, from its configuration alone."""

    def __init__(self, config: ExperimentConfig) -> None:
        """Read goals and factors.

        Raises:
            ConfigurationError: a metric or a constraint is none.
        """
        self.config = config
        self.settings = config.optimise
        self.aim = aim_of(config.optimise, config.cost)
        self.space = Space(config.optimise.factors)
        self._base = config.model_dump(mode="json")
        self._bases = Bases(self.space.keys, self._chosen, place=PLACE)

    def start_points(self) -> list[Point]:
        """Return the points that are tried first.

        Raises:
            ConfigurationError: one is none, or lies outside of the factors.
        """
        if self.settings.start is None:
            return [Point(label=START, settings={})]
        rows = [self._start_row(given) for given in self.settings.start]
        return [self.point(number, row) for number, row in enumerate(rows, 1)]

    def point(self, number: int, row: Row) -> Point:
        """Return the point of a trial.

        Raises:
            ConfigurationError: its values do not go together.
        """
        is_start = number == 1 and self.settings.start != ()
        label = START if is_start else f"t{number}"
        config = validated(self._bases, self.space.keys, row, label)
        return Point(label=label, settings=changed_settings(self._base, config))

    def row_of(self, settings: Mapping[str, Any]) -> Row:
        """Return the values of the factors at a point; None of a key that it does not have."""
        values = {**self._base, **settings}
        return tuple(_value_at(values, key) for key in self.space.keys)

    def trials(self, points: Sequence[Point], records: Sequence[RunRecord]) -> list[Trial]:
        """Return what the runs of points say, in the order of the points."""
        runs: dict[int, list[RunRecord]] = {}
        for record in records:
            runs.setdefault(record.point_index, []).append(record)
        return [
            trial_of(
                number=index + 1,
                label=point.label,
                row=self.row_of(point.settings),
                records=runs.get(index, []),
                aim=self.aim,
                replicates=self.config.experiment.replicates,
            )
            for index, point in enumerate(points)
        ]

    def next_points(self, trials: Sequence[Trial], n: int) -> list[Point]:
        """Return the points to try after these trials; fewer than `n` where no more are left."""
        seed = self.config.experiment.seed
        rows = propose(self.settings, self.aim, trials, n, seed, self.is_possible)
        return [self.point(len(trials) + k, row) for k, row in enumerate(rows, 1)]

    def is_possible(self, row: Row) -> bool:
        """Return whether the values of a row go together, and are kept as they are."""
        try:
            return self.space.params(self.row_of(self.point(0, row).settings)) is not None
        except ConfigurationError:
            return False

    def _start_row(self, given: Mapping[str, Any]) -> Row:
        unknown = [key for key in given if key not in self.space.keys]
        if unknown or not isinstance(given, Mapping):
            raise ConfigurationError(
                f"optimise.start: {unknown[0]} is none of the factors: {', '.join(self.space.keys)}. "
                "What is the same at all points is set as usual"
            )
        row = self.row_of({})
        chosen = tuple(
            given.get(key, value) if is_group(key) else value
            for key, value in zip(self.space.keys, row, strict=True)
        )
        self._expect_inside(chosen, [key for key in self.space.keys if is_group(key)])
        values = self._bases.of(chosen)
        row = tuple(given.get(key, _value_at(values, key)) for key in self.space.keys)
        self._expect_inside(row, self.space.keys)
        return row

    def _expect_inside(self, row: Row, keys: Sequence[str]) -> None:
        outside = [key for key in self.space.outside(row) if key in keys]
        if outside:
            value = dict(zip(self.space.keys, row, strict=True))[outside[0]]
            raise ConfigurationError(
                f"optimise.start: {outside[0]}={shown(value)} lies outside of its factor "
                f"{_in_words(self.space.factors[outside[0]])}: widen the factor, or start elsewhere"
            )

    def _chosen(self, choices: list[str]) -> dict[str, Any]:
        """Return the configuration with choices of groups, as the command has composed them."""
        pairs = (choice.split("=", 1) for choice in choices)
        return self._base | {group: self.settings.choices[group][name] for group, name in pairs}


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    return values[key]["kind"] if is_group(key) else value_at(values, key)


def _in_words(factor: Any) -> str:
    return str(factor) if isinstance(factor, list) else f"({factor.low:g} to {factor.high:g})"
