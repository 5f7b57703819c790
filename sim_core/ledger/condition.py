"""What condition a ledger database is in: complete, undamaged, and how large.

Nothing here changes a database but `shorten_log` and `compact`, which change no row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Inspector, Table, UniqueConstraint, inspect, text
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable, Index

from sim_core.ledger import tables
from sim_core.ledger.transactions import explained

TABLES: Sequence[Table] = [
    tables.EXPERIMENTS,
    tables.RUNS,
    tables.EXPERIMENT_RUNS,
    tables.SUMMARIES,
    tables.CHECKPOINTS,
    tables.BLOCKS,
    *tables.ENTRY_TABLES.values(),
]


@dataclass(frozen=True)
class Missing:
    """A table, key or index that this program's schema has and a database lacks."""

    name: str
    table: str
    statement: str
    """What makes it, in the database's SQL."""


@dataclass(frozen=True)
class Size:
    """Bytes of a ledger."""

    database: int
    free: int
    """Within `database`, of pages that hold nothing."""
    log: int
    """Of SQLite's write-ahead log, beside it."""


def missing_parts(engine: Engine) -> list[Missing]:
    """Return the tables, primary keys, unique keys and indexes that are not there.

    An index counts as there where one of any name begins with its columns.

    Raises:
        LedgerFailed: the database does not answer.
    """
    with _looking(engine) as connection:
        inspector = inspect(connection)
        present = set(inspector.get_table_names())
        return [
            missing
            for table in TABLES
            for missing in (
                _of_table(inspector, table, engine)
                if table.name in present
                else [Missing(table.name, table.name, _sql(CreateTable(table), engine))]
            )
        ]


def _of_table(inspector: Inspector, table: Table, engine: Engine) -> list[Missing]:
    key = tuple(inspector.get_pk_constraint(table.name)["constrained_columns"])
    unique = {tuple(c["column_names"]) for c in inspector.get_unique_constraints(table.name)}
    found = inspector.get_indexes(table.name)
    unique |= {_columns(index) for index in found if index["unique"]}
    ordered = {key, *unique, *(_columns(index) for index in found)}
    missing = []
    wanted = tuple(column.name for column in table.primary_key)
    if key != wanted:
        statement = f"ALTER TABLE {table.name} ADD PRIMARY KEY ({', '.join(wanted)})"
        missing.append(Missing(f"{table.name}_pkey", table.name, statement))
    for constraint in table.constraints:
        columns = tuple(column.name for column in getattr(constraint, "columns", ()))
        if isinstance(constraint, UniqueConstraint) and columns not in unique:
            name = f"{table.name}_{'_'.join(columns)}_key"
            sql = f"CREATE UNIQUE INDEX {name} ON {table.name} ({', '.join(columns)})"
            missing.append(Missing(name, table.name, sql))
    missing += [
        Missing(str(index.name), table.name, _sql(CreateIndex(index), engine))
        for index in sorted(table.indexes, key=lambda i: str(i.name))
        if not any(columns[: len(index.columns)] == _names(index) for columns in ordered)
    ]
    return missing


def _columns(index: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in index["column_names"])


def _names(index: Index) -> tuple[str, ...]:
    return tuple(column.name for column in index.columns)


def _sql(statement: Any, engine: Engine) -> str:
    return " ".join(str(statement.compile(dialect=engine.dialect)).split())


def damage(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong in its file; of PostgreSQL nothing, which checks pages itself."""
    if connection.dialect.name != "sqlite":
        return []
    try:
        found = list(connection.execute(text("PRAGMA quick_check(10)")).scalars())
    except DatabaseError as error:  # so damaged that SQLite cannot look
        return [str(error.orig)]
    return [line for line in found if line != "ok"]


def size_of(engine: Engine) -> Size:
    """Return how large a ledger is.

    Raises:
        LedgerFailed: the database does not answer.
    """
    with _looking(engine) as connection:
        if engine.dialect.name != "sqlite":
            total = connection.execute(text("SELECT pg_database_size(current_database())"))
            return Size(int(total.scalar_one()), 0, 0)
        pages, free, size = (
            int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
    log = Path(f"{engine.url.database}-wal")
    return Size(pages * size, free * size, log.stat().st_size if log.exists() else 0)


def shorten_log(engine: Engine) -> bool:
    """Move SQLite's write-ahead log into the database; return whether nobody was in the way.

    Raises:
        LedgerFailed: the file cannot be written.
    """
    if engine.dialect.name != "sqlite":
        return True
    ((busy, _, _),) = _pragma(engine, "PRAGMA wal_checkpoint(TRUNCATE)")
    return bool(busy == 0)


def compact(engine: Engine) -> None:
    """Give the space of erased rows back to the disk; PostgreSQL does so itself (autovacuum).

    Raises:
        LedgerFailed: another program holds the file, or there is no room for its copy.
    """
    if engine.dialect.name == "sqlite":
        _pragma(engine, "VACUUM")


@contextmanager
def _looking(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.execution_options(readonly=True).connect() as connection:
            yield connection
    except DBAPIError as error:
        raise explained(error) from error


def _pragma(engine: Engine, statement: str) -> list[Any]:
    """Return the rows of a statement that SQLite refuses within a transaction."""
    connection = engine.raw_connection()
    driver: Any = connection.driver_connection
    try:
        rows: list[Any] = driver.execute(statement).fetchall()
    except sqlite3.Error as error:
        raise explained(DBAPIError(statement, None, error)) from error
    else:
        return rows
    finally:
        connection.close()
