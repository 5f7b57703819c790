"""From the first schema to the last: the same tables, the same rows, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel

from sim_core.checkpoint import CheckpointFolder
from sim_core.errors import WorkspaceError
from sim_core.ledger.migrations.versions import schema_2, schema_3
from sim_core.ledger.schema import HEAD
from sim_core.ledger.store import Ledger, open_engine
from sim_core.ledger.verify import verify_run
from sim_core.simulate import RunSpec
from tests.postgres import Postgres, open_postgres

ROW_TABLES = schema_3.ROWS


def as_schema_2(path: Path, new: Path) -> None:
    """Write what a ledger holds into one of schema 2."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(new)) as target:
        for statement in schema_2.STATEMENTS:
            target.execute(statement)
        for (table,) in target.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
            rows = source.execute(f"SELECT {', '.join(map(quoted, columns))} FROM {table}")
            marks = ", ".join("?" * len(columns))
            target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows.fetchall())
        target.execute("PRAGMA user_version = 2")
        target.commit()


def quoted(name: str) -> str:
    return f'"{name}"'


def shape(path: Path) -> dict[str, list[Any]]:
    """Return the columns and indexes of each table."""
    with closing(sqlite3.connect(path)) as database:
        names = [
            n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found: dict[str, list[Any]] = {}
        for name in names:
            found[name] = [
                *(
                    (column, kind.replace("BIGINT", "INTEGER"), needed, key)
                    for _, column, kind, needed, _, key in database.execute(
                        f"PRAGMA table_info({name})"
                    )
                ),
                *sorted(row[1:4] for row in database.execute(f"PRAGMA index_list({name})")),
                database.execute(
                    "SELECT wr FROM pragma_table_list WHERE name = ?", (name,)
                ).fetchone(),
            ]
        return found


@pytest.fixture
def old(
    tmp_path: Path,
    ledger: Ledger,
    register: Callable[..., None],
    execute: Callable[..., Any],
    make_spec: Callable[..., RunSpec],
) -> Path:
    """Return a ledger of schema 2 with a finished run and one that has only begun."""
    spec = make_spec(detail="all")
    register(ledger, spec, make_spec(replicate=1))
    execute(ledger, spec)
    ledger.dispose()
    folder = tmp_path / "old"
    folder.mkdir()
    as_schema_2(tmp_path / "ledger.db", folder / "ledger.db")
    return folder / "ledger.db"


def content(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as database:
        return {t: sorted(database.execute(f"SELECT * FROM {t}")) for t in ROW_TABLES}


def test_upgraded_ledger_is_as_a_new_one_and_keeps_every_row(old: Path, tmp_path: Path):
    rows = content(old)
    assert all(rows.values())
    engine = open_engine(old)
    engine.dispose()
    assert content(old) == rows
    assert shape(old) == shape(tmp_path / "ledger.db")


def test_upgraded_runs_verify_and_go_on(
    old: Path, open_ledger: Callable[..., Ledger], execute: Any, make_spec: Any
):
    ledger = Ledger(open_engine(old), CheckpointFolder(old.parents[1] / "checkpoints"))
    finished, begun = ledger.runs_of("experiment")
    assert verify_run(ledger, finished) is None
    assert begun["tries"] == 0
    execute(ledger, make_spec(replicate=1))
    assert ledger.runs_of("experiment")[1]["state"] == "finished"
    ledger.dispose()


def test_failed_upgrade_changes_nothing(old: Path):
    before = shape(old), content(old)
    with closing(sqlite3.connect(old)) as database:
        database.execute("CREATE TABLE old_vote (a)")  # in the way of the last table
    with pytest.raises(WorkspaceError, match="old_vote"):
        open_engine(old)
    with closing(sqlite3.connect(old)) as database:
        database.execute("DROP TABLE old_vote")
    assert (shape(old), content(old)) == before
    open_engine(old).dispose()
    assert content(old) == before[1]


def test_tables_are_those_of_the_last_revision(open_ledger: Callable[..., Ledger]):
    """A changed column needs a migration: Alembic sees no difference only with one."""
    ledger = open_ledger()
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == str(HEAD)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_ledger_of_schema_3_on_postgresql_is_brought_to_the_last(postgres: Postgres) -> None:
    url = postgres.create()
    open_postgres(url).dispose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE summary DROP COLUMN validated"))
        connection.execute(text("UPDATE alembic_version SET version_num = '3'"))
    open_postgres(url).dispose()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == str(HEAD)
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()
