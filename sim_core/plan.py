"""From an experiment's configuration to the runs that it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from sim_core.config import ExperimentConfig, Frozen, LimitsConfig, ModelConfig
from sim_core.differing import Scalar, differing_values
from sim_core.errors import ConfigurationError
from sim_core.identity import experiment_key, run_keys
from sim_core.simulate import RunSpec

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class Point(Frozen):
    """One configuration of an experiment: what it replaces in the base."""

    label: Label
    """Short name for tables and plots."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Top-level fields of the configuration that differ from the base, whole."""


@dataclass(frozen=True)
class PlannedRun:
    """A run's place in the experiment."""

    point: int
    spec: RunSpec


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment."""

    key: str
    name: str
    configs: tuple[ModelConfig, ...]
    """One per point."""
    labels: tuple[str, ...]
    values: tuple[dict[str, Scalar], ...]
    """What differs between the points, one mapping of keys to values per point."""
    runs: tuple[PlannedRun, ...]

    @property
    def most_nodes(self) -> int:
        """Nodes of the largest network."""
        return max(config.simulation.nodes for config in self.configs)


def plan_runs(
    config: ExperimentConfig, points: Sequence[Point], counts: Sequence[int] | None = None
) -> Plan:
    """Return the plan of an experiment; without points, the base is the only one.

    Args:
        config: The experiment.
        points: Its points.
        counts: Replicates of each point where an experiment has grown by `experiment.until`; without
            them all have as many as they begin with.

    Raises:
        ConfigurationError: a point is invalid, two points are the same, there are too many, or the
            baseline is none of them.
        DataError: a data file is missing.
    """
    points = points or [Point(label="base")]
    section = config.experiment
    _refuse_many(len(points), config)
    configs = tuple(config.with_settings(point.settings).model_part() for point in points)
    _expect_baseline(config.comparison.baseline, points)
    for point, part in zip(points, configs, strict=True):
        _refuse_large(part, config.limits, point.label)
    rule = section.until.model_dump(mode="json") if section.until else section.replicates
    key = experiment_key(configs, section.seed, rule)
    labels = tuple(point.label for point in points)
    return Plan(
        key=key,
        name=section.name or f"{section.title}-{key[:8]}",
        configs=configs,
        labels=labels,
        values=differing_values(configs),
        runs=_planned_runs(config, configs, labels, counts or [first_count(config)] * len(configs)),
    )


def first_count(config: ExperimentConfig) -> int:
    """Return how many replicates each point has at first."""
    section = config.experiment
    return section.until.minimum if section.until else section.replicates


def grown(plan: Plan, config: ExperimentConfig, counts: Sequence[int]) -> Plan:
    """Return a plan with so many replicates of each point.

    Raises:
        DataError: a data file is missing.
    """
    return replace(plan, runs=_planned_runs(config, plan.configs, plan.labels, counts))


def _planned_runs(
    config: ExperimentConfig,
    configs: Sequence[ModelConfig],
    labels: Sequence[str],
    counts: Sequence[int],
) -> tuple[PlannedRun, ...]:
    """Return the runs of all points, by point and replicate.

    Raises:
        ConfigurationError: two points are the same.
    """
    runs: list[PlannedRun] = []
    seen: dict[str, int] = {}
    for index, (part, count) in enumerate(zip(configs, counts, strict=True)):
        for replicate, key in enumerate(run_keys(part, config.experiment.seed, range(count))):
            if seen.setdefault(key, index) != index:
                raise ConfigurationError(
                    f"points {labels[seen[key]]!r} and {labels[index]!r} are the same configuration"
                )
            spec = RunSpec(
                run_key=key,
                config=part,
                seed=config.experiment.seed,
                replicate=replicate,
                detail=config.ledger.detail,
                checkpoint_every=config.checkpoint.every,
                max_seconds=config.limits.max_seconds,
                memory_mb=config.limits.memory_mb,
                compress_checkpoints=config.checkpoint.compress,
                network_shards=config.executor.network_shards,
                fork=config.experiment.fork,
                point=labels[index],
            )
            runs.append(PlannedRun(index, spec))
    return tuple(runs)


def _refuse_many(n_points: int, config: ExperimentConfig) -> None:
    """Check the number of runs, the most that there can be, against the limit.

    Raises:
        ConfigurationError: it is larger.
    """
    until, limit = config.experiment.until, config.limits.max_runs
    replicates = until.maximum if until else config.experiment.replicates
    if n_points * replicates > limit:
        most = " at most (experiment.until.maximum)" if until else ""
        raise ConfigurationError(
            f"{n_points} points x {replicates} replicates{most} are {n_points * replicates} runs, "
            f"more than limits.max_runs={limit}"
        )


def _expect_baseline(baseline: str | None, points: Sequence[Point]) -> None:
    """Return if the point that others are to be compared with is there.

    Raises:
        ConfigurationError: it is not.
    """
    labels = [point.label for point in points]
    if baseline is not None and baseline not in labels:
        raise ConfigurationError(
            f"comparison.baseline={baseline!r} is none of the points: {', '.join(labels[:30])}"
        )


def _refuse_large(config: ModelConfig, limits: LimitsConfig, label: str) -> None:
    """Check the size of a run against what one may ask for.

    Raises:
        ConfigurationError: saying what is too large, and the limit.
    """
    size = config.simulation
    asked = {
        "simulation.nodes": (size.nodes, "max_nodes", limits.max_nodes),
        "simulation.nodes x flows_per_node": (
            size.nodes * size.flows_per_node,
            "max_flows",
            limits.max_flows,
        ),
        "simulation.steps": (size.steps, "max_steps", limits.max_steps),
    }
    for what, (found, limit, most) in asked.items():
        if found > most:
            raise ConfigurationError(
                f"point {label!r}: {what} is {found:,}, more than limits.{limit}={most}: lower the "
                "one or raise the other"
            )
