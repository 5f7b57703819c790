"""Opening the ledger database."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from sim_core.config import LedgerConfig, PostgresLedger, SqliteLedger, checked_url
from sim_core.config.explain import shortened
from sim_core.error_table import Trouble
from sim_core.errors import ConfigurationError, Unavailable, WorkspaceError
from sim_core.ledger.schema import bring_to_head, refuse_other_file
from sim_core.ledger.stored import read_json
from sim_core.operations import Operations

LOG = logging.getLogger("quorumlab.ledger")
URL_VARIABLE = "QUORUMLAB_LEDGER_URL"
OPERATIONS = {
    **dict.fromkeys(("SELECT", "WITH"), "ledger.read"),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE"), "ledger.write"),
}
"""What statements count as, by their first word."""
CONNECT_SECONDS = 10
LONGEST_REASON = 600
CLOCK_INSTRUCTIONS = 100_000
"""SQLite's instructions between two looks at the clock, some milliseconds."""


def open_engine(
    path: Path, settings: LedgerConfig | None = None, *, as_it_is: bool = False
) -> Engine:
    """Return an engine on the ledger, made and brought to the schema where that is needed.

    Args:
        path: The file of a ledger in SQLite; unused for PostgreSQL.
        settings: Which database, and how it is used.
        as_it_is: Whether tables are neither made nor upgraded, for who only looks at them.

    Options `{"readonly": True}` of a connection promise not to write: it takes no lock, sees one
    state of the database, and its statements have a time limit.

    Raises:
        WorkspaceError: the file cannot be opened, or is newer or older than this program.
        Unavailable: PostgreSQL does not answer.
    """
    settings = settings or SqliteLedger()
    if isinstance(settings, PostgresLedger):
        return _open_postgres(postgres_url(settings), settings, as_it_is=as_it_is)
    refuse_other_file(path)
    engine = _sqlite_engine(path, settings, as_it_is=as_it_is)
    log_slow_queries(engine, settings.slow_query_seconds)
    if as_it_is:
        return engine
    try:
        bring_to_head(engine, str(path))
    except (OperationalError, DatabaseError, UnicodeDecodeError) as error:
        engine.dispose()
        reason = shortened(str(getattr(error, "orig", "its schema is no text")), LONGEST_REASON)
        raise WorkspaceError(Trouble.LEDGER_UNREADABLE.tell(place=path, reason=reason)) from error
    return engine


def open_reader(settings: LedgerConfig) -> Engine | None:
    """Return an engine on the read replica, if there is one.

    Raises:
        Unavailable: it does not answer.
    """
    if not isinstance(settings, PostgresLedger) or settings.replica_url is None:
        return None
    return _open_postgres(settings.replica_url, settings, as_it_is=True)


def postgres_url(settings: PostgresLedger) -> str:
    """Return the address of the database.

    Raises:
        ConfigurationError: there is none.
    """
    if settings.url is not None:
        return settings.url
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise ConfigurationError(
            "ledger=postgresql needs the address of a database: set ledger.url, or the "
            f"environment variable {URL_VARIABLE}, to postgresql://USER@HOST:PORT/DATABASE"
        )
    try:
        return checked_url(url)
    except ValueError as error:
        raise ConfigurationError(f"{URL_VARIABLE} {error}") from error


def _sqlite_engine(path: Path, settings: SqliteLedger, *, as_it_is: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": settings.busy_timeout_seconds},
        json_deserializer=read_json,
    )
    pragmas = {
        "busy_timeout": int(settings.busy_timeout_seconds * 1000),
        "journal_mode": "WAL",
        "synchronous": settings.synchronous,
        "cache_size": -1024 * settings.cache_mb,  # negative: kibibytes
        "mmap_size": settings.mmap_mb * 1024 * 1024,
        "temp_store": settings.temp_store,
        "wal_autocheckpoint": settings.wal_checkpoint_pages,
    }

    if as_it_is:
        del pragmas["journal_mode"]  # the only one that is written into the file

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name}={value}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """Take the write lock at once, or fail half-way because somebody wrote in between."""
        readonly = connection.get_execution_options().get("readonly", False)
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
        _set_clock(connection, settings.statement_timeout_seconds if readonly else None)

    return engine


def _set_clock(connection: Connection, seconds: float | None) -> None:
    """Let SQLite give up what takes longer than so many seconds from now on."""
    driver: Any = connection.connection.driver_connection
    if seconds is None:
        driver.set_progress_handler(None, 0)
        return
    end = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > end, CLOCK_INSTRUCTIONS)


def _open_postgres(url: str, settings: PostgresLedger, *, as_it_is: bool = False) -> Engine:
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(
        address,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_recycle=int(settings.pool_recycle_seconds),
        pool_timeout=settings.pool_timeout_seconds,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "quorumlab"},
    )
    limit = int((settings.statement_timeout_seconds or 0) * 1000)
    patience = int(settings.lock_timeout_seconds * 1000)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("readonly", False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
        else:
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = {patience}; "
                f"SET LOCAL idle_in_transaction_session_timeout = {patience}"
            )

    log_slow_queries(engine, settings.slow_query_seconds)
    try:
        if not as_it_is:
            bring_to_head(engine, str(address))
        else:
            engine.connect().close()
    except (OperationalError, DatabaseError) as error:
        engine.dispose()
        raise Unavailable(
            Trouble.LEDGER_UNREACHABLE.tell(place=address, reason=str(error.orig).strip())
        ) from error
    return engine


def log_slow_queries(engine: Engine, seconds: float) -> None:
    """Log each query that takes longer, with the plan that the database has for it."""

    @event.listens_for(engine, "before_cursor_execute")
    def start(connection: Connection, *_: Any) -> None:
        connection.info["began"] = time.monotonic()

    @event.listens_for(engine, "after_cursor_execute")
    def end(
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        is_many: bool,  # noqa: FBT001 - SQLAlchemy's signature
    ) -> None:
        del cursor, context
        elapsed = time.monotonic() - connection.info["began"]
        if elapsed < seconds:
            return
        plan = "" if is_many else explain(connection, statement, parameters)
        LOG.warning("slow query, %.2f s: %s%s", elapsed, " ".join(statement.split()), plan)


def time_queries(engine: Engine, operations: Operations) -> None:
    """Time what is read and written from now on; transactions' own statements are left out."""

    @event.listens_for(engine, "before_cursor_execute")
    def start(connection: Connection, *_: Any) -> None:
        connection.info["timed"] = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def end(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        del cursor
        if (name := _operation(statement)) is not None:
            operations.record(name, time.perf_counter() - connection.info["timed"])

    @event.listens_for(engine, "handle_error")
    def fail(context: ExceptionContext) -> None:
        name, connection = _operation(context.statement or ""), context.connection
        if name is not None and connection is not None:
            operations.record(name, time.perf_counter() - connection.info["timed"], failed=True)


def _operation(statement: str) -> str | None:
    """Return what a statement counts as.

    >>> _operation("SELECT 1"), _operation("  insert into t"), _operation("BEGIN IMMEDIATE")
    ('ledger.read', 'ledger.write', None)
    """
    word = statement[:16].split(maxsplit=1)[:1]
    return OPERATIONS.get(word[0].upper()) if word else None


def explain(connection: Connection, statement: str, parameters: Any) -> str:
    """Return the database's plan for a query; of what is no query, nothing."""
    if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
        return ""
    word = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"{word} {statement}", parameters)
        return "".join(f"\n    {row[-1]}" for row in cursor.fetchall())
    finally:
        cursor.close()
