"""What distinguishes the points of an experiment from each other by configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sim_core.config import ModelConfig

Scalar = str | int | float | bool | None


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
