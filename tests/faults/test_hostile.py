"""Damaged and hostile input: every piece is refused in words that name the place, none is accepted.

About a thousand pieces, the same each time, in this process.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.checkpoint import CheckpointFolder, Stored, decode
from sim_core.config import ExperimentConfig
from sim_core.errors import CheckpointMismatch, ConfigurationError, QuorumlabError
from sim_core.ledger.store import Claim
from sim_core.plan import Point, plan_runs
from sim_core.simulate import RunSpec, simulate
from tasks.simulate_shard import load_checkpoint
from tests.faults.hostile_checkpoints import damaged_bytes, forged_checkpoints
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


# --- checkpoints --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(make_spec: Callable[..., RunSpec]) -> RunSpec:
    return make_spec(
        simulation={"nodes": 16, "flows_per_node": 20, "steps": 12},
        adversary={"kind": "poisoner", "share": 0.3},
        dissemination={"kind": "push", "latency": 2},
        checkpoint_every=4,
    )


@pytest.fixture(scope="module")
def contents(spec: RunSpec) -> list[bytes]:
    """Return the checkpoints of a run, oldest first, of which proposals are pending."""
    found = [segment.checkpoint for segment in simulate(spec)]
    assert len(decode(found[1], spec.run_key).proposals)
    return found


def test_forged_checkpoints_are_refused(spec: RunSpec, contents: list[bytes]):
    """Whose checksum is that of the ledger: type, shape, length and range of every array, and the rest."""
    inputs = forged_checkpoints(contents[1])
    assert len(inputs) > 250
    take = lambda given: decode(given[1], spec.run_key, source="a/file.ckpt")  # noqa: E731
    wrong = accepted(inputs, take, CheckpointMismatch, names=lambda _: "a/file.ckpt")
    assert wrong == []


def test_forged_checkpoint_of_another_size_is_refused(spec: RunSpec, make_spec: Any):
    smaller = make_spec(simulation={"nodes": 8, "flows_per_node": 20, "steps": 4})
    (segment,) = simulate(replace(smaller, run_key=spec.run_key))
    with pytest.raises(CheckpointMismatch, match="expected 16 nodes, found 8"):
        next(simulate(spec, segment.checkpoint))


def test_damaged_checkpoint_files_are_passed_over(
    spec: RunSpec, contents: list[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """By the way of a run that goes on: the one before is used; without one, the start."""
    folder = CheckpointFolder(tmp_path)
    older, newer = (
        folder.write(content, run_key=spec.run_key, step=step, epoch=1)
        for content, step in zip(contents[:2], (4, 8), strict=True)
    )
    claim = Claim(1, spec.run_key, 1, 8, "decisions", (newer, older))
    alone = replace(claim, checkpoints=(newer,))
    log = logging.getLogger("hostile")
    assert load_checkpoint(claim, folder, log) == (8, contents[1])
    inputs = damaged_bytes(contents[1], 200)
    for damaged in inputs:
        (tmp_path / newer.name).write_bytes(damaged)
        caplog.clear()
        assert load_checkpoint(claim, folder, log) == (4, contents[0])
        assert load_checkpoint(alone, folder, log) == (0, None)
        assert newer.name in caplog.text
    forged = [content for _, content in forged_checkpoints(contents[1])][::10]
    for content in forged:
        (tmp_path / newer.name).write_bytes(content)
        stored = replace(newer, sha256=hashlib.sha256(content).hexdigest())
        chosen = replace(claim, checkpoints=(stored, older))
        assert load_checkpoint(chosen, folder, log) == (4, contents[0])


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", ".", "a\0b", "x" * 5_000])
def test_checkpoint_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str):
    (tmp_path / "outside").write_bytes(b"secret")
    folder = CheckpointFolder(tmp_path / "checkpoints")
    stored = Stored(name, hashlib.sha256(b"secret").hexdigest(), 6)
    with pytest.raises(CheckpointMismatch):
        folder.read(stored)
    with pytest.raises(CheckpointMismatch):
        folder.remove(name)
    assert (tmp_path / "outside").exists()
