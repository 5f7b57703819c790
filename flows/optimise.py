"""The command `optimise`: from overrides to an experiment whose points are chosen as it goes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from flows.designs import Bases, check_factors, is_group, refuse_unfit
from flows.search import PLACE, Search
from flows.show_optimisation import DOCUMENT
from flows.trials import MAY_CHANGE, expect_same_search
from sim_core.config import ExperimentConfig
from sim_core.config.design import Range
from sim_core.errors import ConfigurationError, RunFailed
from sim_core.identity import content_hash, model_version, result_relevant
from sim_core.ledger.stored import stored_points
from sim_core.plan import Point
from sim_core.workspace import Workspace

MOST_COMBINATIONS = 200
"""Combinations of choices of groups that are looked at one by one."""


def optimise(
    overrides: Sequence[str], *, config_name: str = "config", as_json: bool = False
) -> None:
    """Choose points, run them, and say which is the best.

    Args:
        overrides: What the user typed, KEY=VALUE.
        config_name: File in `conf/`.
        as_json: Print `optimisation.json` in place of tables; what else there is goes to stderr.

    Raises:
        UserError: before anything is started or written.
        RunFailed: a run failed, or broke the protocol.
    """
    from flows.compose import compose_optimisation
    from flows.launch import launch_experiment

    config = named(compose_optimisation(overrides, config_name=config_name))
    points = points_so_far(config)
    console = Console(stderr=as_json)
    try:
        launch_experiment(config, points, console=console)
    except RunFailed:
        _print_document(config, as_json=as_json)
        raise
    _print_document(config, as_json=as_json)


def _print_document(config: ExperimentConfig, *, as_json: bool) -> None:
    workspace = Workspace(config.workspace.expanduser().absolute())
    path = workspace.experiment(str(config.experiment.name)) / DOCUMENT
    if as_json and path.is_file():
        Console().print_json(path.read_text("utf-8"))


def with_choices(
    config: ExperimentConfig, compose: Callable[[list[str]], dict[str, Any]]
) -> ExperimentConfig:
    """Return a configuration that says what the choices of its factors stand for, all checked.

    Raises:
        ConfigurationError: naming the factor or the key, and what is wrong with it.
    """
    factors = config.optimise.factors
    if not factors:
        raise ConfigurationError(
            "optimise.factors: say what may vary, for example "
            "'optimise.factors={adversary.share: {low: 0, high: 0.5}}'"
        )
    if config.experiment.until is not None:
        raise ConfigurationError(
            "experiment.until: the points of an optimisation have the same number of replicates each: "
            "set experiment.replicates"
        )
    refuse_unfit(factors, place=PLACE)
    bases = Bases(tuple(factors), compose, place=PLACE)
    rows = _combinations(factors)
    check_factors(factors, bases, rows)
    choices = {
        group: {row[index]: bases.of(row)[group] for row in rows}
        for index, group in enumerate(factors)
        if is_group(group)
    }
    found = config.optimise.model_copy(update={"choices": choices})
    return config.with_settings({"optimise": found.model_dump(mode="json")})


def _combinations(factors: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return a row for each combination of choices, the first value of all else.

    Raises:
        ConfigurationError: there are too many to look at each.
    """
    parts = [
        names if is_group(key) else [names.low if isinstance(names, Range) else names[0]]
        for key, names in factors.items()
    ]
    n = math.prod(map(len, parts))
    if n > MOST_COMBINATIONS:
        raise ConfigurationError(
            f"optimise.factors: {n:,} combinations of choices of groups, {MOST_COMBINATIONS} are the "
            "most: fewer choices"
        )
    return list(itertools.product(*parts))


def named(config: ExperimentConfig) -> ExperimentConfig:
    """Return a configuration with a name: without one of its own, by what it searches.

    More trials have the same name, so that they go on where it was.
    """
    if config.experiment.name is not None:
        return config
    content = {
        "base": {**result_relevant(config.model_part()), "steps": config.simulation.steps},
        "search": config.optimise.model_dump(mode="json", exclude=MAY_CHANGE),
        "seed": config.experiment.seed,
        "replicates": config.experiment.replicates,
        "cost": config.cost.model_dump(mode="json"),
        "model": model_version(),
    }
    name = f"{config.experiment.title}-{content_hash(content)[:8]}"
    section = config.experiment.model_copy(update={"name": name})
    return config.model_copy(update={"experiment": section})


def points_so_far(config: ExperimentConfig) -> list[Point]:
    """Return the points that the ledger has of an optimisation, or those to begin with.

    Raises:
        UserError: the search makes no sense, or an experiment of this name is another one.
    """
    search = Search(config)
    _expect_room(config)
    workspace = Workspace(config.workspace.expanduser().absolute())
    if workspace.has_ledger:
        from flows.inspect import opened

        with opened(config.workspace) as (_, ledger):
            existing = ledger.experiment(str(config.experiment.name))
        if existing is not None:
            before, points = stored_points(existing)
            expect_same_search(before, config)
            return points
    return first_points(search)


def first_points(search: Search) -> list[Point]:
    """Return the first batch: where to start, filled up by the sampler.

    Raises:
        ConfigurationError: there is no point to begin with.
    """
    settings = search.settings
    starts = search.start_points()[: settings.trials]
    trials = search.trials(starts, [])
    n = min(settings.batch, settings.trials) - len(starts)
    points = [*starts, *(search.next_points(trials, n) if n > 0 else [])]
    if not points:
        raise ConfigurationError(
            "optimise.factors: no combination of their values makes a configuration: write values of "
            "lists as the key has them, and see that bounds go together"
        )
    return points


def _expect_room(config: ExperimentConfig) -> None:
    """Check the runs that will be asked for in the end.

    Raises:
        ConfigurationError: they are more than the limit.
    """
    runs = config.optimise.trials * config.experiment.replicates
    if runs > config.limits.max_runs:
        raise ConfigurationError(
            f"optimise.trials={config.optimise.trials} with {config.experiment.replicates} replicates "
            f"each are {runs:,} runs, more than limits.max_runs={config.limits.max_runs}"
        )
