"""A small experiment whose undisturbed outcome every fault has to end in."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from sim_core.checkpoint import Checkpoint
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES, SUMMARIES
from tests.program import Program

STEPS = 60
REPLICATES = 2
OVERRIDES = (
    "experiment.name=matrix",
    f"experiment.replicates={REPLICATES}",
    "simulation.nodes=12",
    "simulation.flows_per_node=12",
    f"simulation.steps={STEPS}",
    "adversary=poisoner",
    "executor=processes",
    "executor.num_cpus=1",
)
LEDGER = ("ledger.detail=votes", "ledger.segments_at_once=1")  # a transaction per segment
TABLES = [table.name for table in (*ENTRY_TABLES.values(), BLOCKS, SUMMARIES)]
CLOCK_AND_RESOURCES = ("wall_seconds", "cpu_seconds", "peak_rss_mb", "steps_per_minute", "system/")


@dataclass(frozen=True)
class End:
    """What an experiment has left behind, without figures of clock and resources."""

    heads: dict[str, str]
    states: dict[str, str]
    rows: dict[str, list[tuple[Any, ...]]]
    """All rows of each table, by run key in place of the run's number."""
    published: dict[str, Any]
    """Status, parameters, metric histories and tags of each child in MLflow, by run key."""
    experiment: list[tuple[Any, ...]]
    """State of the experiment."""
    validation: dict[str, Any]
    """What its summary says of the validation of its ledger."""


def end_of(program: Program, mlflow: Path | None = None) -> End:
    """Return what the experiment has left behind, in MLflow's database of the workspace or another."""
    runs = dict(program.query("SELECT id, run_key FROM run"))
    return End(
        heads=dict(program.query("SELECT run_key, head FROM run")),
        states=dict(program.query("SELECT run_key, state FROM run")),
        rows={
            table: sorted(
                (runs[row[0]], *row[1:]) for row in program.query(f"SELECT * FROM {table}")
            )
            for table in TABLES
        },
        published=published(mlflow or program.workspace / "mlflow.db", claims(program)),
        experiment=program.query("SELECT name, state FROM experiment"),
        validation=_summary(program)["validation"],
    )


def _summary(program: Program) -> dict[str, Any]:
    path = program.workspace / "experiments" / "matrix" / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def claims(program: Program) -> dict[str, int]:
    """Return when each run was claimed first, in milliseconds: the origin of its timestamps."""
    found = program.query("SELECT run_key, claimed_at FROM run")
    return {key: round(at * 1000) for key, at in found}


def published(database: Path, origin: dict[str, int]) -> dict[str, Any]:
    """Return what MLflow holds of each run; a run that is there twice is a key of its own."""
    if not database.exists():
        return {}
    with closing(sqlite3.connect(database)) as store:
        found: dict[str, Any] = {}
        children = store.execute(
            "SELECT runs.run_uuid, tags.value, runs.status FROM runs JOIN tags "
            "ON tags.run_uuid = runs.run_uuid WHERE tags.key = 'quorumlab.run_key' "
            "AND runs.lifecycle_stage = 'active'"
        ).fetchall()
        for uuid, key, status in children:
            metrics = store.execute(
                "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ?",
                (uuid,),
            )
            params = store.execute("SELECT key, value FROM params WHERE run_uuid = ?", (uuid,))
            assert key not in found, f"run {key[:12]} is in MLflow twice"
            found[key] = {
                "status": status,
                "params": dict(params.fetchall()),
                "metrics": sorted(
                    (name, step, at - origin[key], value, undefined)
                    for name, step, at, value, undefined in metrics
                    if not name.startswith(CLOCK_AND_RESOURCES)
                ),
            }
    return found


def assert_undisturbed(program: Program, undisturbed: End, mlflow: Path | None = None) -> None:
    """Check that an experiment ended as one that nothing happened to, and verifies."""
    found = end_of(program, mlflow)
    for part in ("heads", "states", "rows", "published", "experiment", "validation"):
        assert getattr(found, part) == getattr(undisturbed, part), part
    verified = program.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert leftovers(program) == []


def leftovers(program: Program) -> list[str]:
    """Return files of checkpoints that the ledger does not know."""
    known = {name for (name,) in program.query("SELECT name FROM checkpointfile")}
    folder = program.workspace / "checkpoints"
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def assert_nothing_torn(program: Program) -> None:
    """Check, right after a death: what the ledger names is there and whole, as is every name.

    What has been computed since another checkpoint is lost, never a part of one.
    """
    folder = program.workspace / "checkpoints"
    for name, checksum in program.query("SELECT name, sha256 FROM checkpointfile"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name
    for path in folder.glob("*.ckpt"):
        msgspec.msgpack.decode(path.read_bytes(), type=Checkpoint)


def command(program: Program) -> tuple[str, ...]:
    """Return the words that run the experiment, on the database that the program's environment names."""
    kind = "postgresql" if "QUORUMLAB_LEDGER_URL" in program.environment else "sqlite"
    return ("run", *OVERRIDES, f"ledger={kind}", *LEDGER)


def start_with(program: Program, *faults: str, words: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start the experiment, with more words in its command, and with faults waiting for it."""
    program.environment["QUORUMLAB_FAULT"] = ",".join(faults)
    try:
        return program.start(*command(program), *words)
    finally:
        del program.environment["QUORUMLAB_FAULT"]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and messages of a program, when it has ended."""
    _, err = process.communicate(timeout=1_000)
    return process.returncode, err


def is_stopped(process: subprocess.Popen[str]) -> bool:
    """Return whether a process stands still."""
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
