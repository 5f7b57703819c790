"""Damaged and hostile input: every piece is refused in words that name the place, none is accepted.

About a thousand pieces, the same each time, in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError, QuorumlabError
from sim_core.plan import Point, plan_runs
from tests.faults.hostile_configurations import (
    CONFIG_NAMES,
    SWEEPS,
    hostile_overrides,
    wrong_settings,
)

LONGEST_MESSAGE = 1_500
"""Characters of an error that somebody may still read."""


def accepted(
    inputs: Iterable[Any],
    take: Callable[[Any], object],
    expected: type[QuorumlabError],
    *,
    names: Callable[[Any], str] = lambda _: "",
) -> list[str]:
    """Return what is wrong with each input that is not refused as it should be, and how.

    Args:
        inputs: What is to be refused.
        take: What is done with it.
        expected: The error that is to come of it.
        names: What its text has to contain.
    """
    wrong = []
    for given in inputs:
        shown = f"{given!r:.150}"
        try:
            take(given)
        except expected as error:
            text = str(error)
            if len(text) > LONGEST_MESSAGE or not text.isprintable() or names(given) not in text:
                wrong.append(f"{shown}: said badly: {text!r:.300}")
        except BaseException as error:  # noqa: BLE001 - whatever else it is, it is a crash
            wrong.append(f"{shown}: {type(error).__name__}: {error!s:.200}")
        else:
            wrong.append(f"{shown}: accepted")
    return wrong


def planned(*words: str, config_name: str = "config", multirun: bool = False) -> object:
    return plan_runs(*compose_experiment(words, config_name=config_name, multirun=multirun))


# --- configurations -----------------------------------------------------------------------


def test_hostile_overrides_are_refused():
    inputs = hostile_overrides()
    assert len(inputs) > 200
    assert accepted(inputs, lambda words: planned(*words), ConfigurationError) == []


def test_hostile_sweeps_are_refused_before_they_are_made():
    take = lambda words: planned(*words, multirun=True)  # noqa: E731
    assert accepted(SWEEPS, take, ConfigurationError) == []


def test_files_outside_of_the_configuration_are_refused():
    take = lambda name: planned(config_name=name)  # noqa: E731
    assert accepted(CONFIG_NAMES, take, ConfigurationError) == []


def test_wrong_values_of_every_key_are_refused_by_the_name_of_the_key():
    """As points of a study hold them, and rows of the ledger."""
    base = ExperimentConfig()
    inputs = wrong_settings()
    assert len(inputs) > 500

    def take(given: tuple[str, Any, dict[str, Any]]) -> None:
        plan_runs(base, [Point(label="hostile", settings=given[2])])

    wrong = accepted(inputs, take, ConfigurationError, names=lambda g: g[0].removesuffix(".kind"))
    assert wrong == []


@pytest.mark.parametrize("key", ["nodes", "steps"])
def test_what_is_sound_is_accepted(key: str):
    """Or the tests above would show nothing."""
    assert accepted([(f"simulation.{key}=5",)], lambda w: planned(*w), ConfigurationError)
    point = Point(label="sound", settings={"simulation": {key: 5}})
    assert plan_runs(ExperimentConfig(), [point])
