"""From what a user typed to a validated configuration and its points.

Configuration is data: user input names choices and values; nothing in it is evaluated.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from flows.composing import composed, provide_plugins
from flows.designs import design_points
from flows.optimise import with_choices
from flows.overrides import (
    CONF,
    refuse_config_name,
    refuse_endless,
    refuse_hostile,
    refuse_missing_choices,
)
from sim_core.config import ExperimentConfig, ModelConfig, describe_validation
from sim_core.config.explain import shortened, shown
from sim_core.errors import ConfigurationError
from sim_core.plan import Point

LONGEST_MESSAGE = 400
"""Characters of Hydra's own message that are shown."""
NOT_UNDERSTOOD = re.compile(
    r"LexerNoViableAltException: (.*?)\s*\^|no viable alternative at input '(.*?)'(?: See|$)"
)
"""What Hydra's parser says of an override that it cannot read, and where it stopped."""


def compose_experiment(
    overrides: Sequence[str], *, config_name: str = "config", multirun: bool = False
) -> tuple[ExperimentConfig, list[Point]]:
    """Return the configuration and the points of an experiment.

    With `multirun`, overrides may be sweeps (`key=a,b`, `range`, `choice`, `glob`); the points are
    all combinations, each with the points of the study.

    Raises:
        ConfigurationError: an unknown key or choice, a wrong type or value.
    """
    refuse_config_name(config_name)
    refuse_hostile(overrides)
    with initialize_config_dir(str(CONF), version_base=None, job_name="quorumlab"):
        try:
            return _compose(overrides, config_name, multirun=multirun)
        except ValidationError as error:
            raise ConfigurationError(describe_validation(error)) from error


def compose_optimisation(
    overrides: Sequence[str], *, config_name: str = "config"
) -> ExperimentConfig:
    """Return the configuration of an optimisation, with what the choices of groups stand for.

    Raises:
        ConfigurationError: an unknown key or choice, a wrong type or value, or points of another kind.
    """
    refuse_config_name(config_name)
    refuse_hostile(overrides)
    with initialize_config_dir(str(CONF), version_base=None, job_name="quorumlab"):
        try:
            values, study = _load(config_name, overrides)
            config = ExperimentConfig.model_validate(values)
            if study or config.design.kind != "none":
                raise ConfigurationError(
                    "an optimisation chooses its points itself: leave out points of a study and "
                    "design, and put what varies into optimise.factors"
                )
            return with_choices(config, lambda words: _load(config_name, [*overrides, *words])[0])
        except ValidationError as error:
            raise ConfigurationError(describe_validation(error)) from error


def _compose(
    overrides: Sequence[str], config_name: str, *, multirun: bool
) -> tuple[ExperimentConfig, list[Point]]:
    sweeps = _expand(overrides) if multirun else [list(overrides)]
    common = _common(sweeps)
    base, study = _load(config_name, common)
    config = ExperimentConfig.model_validate(base)
    if config.optimise.factors:
        raise ConfigurationError(
            "optimise.factors: the points of an optimisation are chosen by quorumlab optimise"
        )
    if config.design.kind != "none":
        if multirun or study:
            raise ConfigurationError(
                f"design={config.design.kind} makes the points of an experiment, which can have no "
                f"{'sweep' if multirun else 'points of a study'} besides: put the keys into "
                "design.factors"
            )
        return config, design_points(
            config, lambda choices: _load(config_name, [*overrides, *choices])[0]
        )
    points: list[Point] = []
    for sweep in sweeps:
        own = [override for override in sweep if override not in common]
        for label, settings in (study or {"": []}).items():
            if not own and not settings and not label:
                continue
            values, _ = _load(config_name, [*sweep, *settings])
            validated = ExperimentConfig.model_validate(values)
            name = "_".join(filter(None, [label, *(_short(override) for override in own)]))
            points.append(Point(label=name, settings=_difference(config, validated)))
    for label, count in Counter(point.label for point in points).items():
        if count > 1:
            raise ConfigurationError(f"two points are called {label!r}")
    return config, points


