"""What has not changed since it was found valid is known as such, and nothing else is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sim_core.checkpoint import CheckpointFolder
from sim_core.ledger import validated
from sim_core.ledger.report import finished_runs
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from sim_core.ledger.validated import changed_runs, fingerprints
from tests.ledger_tools import execute, open_ledger, register, run_specs
from tests.postgres import Postgres, copy_ledger, open_postgres

CONFIG = {
    "simulation": {"nodes": 12, "flows_per_node": 12, "steps": 20},
    "traffic": {"kind": "synthetic", "warmup_flows": 64},
    "adversary": {"kind": "poisoner", "share": 0.25},
}
ROWS = (BLOCKS, *ENTRY_TABLES.values())
CELLS = [
    (table.name, column.name) for table in ROWS for column in table.columns if column.name != "run"
]


def found_valid(ledger: Ledger) -> None:
    """Note all runs of the experiment as valid."""
    runs = finished_runs(ledger, "e")
    found = zip(runs, fingerprints(ledger, runs), strict=True)
    ledger.set_validated((run["id"], run["horizon"], fingerprint) for run, fingerprint in found)


def changed(database: Path) -> list[int]:
    """Return the numbers of runs that have changed since they were found valid."""
    ledger = open_ledger(database.parent)
    try:
        return sorted(changed_runs(ledger, finished_runs(ledger, "e")))
    finally:
        ledger.dispose()


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ledger of two runs that have been found valid."""
    folder = tmp_path_factory.mktemp("valid")
    ledger = open_ledger(folder)
    specs = run_specs(CONFIG)
    register(ledger, "e", specs)
    for spec in specs:
        execute(ledger, spec)
    assert len(changed_runs(ledger, finished_runs(ledger, "e"))) == 2, "nothing is noted yet"
    found_valid(ledger)
    ledger.dispose()
    return folder / "ledger.db"


@pytest.fixture
def database(valid: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copy(valid, tmp_path / "ledger.db"))


def change(database: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        assert db.execute(statement, values).rowcount == 1, statement


def test_untouched_runs_have_not_changed(database: Path) -> None:
    assert changed(database) == []


@pytest.mark.parametrize(("table", "column"), CELLS, ids=[f"{t}.{c}" for t, c in CELLS])
def test_any_cell_of_any_row_counts(database: Path, table: str, column: str) -> None:
    with closing(sqlite3.connect(database)) as db:
        keys = [c.name for t in ROWS if t.name == table for c in t.primary_key.columns]
        order = ", ".join(f"{key} DESC" for key in keys)
        row = db.execute(f"SELECT {', '.join(keys)}, {column} FROM {table} ORDER BY {order}")
        *key, value = row.fetchone()
    other = b"\0" + value[1:] + b"\0" if isinstance(value, bytes) else (value or 0) + 1
    where = " AND ".join(f"{name} = ?" for name in keys)
    change(database, f"UPDATE {table} SET {column} = ? WHERE {where}", other, *key)
    assert changed(database) == [2]


@pytest.mark.parametrize("table", [table.name for table in ROWS])
def test_rows_that_are_gone_count(database: Path, table: str) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        last = f"SELECT max(step) FROM {table} WHERE run = 1"
        assert db.execute(f"DELETE FROM {table} WHERE run = 1 AND step = ({last})").rowcount
    assert changed(database) == [1]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seed", 2),
        ("replicate", 7),
        ("detail", "votes"),
        ("n_features", 3),
        ("steps", 21),
        ("head", "ab" * 32),
        ("run_key", "ab" * 32),
    ],
)
def test_what_is_said_of_a_run_counts(database: Path, column: str, value: Any) -> None:
    change(database, f"UPDATE run SET {column} = ? WHERE id = 2", value)
    assert changed(database) == [2]


def test_configuration_and_summary_count(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        config = json.loads(db.execute("SELECT config FROM run WHERE id = 1").fetchone()[0])
        metrics = json.loads(db.execute("SELECT metrics FROM summary WHERE run = 2").fetchone()[0])
    config["consensus"]["vote_deadline"] += 1
    change(database, "UPDATE run SET config = ? WHERE id = 1", json.dumps(config))
    assert changed(database) == [1]
    metrics["f1"] = 0.125
    change(database, "UPDATE summary SET metrics = ? WHERE run = 2", json.dumps(metrics))
    assert changed(database) == [1, 2]


def test_other_rules_ask_for_all_of_it(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validated, "rules", lambda: "other rules")
    assert changed(database) == [1, 2]


def test_longer_run_is_new(valid: Path, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    folder.mkdir()
    shutil.copy(valid, folder)
    ledger = open_ledger(folder)
    specs = run_specs({**CONFIG, "simulation": {**CONFIG["simulation"], "steps": 25}})
    register(ledger, "e", specs)
    execute(ledger, specs[0])
    assert list(changed_runs(ledger, finished_runs(ledger, "e"))) == [1]
    ledger.dispose()


@pytest.mark.parametrize("runs_at_once", [1, 2])
def test_batches_change_nothing(
    database: Path, monkeypatch: pytest.MonkeyPatch, runs_at_once: int
) -> None:
    monkeypatch.setattr(validated, "RUNS_AT_ONCE", runs_at_once)
    assert changed(database) == []
    change(database, "UPDATE metrics SET tp = tp + 1 WHERE run = 2 AND step = 3")
    assert changed(database) == [2]


def test_fingerprints_are_those_of_the_content_in_any_database(
    database: Path, postgres: Postgres
) -> None:
    url = postgres.create()
    copy_ledger(database, url)
    ledger = Ledger(open_postgres(url), CheckpointFolder(database.parent))
    try:
        assert changed_runs(ledger, finished_runs(ledger, "e")) == {}
    finally:
        ledger.dispose()
