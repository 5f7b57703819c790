"""What is better, and what is allowed: metrics with a direction, and constraints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim_core.comparison.directions import (
    BETTER_HIGHER,
    BETTER_LOWER,
    DEPENDS,
    Direction,
    direction_of,
)
from sim_core.comparison.report import expect_known
from sim_core.comparison.wording import plain
from sim_core.config import CostConfig
from sim_core.config.explain import shown
from sim_core.config.optimise import OptimiseConfig
from sim_core.errors import ConfigurationError, UserError

CONSTRAINT = re.compile(r"\s*([a-z]\w*)\s*(<=|>=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True)
class Goal:
    """A metric that should become as large, or as small, as can be."""

    metric: str
    maximise: bool

    @property
    def verb(self) -> str:
        """What is done to it."""
        return "maximise" if self.maximise else "minimise"

    def gain(self, value: float) -> float:
        """Return the value so that more is better."""
        return value if self.maximise else -value


@dataclass(frozen=True)
class Constraint:
    """A bound that the mean of a metric has to keep."""

    metric: str
    at_most: bool
    bound: float

    def excess(self, value: float) -> float:
        """Return by how much a value breaks the bound; 0 or less where it keeps it.

        >>> Constraint("f1", False, 0.5).excess(0.25), Constraint("missed", True, 10).excess(4)
        (0.25, -6)
        """
        return value - self.bound if self.at_most else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.at_most else '>='} {plain(self.bound)}"


@dataclass(frozen=True)
class Aim:
    """What an optimisation is after."""

    goals: tuple[Goal, ...]
    constraints: tuple[Constraint, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that are looked at, each once."""
        named = [*(g.metric for g in self.goals), *(c.metric for c in self.constraints)]
        return tuple(dict.fromkeys(named))


def aim_of(settings: OptimiseConfig, cost: CostConfig) -> Aim:
    """Return goals and constraints as a configuration names them.

    Raises:
        ConfigurationError: a metric is unknown, has no direction of its own, or a constraint cannot
            be read.
    """
    constraints = tuple(parse_constraint(text) for text in settings.constraints)
    _expect_metrics("optimise.metric", settings.metric, cost)
    _expect_metrics("optimise.constraints", [c.metric for c in constraints], cost)
    directions = settings.direction or (None,) * len(settings.metric)
    goals = tuple(
        Goal(metric, _is_maximised(metric, given))
        for metric, given in zip(settings.metric, directions, strict=True)
    )
    return Aim(goals, constraints)


def parse_constraint(text: str) -> Constraint:
    """Return a constraint from its text.

    >>> str(parse_constraint("benign_blocked_share <= 0.01"))
    'benign_blocked_share <= 0.01'

    Raises:
        ConfigurationError: it is none.
    """
    match = CONSTRAINT.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"optimise.constraints: {shown(text)} is no constraint: write METRIC <= NUMBER or METRIC "
            ">= NUMBER, for example 'optimise.constraints=\"benign_blocked_share <= 0.01\"'"
        )
    return Constraint(match[1], match[2] == "<=", float(match[3]))


def _expect_metrics(key: str, names: list[str] | tuple[str, ...], cost: CostConfig) -> None:
    known = BETTER_HIGHER | BETTER_LOWER | DEPENDS
    if cost.missed is None and cost.blocked is None:
        known -= {"cost"}
        if "cost" in names:
            raise ConfigurationError(
                f"{key}: cost is known only where cost.missed or cost.blocked says what mistakes cost"
            )
    try:
        expect_known("metric", names, sorted(known))
    except UserError as error:
        raise ConfigurationError(f"{key}: {error}") from error


def _is_maximised(metric: str, given: str | None) -> bool:
    if given is not None:
        return given == "maximise"
    direction = direction_of(metric)
    if direction == Direction.NEITHER:
        raise ConfigurationError(
            f"optimise.metric: whether more or less of {metric} is better depends on the question: "
            "add optimise.direction=maximise or optimise.direction=minimise (of several metrics one "
            "for each, as a list)"
        )
    return direction == Direction.HIGHER
