"""From the rows of a design to validated points, without composing each of them anew."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from flows.overrides import CONF, choices_of, refuse_hostile
from sim_core.config import ExperimentConfig, ModelConfig, describe_validation
from sim_core.config.design import AnyDesign, Factor, NoDesign, Range
from sim_core.config.explain import shown
from sim_core.designs import Design, make_design
from sim_core.errors import ConfigurationError
from sim_core.plan import Point

Compose = Callable[[list[str]], dict[str, Any]]
"""From choices `GROUP=NAME` to a composed configuration as plain values."""
LONGEST_LABEL = 40
PLACE = "design.factors"


def design_points(config: ExperimentConfig, compose: Compose) -> list[Point]:
    """Return the points of a configuration's design, each validated like any other point.

    A factor that is a group of choices is composed once per combination of choices; all other
    values are set on what is composed.

    Raises:
        ConfigurationError: naming the factor, and what is wrong with it or one of its values.
    """
    assert not isinstance(config.design, NoDesign)
    factors = config.design.factors
    refuse_unfit(factors)
    design = make_design(config.design)
    bases = Bases(design.keys, compose)
    check_factors(factors, bases, design.rows)
    base = config.model_dump(mode="json")
    labels = row_labels(config.design, design)
    return [
        Point(
            label=label, settings=changed_settings(base, validated(bases, design.keys, row, label))
        )
        for label, row in zip(labels, design.rows, strict=True)
    ]


def row_labels(config: AnyDesign, design: Design) -> list[str]:
    """Return a short name for each row: its values where they are few and listed, else a number."""
    if config.kind in ("grid", "list"):
        labels = [_spoken(design.keys, row) for row in design.rows]
        if max(map(len, labels)) <= LONGEST_LABEL and max(Counter(labels).values()) == 1:
            return labels
    return [f"p{number}" for number in range(1, len(design.rows) + 1)]


def _spoken(keys: tuple[str, ...], row: tuple[Any, ...]) -> str:
    """Return values as a label.

    >>> _spoken(("adversary", "adversary.share"), ("flipper", 0.2))
    'flipper_share-0.2'
    """
    parts = []
    for key, value in zip(keys, row, strict=True):
        clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(value)).strip("-")
        parts.append(clean if "." not in key else f"{key.rsplit('.', 1)[-1]}-{clean}")
    return "_".join(parts)


class Bases:
    """Composed configurations by the choices of groups that are factors."""

    def __init__(self, keys: tuple[str, ...], compose: Compose, *, place: str = PLACE) -> None:
        """Compose nothing before it is asked for; `place` is where the factors stand."""
        self.place = place
        self.groups = [index for index, key in enumerate(keys) if is_group(key)]
        self._keys = keys
        self._compose = compose
        self._composed: dict[tuple[str, ...], dict[str, Any]] = {}

    def of(self, row: tuple[Any, ...]) -> dict[str, Any]:
        """Return the configuration with a row's choices; not to be changed."""
        choices = tuple(f"{self._keys[index]}={row[index]}" for index in self.groups)
        if choices not in self._composed:
            refuse_hostile(choices, source=f"{self.place}: ")
            self._composed[choices] = self._compose(list(choices))
        return self._composed[choices]


def is_group(key: str) -> bool:
    """Return whether a key is that of a group of choices, such as `adversary`."""
    return "." not in key and key.isidentifier() and (CONF / key).is_dir()


def refuse_unfit(factors: Mapping[str, Factor], *, place: str = PLACE) -> None:
    """Check what can be said of factors without a configuration.

    Raises:
        ConfigurationError: a factor never changes a result, or a group has a range.
    """
    for key, factor in factors.items():
        if key == "simulation.steps":
            raise ConfigurationError(
                f"{place}: simulation.steps makes no other points: a short run is the beginning "
                "of a long one, and each step's figures are in steps.parquet"
            )
        top = key.split(".")[0]
        if top in ExperimentConfig.model_fields and top not in ModelConfig.model_fields:
            raise ConfigurationError(
                f"{place}: {key} never changes a result, or is the same for the whole experiment"
            )
        if is_group(key) and not (isinstance(factor, list) and all(map(_is_choice, factor))):
            names = ", ".join(choices_of(key))
            raise ConfigurationError(
                f"{place}: {key} is a group and takes a list of its choices: {names}"
            )


def _is_choice(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9_]+", value) is not None


