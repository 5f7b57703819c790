"""From an experiment's configuration to the runs that it consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from sim_core.config import ExperimentConfig, Frozen, LimitsConfig, ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.identity import experiment_key, run_keys
from sim_core.simulate import RunSpec

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Scalar = str | int | float | bool | None


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


def differing_values(configs: Sequence[ModelConfig]) -> tuple[dict[str, Scalar], ...]:
    """Return, per configuration, the keys whose values are not the same in all of them.

    A choice of a group is given under the group's name (`detector: zscore`); its own settings
    only where they differ between points that made the same choice. What an intervention leaves as
    it was has the value that it had.
    """
    fields = set(ModelConfig.model_fields)
    return differing_settings([c.model_dump(mode="json", include=fields) for c in configs])


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Scalar], ...]:
    """Return the same of configurations as the ledger has them.

    >>> differing_settings([{"detector": {"kind": "ecod"}}, {"detector": {"kind": "zscore"}}])
    ({'detector': 'ecod'}, {'detector': 'zscore'})
    >>> differing_settings([{"campaigns": [{"start": 1}]}, {"campaigns": [{"start": 2}]}])
    ({'campaigns.0.start': 1}, {'campaigns.0.start': 2})
    """
    flat = [_flatten(config) for config in _opened(_with_what_is_left(configs))]
    keys = sorted({key for values in flat for key in values})
    differing = []
    for key in keys:
        present = [json.dumps(values[key]) for values in flat if key in values]
        group = _group_of(key)
        chosen = len({values.get(group) for values in flat}) > 1
        partly = len(present) < len(flat)
        if len(set(present)) > 1 or (partly and not chosen):
            differing.append(key)
        elif partly and key.endswith(("share", "count")) and set(present) != {"null"}:
            differing.append(key)  # how many liars there are says more than that there are some
    return tuple({key: values[key] for key in differing if key in values} for values in flat)


def _with_what_is_left(configs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return configurations whose interventions have a value for all that any of them replaces."""
    changes = [config.get("intervention", {}) for config in configs]
    replaced = {name for change in changes for name in change if change[name] is not None}
    replaced -= {"step"}
    filled: list[Mapping[str, Any]] = []
    for config, change in zip(configs, changes, strict=True):
        left = {name for name in replaced & config.keys() if change.get(name) is None}
        kept = {name: config[name] for name in left}
        filled.append({**config, "intervention": {**change, **kept}} if kept else config)
    return filled


def _group_of(key: str) -> str:
    """Return the group of choices that a key belongs to.

    >>> _group_of("detector.threshold.share"), _group_of("intervention.adversary.share")
    ('detector', 'intervention.adversary')
    """
    parts = key.split(".")
    return ".".join(parts[: 2 if parts[0] == "intervention" else 1])


def _opened(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return settings whose lists of sections, where all are equally long, are sections by number."""
    opened: list[dict[str, Any]] = [dict(values) for values in settings]
    for key in {key for values in opened for key in values}:
        parts: list[Any] = [values.get(key) for values in opened]
        if all(isinstance(part, Mapping) for part in parts):
            inner = _opened(parts)
        elif all(_is_sections(part) for part in parts) and len({len(part) for part in parts}) == 1:
            inner = [{str(index): item for index, item in enumerate(part)} for part in parts]
        else:
            continue
        for values, part in zip(opened, inner, strict=True):
            values[key] = part
    return opened


def _is_sections(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(p, Mapping) for p in part)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for key, part in value.items():
        name = prefix if key == "kind" else f"{prefix}.{key}" if prefix else key
        if isinstance(part, Mapping):
            flat |= _flatten(part, name)
        elif isinstance(part, list):
            flat[name] = json.dumps(part)
        else:
            flat[name] = part
    return flat
