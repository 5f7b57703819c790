"""Who is at work on an experiment: a hint for people and for the reconciler, never a guard.

A driver holds a shared lock, of a file beside the ledger (SQLite) or of a session (PostgreSQL), which
the system takes back when the driver dies, however it dies. Writes are guarded by epochs alone.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

FOLDER = "drivers"


@contextmanager
def present(engine: Engine, experiment: str) -> Iterator[None]:
    """Let everybody see, until the end of the block, that this process works on an experiment."""
    if engine.dialect.name == "sqlite":
        with _lock_file(engine, experiment) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield
        return
    with _session(engine) as connection:
        connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": _key(experiment)})
        yield


def is_at_work(engine: Engine, experiment: str) -> bool:
    """Return whether some process works on an experiment."""
    if engine.dialect.name == "sqlite":
        with _lock_file(engine, experiment) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    with _session(engine) as connection:
        taken = text("SELECT pg_try_advisory_lock(:key)")
        return not connection.execute(taken, {"key": _key(experiment)}).scalar_one()


def _lock_file(engine: Engine, experiment: str) -> IO[str]:
    folder = Path(str(engine.url.database)).parent / FOLDER
    folder.mkdir(exist_ok=True)
    return (folder / experiment).open("a")


@contextmanager
def _session(engine: Engine) -> Iterator[Connection]:
    """Give a connection of its own, whose end lets go of its locks."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    try:
        yield connection
    finally:
        with suppress(DBAPIError):  # it may have been lost meanwhile, and its locks with it
            connection.close()


def _key(experiment: str) -> int:
    digest = hashlib.sha256(f"quorumlab {experiment}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
