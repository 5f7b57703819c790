"""Damaged and hostile input: every piece is refused in words that name the place, none is accepted.

About a thousand pieces, the same each time, in this process.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.checkpoint import CheckpointFolder, Stored, decode
from sim_core.config import ExperimentConfig, ModelConfig
from sim_core.errors import CheckpointMismatch, ConfigurationError, DataError, QuorumlabError
from sim_core.ledger.store import Claim
from sim_core.ledger.verify import verify_run
from sim_core.plan import Point, plan_runs
from sim_core.simulate import RunSpec, simulate
from sim_core.simulated_network import SimulatedNetwork
from tasks.simulate_shard import load_checkpoint
from tests.faults.hostile_checkpoints import damaged_bytes, forged_checkpoints
from tests.faults.hostile_configurations import (
    CONFIG_NAMES,
    SWEEPS,
    hostile_overrides,
    wrong_settings,
)
from tests.faults.hostile_entries import change, changed_entries
from tests.ledger_tools import execute, open_ledger, register, run_specs

CAUGHT: dict[str, Any] = {
    "simulation": {"nodes": 10, "flows_per_node": 20, "steps": 12},
    "traffic": {
        "kind": "synthetic",
        "campaigns": [{"family": "ddos", "start": 1, "duration": 9, "flow_share": 0.5}],
    },
    "adversary": {"kind": "poisoner", "share": 0.3},
}
"""A run with entries of all kinds."""
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
    assert len(inputs) > 150
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


# --- rows of steps ------------------------------------------------------------------------


def test_changed_entries_break_the_chain(tmp_path: Path):
    """Each column of each table, and rows that are gone, doubled or moved; see also test_validation."""
    (spec,) = run_specs(CAUGHT, replicates=1, detail="all")
    ledger = open_ledger(tmp_path / "sound")
    register(ledger, "e", [spec])
    execute(ledger, spec)
    (row,) = ledger.runs_of("e")
    assert verify_run(ledger, row) is None
    ledger.dispose()
    changes = changed_entries(tmp_path / "sound" / "ledger.db")[::2]
    assert len(changes) > 50
    wrong = []
    for what, statement in changes:
        shutil.copy(tmp_path / "sound" / "ledger.db", tmp_path / "ledger.db")
        change(tmp_path / "ledger.db", statement)
        ledger = open_ledger(tmp_path)
        found = verify_run(ledger, row)
        ledger.dispose()
        if found is None or found.run_key != spec.run_key or not found.message.isprintable():
            wrong.append(f"{what}: {found}")
    assert wrong == []


# --- data files ---------------------------------------------------------------------------

ROWS = "".join(f"{i % 7},{i * 0.5},{'benign' if i % 3 else 'attack'}\n" for i in range(120))
TABLES: dict[str, bytes] = {
    "empty": b"",
    "only a heading": b"a,b,label\n",
    "NUL bytes": ("a,b,label\n" + ROWS).replace("0.5", "0\0.5").encode(),
    "binary": bytes(range(256)) * 40,
    "UTF-16": ("a,b,label\n" + ROWS).encode("utf-16"),
    "no label": ("a,b,colour\n" + ROWS).encode(),
    "twice the same column": ("a,a,label\n" + ROWS).encode(),
    "too few cells": ("a,b,label\n" + ROWS + "1,2\n").encode(),
    "too many cells": ("a,b,label\n" + ROWS + "1,2,benign,4\n").encode(),
    "NaN": ("a,b,label\n" + ROWS + "nan,2,benign\n").encode(),
    "infinity": ("a,b,label\n" + ROWS + "1e999,2,benign\n").encode(),
    "no number": ("a,b,label\n" + ROWS + "1,2; DROP TABLE run,benign\n").encode(),
    "empty cell": ("a,b,label\n" + ROWS + ",2,benign\n").encode(),
    "no label in a row": ("a,b,label\n" + ROWS + "1,2,\n").encode(),
    "quote without end": ("a,b,label\n" + ROWS + '"1,2,benign\n').encode(),
    "a cell without end": ("a,b,label\n" + ROWS + "9" * 200_000 + ",2,benign\n").encode(),
    "all alike": ("a,b,label\n" + "1,2,attack\n" * 50).encode(),
    "HTML": b"<!doctype html><html><body>404</body></html>",
    "a formula": b"a,b,label\n=cmd|' /C calc'!A0,2,benign\n" * 30,
}
EDGES: dict[str, bytes] = {
    "a node that is none": b"0,1\n0,99\n",
    "below zero": b"0,-1\n",
    "its own neighbour": b"0,1\n2,2\n",
    "three numbers": b"0,1,2\n",
    "one number": b"0\n",
    "no numbers": b"a,b\n",
    "a fraction": b"0.5,1\n",
    "binary": bytes(range(256)),
    "huge": b"0," + b"9" * 5_000 + b"\n",
    "other digits": "0,²\n".encode(),
    "NUL bytes": b"0,\x001\n",
    "infinity": b"0,inf\n",
}


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_damaged_tables_are_refused(tmp_path: Path, ending: str):
    def take(what: str) -> None:
        path = tmp_path / f"data.{ending}"
        path.write_bytes(TABLES[what])
        columns = {"label": "y" if ending == "npz" else "label"}
        traffic = {"kind": "table", "path": str(path), "columns": columns}
        settings = {"simulation": {"nodes": 4, "steps": 2}, "traffic": traffic}
        SimulatedNetwork(ModelConfig.model_validate(settings))

    assert accepted(TABLES, take, DataError, names=lambda _: f"data.{ending}") == []


def test_damaged_edge_lists_are_refused(tmp_path: Path):
    def take(what: str) -> None:
        path = tmp_path / "edges.txt"
        path.write_bytes(EDGES[what])
        topology = {"kind": "edge_list", "path": str(path)}
        settings = {"simulation": {"nodes": 4, "steps": 2}, "topology": topology}
        SimulatedNetwork(ModelConfig.model_validate(settings))

    assert accepted(EDGES, take, DataError, names=lambda _: "edges.txt") == []
