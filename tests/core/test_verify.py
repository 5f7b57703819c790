"""A run whose stored rows were changed by hand is found, and the place is named."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sim_core.checkpoint import CheckpointFolder
from sim_core.ledger.blocks import KINDS, block_hash
from sim_core.ledger.store import Ledger, open_engine
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from sim_core.ledger.verify import Break, verify_run
from sim_core.simulate import RunSpec, simulate


@pytest.fixture(scope="module")
def spec(make_spec: Callable[..., RunSpec]) -> RunSpec:
    return make_spec(detail="all", adversary={"kind": "poisoner"}, simulation={"nodes": 10})


@pytest.fixture(scope="module")
def sound(
    spec: RunSpec, register: Any, execute: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the ledger of a finished run of which all kinds are kept."""
    folder = tmp_path_factory.mktemp("sound")
    engine = open_engine(folder / "ledger.db")
    ledger = Ledger(engine, CheckpointFolder(folder / "checkpoints"))
    register(ledger, spec)
    execute(ledger, spec)
    engine.dispose()
    return folder / "ledger.db"


@pytest.fixture
def verify(sound: Path, tmp_path: Path, open_ledger: Any) -> Callable[[], Break | None]:
    """Return a function that verifies the run in this test's copy of the ledger."""
    shutil.copy(sound, tmp_path / "ledger.db")
    ledger = open_ledger()

    def look() -> Break | None:
        return verify_run(ledger, ledger.runs_of("experiment")[0])

    assert look() is None
    return look