def _load(
    config_name: str, overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return a composed configuration as plain values, and the study's points."""
    refuse_missing_choices(overrides)
    provide_plugins(overrides)
    with _in_words(overrides):
        values = composed(config_name, overrides)
    study = values.pop("points", None) or {}
    if not isinstance(study, dict) or not all(isinstance(v, list) for v in study.values()):
        raise ConfigurationError("points must map labels to lists of overrides")
    for label, settings in study.items():
        refuse_hostile(settings, source=f"point {shown(label)}: ")
    return values, study


@contextmanager
def _in_words(overrides: Sequence[str]) -> Iterator[None]:
    """Turn whatever Hydra raises over what it was given into our own error.

    Raises:
        ConfigurationError: Hydra cannot make a configuration of it.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_describe_hydra(error)) from error
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        given = ", ".join(shown(override) for override in overrides[:5])
        raise ConfigurationError(
            f"cannot be understood: {given}: {shortened(reason, LONGEST_MESSAGE)}"
        ) from error


def _expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return one list of overrides per combination of a sweep."""
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(config_loader=loader)
    with _in_words(overrides):
        parsed = parser.parse_overrides(list(overrides))
        refuse_endless(parsed)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def _common(sweeps: Sequence[Sequence[str]]) -> list[str]:
    """Return the overrides that all points share, in order."""
    return [override for override in sweeps[0] if all(override in sweep for sweep in sweeps)]


def _short(override: str) -> str:
    """Return a label for an override: a choice by its name, a number with its key.

    >>> _short("adversary=poisoner"), _short("adversary.share=0.2")
    ('poisoner', 'share-0.2')
    >>> _short("consensus@intervention.consensus=bft"), _short("intervention.adversary.share=0.2")
    ('then-bft', 'then-share-0.2')
    """
    key, _, value = override.lstrip("+~").partition("=")
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", value).strip("-")
    group, _, package = key.partition("@")
    is_later = (package or group).startswith("intervention.") and key != "intervention.step"
    if is_later and clean.startswith("kind-"):  # a section given as a mapping
        return f"then-{clean.removeprefix('kind-')}"
    name = clean if "." not in group else f"{group.rsplit('.', 1)[-1]}-{clean}"
    return f"then-{name}" if is_later else name


def _difference(base: ExperimentConfig, other: ExperimentConfig) -> dict[str, Any]:
    """Return the top-level fields of `other` that differ from the base, whole."""
    ours, theirs = base.model_dump(mode="json"), other.model_dump(mode="json")
    fields = [key for key in theirs if theirs[key] != ours[key]]
    beyond = [key for key in fields if key not in ModelConfig.model_fields]
    if beyond:
        raise ConfigurationError(
            f"points may not differ in {', '.join(beyond)}: that never changes a result, or is the "
            "same for the whole experiment"
        )
    return {key: theirs[key] for key in fields}


def _describe_hydra(error: Exception) -> str:
    """Return Hydra's message without its advice to its own developers, and the nearest key."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        if owners := _owners(match.group(1)):
            group = match.group(1).partition(".")[0]
            return (
                f"unknown key {shown(match.group(1))} with the {group} that is chosen; it is one of "
                f"{', '.join(owners)}"
            )
        near = _nearest(match.group(1), known_keys())
        hint = f"; did you mean {near!r}?" if near else ""
        if match.group(1) == "study":
            hint = "; did you mean +study=NAME?"
        return f"unknown key {shown(match.group(1))}{hint or '.'} All keys: quorumlab run --cfg job"
    if (given := NOT_UNDERSTOOD.search(text)) is not None:
        return (
            f"cannot be understood: {shown(given[1] or given[2])}: a value with signs or spaces needs quotes of "
            "its own, as in 'KEY=\"VALUE\"'"
        )
    text = re.sub(
        r"\s*(Set the environment variable HYDRA_FULL_ERROR|Config search path).*", "", text
    )
    return shortened(text.removeprefix("In 'config': "), LONGEST_MESSAGE)


def _owners(key: str) -> list[str]:
    """Return the choices that have a key which the chosen one has not.

    >>> _owners("adversary.join_step"), _owners("adversary.shar")
    (['adversary=sybil'], [])
    """
    group, _, name = key.partition(".")
    files = sorted((CONF / group).glob("*.yaml")) if re.fullmatch(r"\w+\.\w.*", key) else []
    return [f"{group}={file.stem}" for file in files if _has(OmegaConf.load(file), name)]


def _has(config: Any, key: str) -> bool:
    """Return whether a configuration has a key with dots, whatever its value."""
    missing = object()
    return OmegaConf.select(config, key, default=missing) is not missing


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the key that was meant: one alike in the same section, or the same in another one.

    >>> keys = ["simulation", "simulation.nodes", "executor.num_cpus", "executor.address"]
    >>> _nearest("simulation.node", keys), _nearest("experiment.nodes", keys)
    ('simulation.nodes', 'simulation.nodes')
    >>> _nearest("executor.workers", keys), _nearest("simulatoin.nodes", keys)
    (None, 'simulation.nodes')
    """
    section, _, name = key.rpartition(".")
    here = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    near = difflib.get_close_matches(name, here, n=1) or [k for k in here if name in k.split("_")]
    if near:
        return here[near[0]]
    elsewhere = [k for k in known if k.rpartition(".")[2] == name]
    if elsewhere or here:
        return elsewhere[0] if elsewhere else None
    return next(iter(difflib.get_close_matches(key, known, n=1)), None)


def known_keys() -> list[str]:
    """Return every key that can be set, with dots."""

    def walk(value: Any, prefix: str) -> list[str]:
        keys = []
        for key, part in value.items():
            keys.append(f"{prefix}{key}")
            if isinstance(part, dict):
                keys += walk(part, f"{prefix}{key}.")
        return keys

    return walk(ExperimentConfig().model_dump(mode="json"), "")
