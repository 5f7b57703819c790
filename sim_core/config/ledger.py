"""Where and in which detail the ledger is kept, which never changes a result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sim_core.config.base import Frozen, Positive


class LedgerBase(Frozen):
    """What both databases have."""

    detail: Literal["decisions", "votes", "alerts", "all"] = "decisions"
    """Rows that are kept; hashes cover all kinds whatever is kept."""
    attempts: int = Field(6, ge=1, le=100)
    """Times a transaction is tried when the database is busy or away; waits double from 0.1 s."""
    segments_at_once: int = Field(64, ge=1, le=1_000)
    """Segments that wait at most for the writer, and that one transaction may commit."""
    flush_seconds: float = Field(0.2, ge=0, le=60)
    """Time from one transaction to the next, in which segments gather; those of one run are joined
    to one with one checkpoint. Whoever waits for a transaction gets it at once; 0: none waits."""
    statement_timeout_seconds: Positive | None = 600.0
    """Longest time of one query for reading; null: no limit."""
    slow_query_seconds: Positive = 1.0
    """Queries that take longer are logged with their plan."""


class SqliteLedger(LedgerBase):
    """WORKSPACE/ledger.db in write-ahead mode."""

    kind: Literal["sqlite"] = "sqlite"
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    """SQLite's synchronous: NORMAL survives a killed process, FULL a loss of power too."""
    busy_timeout_seconds: Positive = 60.0
    """Longest wait for another writer."""
    cache_mb: int = Field(16, ge=1, le=65_536)
    """Page cache of each connection."""
    mmap_mb: int = Field(0, ge=0, le=1_048_576)
    """Part of the file that is read through memory mapping; 0: none."""
    temp_store: Literal["FILE", "MEMORY"] = "MEMORY"
    """Where sorting and temporary tables go."""
    wal_checkpoint_pages: int = Field(1_000, ge=1, le=1_000_000)
    """Pages in the write-ahead log after which it is moved into the database."""


class PostgresLedger(LedgerBase):
    """A PostgreSQL database."""

    kind: Literal["postgresql"] = "postgresql"
    url: str | None = None
    """`postgresql://USER@HOST:PORT/DATABASE`; without it the variable QUORUMLAB_LEDGER_URL. The
    password is no part of it: PGPASSWORD, or ~/.pgpass."""
    replica_url: str | None = None
    """A read replica, from which displays read; without it the database itself."""
    pool_size: int = Field(4, ge=1, le=1_000)
    """Connections that are kept open."""
    max_overflow: int = Field(8, ge=0, le=1_000)
    """Connections beyond these when all are in use."""
    pool_recycle_seconds: Positive = 1_800.0
    """Age at which a connection is replaced."""
    pool_timeout_seconds: Positive = 30.0
    """Longest wait for a connection."""
    lock_timeout_seconds: Positive = 30.0
    """Longest wait for another writer, and longest rest of a writer within a transaction: one that
    stands still for as long is thrown out of it by the database."""

    @field_validator("url", "replica_url")
    @classmethod
    def _is_address_without_password(cls, text: str | None) -> str | None:
        return None if text is None else checked_url(text)


def checked_url(text: str) -> str:
    """Return the address of a PostgreSQL database.

    Raises:
        ValueError: it is none, or holds a password.

    >>> checked_url("postgresql://me@localhost/ledger")
    'postgresql://me@localhost/ledger'
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError("is no postgresql://USER@HOST:PORT/DATABASE") from error
    if url.drivername not in ("postgresql", "postgresql+psycopg") or not url.database:
        raise ValueError("is no postgresql://USER@HOST:PORT/DATABASE")
    if url.password is not None or "password" in url.query:
        raise ValueError(
            "holds a password, which would be kept with the experiment: take it out and set the "
            "environment variable PGPASSWORD, or use ~/.pgpass"
        )
    return text


LedgerConfig = Annotated[SqliteLedger | PostgresLedger, Field(discriminator="kind")]
