"""Bringing a ledger database to the schema of this program, and refusing what is newer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlmodel import SQLModel

from sim_core.error_table import Trouble
from sim_core.errors import WorkspaceError

HEAD = 4
"""The schema of `tables`, also the last revision in `migrations`."""
OLDEST = 2
"""The first schema from which one gets here."""
VERSION_TABLE = "alembic_version"
UPGRADE_LOCK = 0x71756F72
"""Number of PostgreSQL's advisory lock under which one process at a time looks and upgrades."""


def bring_to_head(engine: Engine, place: str) -> None:
    """Make the tables of a new database; upgrade those of an older one, in one transaction.

    Raises:
        WorkspaceError: the database is newer than this program, or too old for it.
    """
    with engine.execution_options(readonly=True).connect() as connection:
        if schema_of(connection) == HEAD:
            return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": UPGRADE_LOCK})
        found = schema_of(connection)
        refuse_unknown(found, place)
        if found is None:
            SQLModel.metadata.create_all(connection)
            connection.execute(
                text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            )
            connection.execute(
                text(f"INSERT INTO {VERSION_TABLE} VALUES (:head)"),  # noqa: S608 - a constant
                {"head": str(HEAD)},
            )
        elif found < HEAD:
            _upgrade(connection, found)
        if connection.dialect.name == "sqlite":  # where programs before schema 3 look
            connection.execute(text(f"PRAGMA user_version={HEAD}"))


def schema_of(connection: Connection) -> int | None:
    """Return the schema of a database; None where it has no tables yet."""
    if connection.dialect.name == "sqlite":
        return int(connection.execute(text("PRAGMA user_version")).scalar_one()) or None
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    statement = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    found = str(connection.execute(statement).scalar_one())
    return int(found) if found.isdecimal() else HEAD + 1


def refuse_unknown(found: int | None, place: str) -> None:
    """Check that this program can read a schema.

    Raises:
        WorkspaceError: it is newer than this program, or too old for it.
    """
    if found is None or OLDEST <= found <= HEAD:
        return
    if found > HEAD:
        raise WorkspaceError(Trouble.LEDGER_NEWER.tell(place=place, found=found, head=HEAD))
    raise WorkspaceError(Trouble.LEDGER_OLDER.tell(place=place, found=found, oldest=OLDEST))


def refuse_other_file(path: Path) -> None:
    """Look at a SQLite file without changing a byte of it.

    Raises:
        WorkspaceError: it is newer or older than this program can read, or no database.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (found,) = file.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise WorkspaceError(Trouble.LEDGER_UNREADABLE.tell(place=path, reason=error)) from error
    refuse_unknown(found or None, str(path))


def _upgrade(connection: Connection, found: int) -> None:
    """Go through the steps of `migrations` from a schema to the last."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "sim_core.ledger:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes |= {"connection": connection, "metadata": SQLModel.metadata}
    if not inspect(connection).has_table(VERSION_TABLE):
        command.stamp(config, str(found))
    command.upgrade(config, "head")