@pytest.fixture
def database(verify: Any, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


@pytest.fixture
def set_value(database: sqlite3.Connection) -> Callable[..., None]:
    """Return a function that sets a column of one row of a table."""

    def change(table: str, row: Mapping[str, Any], column: str, value: Any) -> None:
        keys = primary_key(table)
        database.execute(
            f"UPDATE {table} SET {column} = ? WHERE {where(keys)}", (value, *(row[k] for k in keys))
        )

    return change


def primary_key(table: str) -> list[str]:
    return [column.name for column in (ENTRY_TABLES | {"block": BLOCKS})[table].primary_key]


def where(keys: Sequence[str]) -> str:
    return " AND ".join(f"{key} = ?" for key in keys)


def one_byte_off(value: Any) -> Any:
    """Return a value of the same type whose stored form differs in one byte."""
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    if isinstance(value, int):
        return value ^ 64  # no key of this run is that large
    return 0.5 if value is None else value * (1 + 2**-20) if value else 2.0**-20


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_byte_of_any_column_is_found_and_named(
    kind: str, verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    rows = database.execute(f"SELECT * FROM {kind} ORDER BY step").fetchall()
    assert rows, f"the run should make {kind} entries"
    row = rows[len(rows) // 2]
    for column in ENTRY_TABLES[kind].columns.keys()[2:]:
        set_value(kind, row, column, one_byte_off(row[column]))
        found = verify()
        assert found is not None, f"{kind}.{column}"
        assert (found.run_key, found.step, found.entry) == (spec.run_key, row["step"], kind)
        assert f"step {row['step']}" in found.message
        set_value(kind, {**row, column: one_byte_off(row[column])}, column, row[column])
        assert verify() is None


def last_row(database: sqlite3.Connection, kind: str) -> sqlite3.Row:
    row = database.execute(f"SELECT * FROM {kind} ORDER BY step DESC LIMIT 1").fetchone()
    assert isinstance(row, sqlite3.Row)
    return row


@pytest.mark.parametrize("kind", KINDS)
def test_missing_row_is_found_and_named(
    kind: str, verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    row = last_row(database, kind)
    set_value(kind, row, "run", 99)
    found = verify()
    assert (found.run_key, found.step, found.entry) == (spec.run_key, row["step"], kind)
    set_value(kind, {**row, "run": 99}, "run", row["run"])
    assert verify() is None
    keys = primary_key(kind)
    database.execute(f"DELETE FROM {kind} WHERE {where(keys)}", [row[key] for key in keys])
    found = verify()
    assert (found.run_key, found.step, found.entry) == (spec.run_key, row["step"], kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "metrics"])
def test_row_moved_to_another_step_is_found_and_named(
    kind: str, verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    row = last_row(database, kind)
    other = row["step"] - 1
    set_value(kind, row, "step", other)
    found = verify()
    assert (found.run_key, found.step, found.entry) == (spec.run_key, other, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [-1, 12, 20, 5_000])
def test_entry_of_a_step_that_was_never_made_is_found_and_named(
    kind: str, step: int, verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    columns = ", ".join(ENTRY_TABLES[kind].columns.keys())
    values = columns.replace("step", "?", 1)
    database.execute(f"INSERT INTO {kind} ({columns}) SELECT {values} FROM {kind} LIMIT 1", (step,))
    found = verify()
    assert found is not None
    assert (found.run_key, found.step, found.entry) == (spec.run_key, step, kind)


@pytest.mark.parametrize("column", ["previous", "hash", *KINDS])
def test_changed_block_is_found_and_named(
    column: str, verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    (row,) = database.execute("SELECT * FROM block WHERE step = 5").fetchall()
    set_value("block", row, column, one_byte_off(row[column]))
    found = verify()
    assert found is not None
    entry = column if column in KINDS else "block"
    assert (found.run_key, found.step, found.entry) == (spec.run_key, 5, entry)


def test_block_hidden_by_a_recomputed_chain_is_found_by_what_was_published(
    verify: Any, database: sqlite3.Connection, set_value: Any
):
    """Whoever rewrites the last block with all its hashes still has another head."""
    (row,) = database.execute("SELECT * FROM block WHERE step = 11").fetchall()
    database.execute("DELETE FROM alert WHERE step = 11")
    database.execute("UPDATE run SET detail = 'votes'")  # alerts need not be there then
    digests = {kind: row[kind] for kind in KINDS} | {"alert": b"\1" * 32}
    forged = block_hash(row["previous"], 11, tuple(digests[kind] for kind in KINDS))
    set_value("block", row, "alert", digests["alert"])
    assert verify().entry == "block"
    set_value("block", row, "hash", forged)
    found = verify()
    assert (found.step, found.entry) == (11, "head")
    database.execute("UPDATE run SET head = ?", (forged.hex(),))
    found = verify()
    assert (found.step, found.entry) == (11, "head"), "the summary still names the right head"


def test_block_that_follows_another_one_is_found_though_all_hashes_recompute(
    verify: Any, database: sqlite3.Connection, set_value: Any, spec: RunSpec
):
    """A chain that begins anew in the middle, with its head and summary made to match."""
    previous = b"\0" * 32
    for row in database.execute("SELECT * FROM block WHERE step >= 5 ORDER BY step"):
        digests = tuple(row[kind] for kind in KINDS)
        set_value("block", row, "previous", previous)
        previous = block_hash(previous, row["step"], digests)
        set_value("block", row, "hash", previous)
    database.execute("UPDATE run SET head = ?", (previous.hex(),))
    database.execute("UPDATE summary SET head = ?", (previous.hex(),))
    found = verify()
    assert (found.run_key, found.step, found.entry) == (spec.run_key, 5, "block")
    assert "does not follow block 4" in found.message


def test_block_beyond_the_steps_of_the_run_is_found(
    verify: Any, database: sqlite3.Connection, spec: RunSpec
):
    columns = ", ".join(BLOCKS.columns.keys())
    values = columns.replace("step", "?", 1)
    database.execute(
        f"INSERT INTO block ({columns}) SELECT {values} FROM block WHERE step = 11", (5_000,)
    )
    found = verify()
    assert (found.run_key, found.step, found.entry) == (spec.run_key, 5_000, "block")


@pytest.mark.parametrize("step", [0, 5, 11])
def test_missing_block_is_found_and_named(
    step: int, verify: Any, database: sqlite3.Connection, spec: RunSpec
):
    database.execute("DELETE FROM block WHERE step = ?", (step,))
    found = verify()
    assert found is not None
    assert (found.run_key, found.step) == (spec.run_key, step)
    assert found.entry == "block"
    assert f"block {step} is missing" in found.message or step == 11


@pytest.mark.parametrize("value", ["text", 5, b"", b"\0" * 31])
def test_digest_that_is_no_hash_is_a_break_though_its_rows_are_not_kept(
    value: Any, verify: Any, database: sqlite3.Connection, set_value: Any
):
    database.execute("UPDATE run SET detail = 'decisions'")
    assert verify() is None
    (row,) = database.execute("SELECT * FROM block WHERE step = 5").fetchall()
    set_value("block", row, "vote", value)
    found = verify()
    assert (found.step, found.entry) == (5, "block")


@pytest.mark.parametrize("steps_at_once", [1, 5, 6, 12])
def test_runs_are_read_in_parts_that_hide_nothing(
    steps_at_once: int,
    verify: Any,
    database: sqlite3.Connection,
    set_value: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("sim_core.ledger.verify.STEPS_AT_ONCE", steps_at_once)
    assert verify() is None
    for row in database.execute("SELECT * FROM metrics").fetchall():
        set_value("metrics", row, "tp", row["tp"] + 1)
        assert verify().step == row["step"]
        set_value("metrics", row, "tp", row["tp"])
    for row in database.execute("SELECT * FROM block").fetchall():
        set_value("block", row, "previous", b"\0" * 32)
        found = verify()
        assert (found.step, found.entry) == (row["step"], "block")
        set_value("block", row, "previous", row["previous"])
    assert verify() is None


@pytest.mark.parametrize("rows_at_once", [1, 7, 100_000])
def test_damage_is_named_by_its_step_however_many_rows_are_converted_at_once(
    rows_at_once: int,
    verify: Any,
    database: sqlite3.Connection,
    set_value: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("sim_core.ledger.verify.ROWS_AT_ONCE", rows_at_once)
    assert verify() is None
    for kind, column, value, reason in (
        ("vote", "node", 1.5, "node is not a whole number"),
        ("metrics", "tp", 10**6, "its rows give another digest"),
        ("metrics", "auroc", "high", "auroc is not a number"),
        ("decision", "ballots", b"", "ballots has 0 bytes, expected 3"),
    ):
        row = last_row(database, kind)
        set_value(kind, row, column, value)
        found = verify()
        assert (found.step, found.entry) == (row["step"], kind)
        assert found.message == f"{kind} entries of step {row['step']}: {reason}"
        keyed = {**row, column: value}
        set_value(kind, keyed, column, row[column])
        assert verify() is None


def test_changed_row_of_a_run_is_found(verify: Any, database: sqlite3.Connection):
    for change, entry in (
        ("UPDATE summary SET head = replace(head, substr(head, 1, 4), 'beef')", "head"),
        ("UPDATE run SET head = 'f00'", "head"),
        ("UPDATE run SET steps = 13", "block"),
        ("UPDATE run SET detail = 'everything'", "run"),
    ):
        database.execute(change)
        found = verify()
        assert found is not None
        assert found.entry == entry
        database.execute(
            "UPDATE run SET detail = 'all', steps = 12, head = (SELECT lower(hex(hash)) FROM block WHERE step = 11)"
        )
        database.execute("UPDATE summary SET head = (SELECT head FROM run)")
        assert verify() is None


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("vote", "ballot", 300),
        ("vote", "ballot", -1),
        ("vote", "ballot", "accept"),
        ("metrics", "tp", 1.5),
        ("metrics", "auroc", "high"),
        ("proposal", "centroid", b"short"),
        ("proposal", "centroid", "x" * 32),
        ("proposal", "centroid", 32),
        ("decision", "ballots", "xxx"),
        ("alert", "score", "high"),
        ("block", "hash", "text"),
        ("block", "vote", 5),
    ],
)
def test_value_of_another_type_is_a_break_and_no_crash(
    table: str, column: str, value: Any, verify: Any, database: sqlite3.Connection, set_value: Any
):
    (row,) = database.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
    set_value(table, row, column, value)
    found = verify()
    assert found is not None
    assert found.step == row["step"]


@pytest.mark.parametrize("detail", ["decisions", "votes", "alerts"])
def test_kinds_that_are_not_kept_are_taken_as_stored(
    detail: str, ledger: Ledger, spec: RunSpec, register: Any, execute: Any, make_spec: Any
):
    some = dataclasses.replace(spec, detail=detail)
    register(ledger, some)
    execute(ledger, some)
    assert verify_run(ledger, ledger.runs_of("experiment")[0]) is None


def test_planned_and_unfinished_runs_verify(ledger: Ledger, spec: RunSpec, register: Any):
    register(ledger, spec)
    assert verify_run(ledger, ledger.runs_of("experiment")[0]) is None
    (claim,) = ledger.claim([spec])
    assert verify_run(ledger, ledger.runs_of("experiment")[0]) is None
    for segment in simulate(spec):
        ledger.commit(claim, segment)
        assert verify_run(ledger, ledger.runs_of("experiment")[0]) is None
