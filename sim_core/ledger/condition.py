"""What condition a ledger database is in: whether it is undamaged, and how large.

Nothing here changes a database but `shorten_log` and `compact`, which change no row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError, DBAPIError

from sim_core.ledger.transactions import BROKEN, class_of, explained


@dataclass(frozen=True)
class Size:
    """Bytes of a ledger."""

    database: int
    free: int
    """Within `database`, of pages that hold nothing."""
    log: int
    """Of SQLite's write-ahead log, beside it."""


def damage(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong in its file; of PostgreSQL nothing, which checks pages itself.

    Raises:
        DatabaseError: SQLite cannot look to the end for another reason, as when it takes too long.
    """
    if connection.dialect.name != "sqlite":
        return []
    try:
        found = list(connection.execute(text("PRAGMA quick_check(10)")).scalars())
    except DatabaseError as error:
        if class_of(error) != BROKEN:
            raise
        return [str(error.orig)]
    return [line for line in found if line != "ok"]


def size_of(engine: Engine) -> Size:
    """Return how large a ledger is.

    Raises:
        LedgerFailed: the database does not answer.
    """
    with looking(engine) as connection:
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
def looking(engine: Engine) -> Iterator[Connection]:
    """Give a connection that writes nothing.

    Raises:
        LedgerFailed: the database does not answer.
    """
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