def check_factors(
    factors: Mapping[str, Factor], bases: Bases, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Look at the ends of each factor alone, so that a message can name it and the bound.

    Raises:
        ConfigurationError: the key does not exist, or a bound is outside of what it may be.
    """
    choices = {tuple(row[i] for i in bases.groups): row for row in rows}
    for row in choices.values():
        base = bases.of(row)
        for key, factor in factors.items():
            if is_group(key):
                continue
            place = f"{bases.place}: {key}"
            for where, value in _ends(factor):
                values = copy.deepcopy(base)
                _set(values, key, value, bases.place)
                if (reason := _objection(values, key)) is not None:
                    raise ConfigurationError(f"{place}: {where} {shown(value)}: {reason}")


def _ends(factor: Factor) -> Iterator[tuple[str, Any]]:
    if isinstance(factor, Range):
        number = int if factor.integer else float
        yield "low", number(factor.low)
        yield "high", number(factor.high)
        if not factor.integer:  # a key of whole numbers takes both ends, and little between them
            yield "between", round(factor.low + (factor.high - factor.low) / math.pi, 6)
    else:
        yield from (("value", value) for value in factor)


def _objection(values: dict[str, Any], key: str) -> str | None:
    """Return what the schema has against the value of a key; None where nothing, or another's."""
    try:
        ExperimentConfig.model_validate(values)
    except ValidationError as error:
        last = key.rpartition(".")[2]
        mine = [e for e in error.errors() if e["loc"] and e["loc"][0] == key.split(".")[0]]
        found = [e for e in mine if last in map(str, e["loc"])]
        if any(e["type"] == "int_from_float" for e in found):
            return "it takes whole numbers only: add integer: true to its range"
        return next((e["msg"] for e in found), None)
    return None


def _set(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a value by its key with dots.

    Raises:
        ConfigurationError: there is no such key, with the nearest that exist.
    """
    above, _, last = key.rpartition(".")
    place = value_at(values, above)
    if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
        raise ConfigurationError(f"{source}: {_unknown(values, key)}")
    place[last] = value


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """Return what is at a key with dots, where things in lists have numbers; None where nothing is.

    >>> value_at({"a": {"b": [{"c": 1}, {"c": 2}]}}, "a.b.1.c"), value_at({"a": [1]}, "a.7")
    (2, None)
    """
    place: Any = values
    for part in key.split("."):
        if isinstance(place, Mapping):
            place = place.get(part)
        else:
            is_there = isinstance(place, list) and part.isdecimal() and int(part) < len(place)
            place = place[int(part)] if is_there else None
    return place


def _unknown(values: dict[str, Any], key: str) -> str:
    known = [k for k in _paths(values, "") if k.split(".")[0] in ModelConfig.model_fields]
    known += [name for name in ModelConfig.model_fields if is_group(name)]
    group = key.split(".")[0]
    chosen = values.get(group)
    near = difflib.get_close_matches(key, known, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else "."
    here = ""
    if isinstance(chosen, dict) and "kind" in chosen:
        here = f" with {group}={chosen['kind']}, as here"
    return f"no key {shown(key)}{here}{hint} All keys: quorumlab run --cfg job"


def _paths(values: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, part in values.items():
        if isinstance(part, dict):
            yield from _paths(part, f"{prefix}{name}.")
        elif name != "kind":
            yield f"{prefix}{name}"


def validated(
    bases: Bases, keys: tuple[str, ...], row: tuple[Any, ...], label: str
) -> ExperimentConfig:
    """Return the configuration of a row.

    Raises:
        ConfigurationError: naming the point and its values.
    """
    base = bases.of(row)
    values = dict(base)
    for index, key in enumerate(keys):
        if index in bases.groups:
            continue
        top = key.split(".")[0]
        if values[top] is base[top]:
            values[top] = copy.deepcopy(base[top])
        _set(values, key, row[index], bases.place)
    try:
        return ExperimentConfig.model_validate(values)
    except ValidationError as error:
        settings = ", ".join(f"{key}={value}" for key, value in zip(keys, row, strict=True))
        raise ConfigurationError(
            f"point {label} ({settings}): {describe_validation(error)}"
        ) from error


def changed_settings(base: dict[str, Any], other: ExperimentConfig) -> dict[str, Any]:
    """Return the fields of a point that differ from the base, whole."""
    theirs = other.model_dump(mode="json", include=set(ModelConfig.model_fields))
    return {key: value for key, value in theirs.items() if value != base[key]}
