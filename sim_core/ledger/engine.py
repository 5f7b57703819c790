"""Opening the ledger database."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
)
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import SQLModel

from sim_core.errors import WorkspaceError
from sim_core.ledger.tables import (
    SCHEMA_VERSION,
)

BUSY_MILLISECONDS = 60_000


def open_engine(path: Path, *, synchronous: str = "NORMAL") -> Engine:
    """Return an engine on the SQLite file, made and brought to the schema if it is new.

    Write-ahead log; a transaction takes the write lock at its beginning, so that it never fails
    half-way because somebody else wrote in between. Options `{"readonly": True}` take none.

    Raises:
        WorkspaceError: the file cannot be opened, or is newer or older than this program.
    """
    refuse_other_schema(path)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MILLISECONDS / 1000})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        readonly = connection.get_execution_options().get("readonly", False)
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            if connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 0:
                SQLModel.metadata.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
    except (OperationalError, DatabaseError) as error:
        raise WorkspaceError(f"ledger {path} cannot be opened: {error.orig}") from error
    return engine


def refuse_other_schema(path: Path) -> None:
    """Look at a database without changing a byte of it.

    Raises:
        WorkspaceError: it is newer or older than this program, or no database.
    """
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise WorkspaceError(f"ledger {path} cannot be opened: {error}") from error
    if found > SCHEMA_VERSION:
        raise WorkspaceError(
            f"{path} was written by a newer quorumlab (schema {found}, this one reads up to "
            f"{SCHEMA_VERSION}): upgrade quorumlab, or choose another workspace"
        )
    if 0 < found < SCHEMA_VERSION:
        raise WorkspaceError(
            f"{path} was written by an older quorumlab (schema {found}, this one writes "
            f"{SCHEMA_VERSION}), whose model was another one: its runs cannot go on here. Choose "
            "another workspace; the older quorumlab still reads this one"
        )
