"""Ledgers for tests: made by real runs, then changed behind the program's back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ModelConfig
from sim_core.identity import model_version, result_relevant, run_key
from sim_core.ledger.blocks import KEPT, KINDS, block_hash, digest, entry_dtypes, first_hash
from sim_core.ledger.store import Ledger, entries_of, open_engine
from sim_core.ledger.tables import ENTRY_TABLES, Experiment
from sim_core.ledger.verify import stored_config
from sim_core.simulate import RunSpec, simulate


def open_ledger(folder: Path) -> Ledger:
    """Return the ledger in a folder, a new one if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger(open_engine(folder / "ledger.db"), CheckpointFolder(folder / "checkpoints"))


def run_specs(
    config: Mapping[str, Any], *, replicates: int = 2, detail: str = "all"
) -> list[RunSpec]:
    """Return the runs of one configuration."""
    model = ModelConfig.model_validate(config)
    return [
        RunSpec(run_key(model, 1, number), model, seed=1, replicate=number, detail=detail)
        for number in range(replicates)
    ]


def register(ledger: Ledger, name: str, specs: Sequence[RunSpec]) -> None:
    """Write an experiment of these runs."""
    experiment = Experiment(
        name=name,
        key=name,
        state="running",
        config={},
        points=[],
        environment={},
        created_at=0,
        updated_at=0,
    )
    planned = [(0, spec) for spec in specs]
    ledger.register(experiment, planned, model_version(), result_relevant)


def execute(ledger: Ledger, spec: RunSpec) -> None:
    """Simulate a registered run up to its horizon."""
    [claim] = ledger.claim([spec])
    for segment in simulate(spec):
        ledger.commit(claim, segment)


def rechain(database: Path, run_id: str) -> None:
    """Make a run's hashes fit its rows again, as whoever changed them could.

    Digests of kept kinds from their rows, every hash, the head of the run and of its summaries.
    """
    with sqlite3.connect(database) as db:
        run, config, n_features, detail = db.execute(
            "SELECT id, config, n_features, detail FROM run WHERE run_key = ?", (run_id,)
        ).fetchone()
        n_voters = stored_config({"config": json.loads(config), "steps": 1}).n_voters
        dtypes = entry_dtypes(n_voters, n_features)
        previous = first_hash(run_id)
        columns = f"step, {', '.join(KINDS)}"
        blocks = db.execute(f"SELECT {columns} FROM block WHERE run = ? ORDER BY step", (run,))
        for step, *stored in blocks.fetchall():
            digests = dict(zip(KINDS, stored, strict=True))
            for kind in KEPT[detail]:
                digests[kind] = digest(kind, entries_of(_rows(db, kind, run, step), dtypes[kind]))
            following = block_hash(previous, step, tuple(digests.values()))
            db.execute(
                f"UPDATE block SET previous = ?, hash = ?, {', '.join(f'{k} = ?' for k in KINDS)} "
                "WHERE run = ? AND step = ?",
                (previous, following, *digests.values(), run, step),
            )
            previous = following
            db.execute(
                "UPDATE summary SET head = ? WHERE run = ? AND horizon = ?",
                (previous.hex(), run, step + 1),
            )
        db.execute("UPDATE run SET head = ? WHERE id = ?", (previous.hex(), run))
    db.close()


def _rows(db: sqlite3.Connection, kind: str, run: int, step: int) -> list[Any]:
    names = ", ".join(column.name for column in list(ENTRY_TABLES[kind].columns)[1:])
    order = ", ".join(column.name for column in ENTRY_TABLES[kind].primary_key.columns)
    rows = db.execute(
        f"SELECT {names} FROM {kind} WHERE run = ? AND step = ? ORDER BY {order}", (run, step)
    )
    return rows.fetchall()
