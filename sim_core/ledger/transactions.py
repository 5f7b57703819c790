"""Transactions of the ledger: tried again where that helps, explained where it does not."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from sim_core.config.explain import shortened
from sim_core.error_table import Handling, Trouble
from sim_core.errors import LedgerFailed

LOG = logging.getLogger("quorumlab.ledger")
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0
LONGEST_REASON = 600
BUSY, AWAY, FULL = Trouble.LEDGER_BUSY, Trouble.LEDGER_AWAY, Trouble.LEDGER_FULL
BROKEN, SLOW, OTHER = Trouble.LEDGER_BROKEN, Trouble.LEDGER_SLOW, Trouble.LEDGER_OTHER
SQLITE_CLASSES = {
    "SQLITE_BUSY": BUSY,
    "SQLITE_LOCKED": BUSY,
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR": BROKEN,
    "SQLITE_CORRUPT": BROKEN,
    "SQLITE_NOTADB": BROKEN,
    "SQLITE_READONLY": BROKEN,
    "SQLITE_CANTOPEN": BROKEN,
    "SQLITE_INTERRUPT": SLOW,
}
POSTGRES_CLASSES = {
    "40": BUSY,  # serialisation failure, deadlock
    "55": BUSY,  # lock not available
    "08": AWAY,
    "25P03": AWAY,  # thrown out of a transaction in which this process stood still
    "57P": AWAY,  # shut down, starting up
    "53300": AWAY,  # too many connections
    "531": FULL,
    "57014": SLOW,
    "58": BROKEN,
    "XX": BROKEN,
}
"""By the beginning of the SQLSTATE (PostgreSQL's manual, appendix A); the longest that fits."""
Result = TypeVar("Result")


class Database:
    """One ledger database: who writes, who reads, and how often either is tried."""

    def __init__(self, engine: Engine, *, reader: Engine | None = None, attempts: int = 6) -> None:
        """Write through `engine`; read what may lag through `reader`, where there is a replica."""
        self.engine = engine
        self._replica = reader or engine
        self._attempts = attempts
        self._writing = threading.Lock()

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns, done in one transaction; it may be called again.

        Raises:
            LedgerFailed: the transaction cannot be made, however often it is tried.
        """

        def transaction() -> Result:
            with self._writing, self.engine.begin() as connection:
                return work(connection)

        return self._explained(self._retrying(transaction))

    @contextmanager
    def reading(self, *, may_lag: bool = False) -> Iterator[Connection]:
        """Give a connection that sees one state of the ledger and never waits for the writer.

        Raises:
            LedgerFailed: the database does not answer, or a query takes too long.
        """
        try:
            engine = self._replica if may_lag else self.engine
            with engine.execution_options(readonly=True).connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, UnicodeDecodeError) as error:
            raise explained(error) from error

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self._replica is not self.engine:
            self._replica.dispose()

    def _retrying(self, transaction: Callable[[], Result]) -> Callable[[], Result]:
        retrying = Retrying(
            retry=retry_if_exception(lambda error: class_of(error).handling is Handling.RETRIED),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(
                multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS, jitter=FIRST_WAIT_SECONDS
            ),
            before_sleep=_tell,
            reraise=True,
        )
        return lambda: retrying(transaction)

    @staticmethod
    def _explained(work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (DBAPIError, PoolTimeout, UnicodeDecodeError) as error:
            raise explained(error) from error


def class_of(error: BaseException) -> Trouble:
    """Return which row of the table of errors a failure of the database is."""
    if isinstance(error, PoolTimeout):
        return AWAY
    if isinstance(error, UnicodeDecodeError):  # names in SQLite's file that are no text
        return BROKEN
    if not isinstance(error, DBAPIError):
        return OTHER
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        return next((c for key, c in SQLITE_CLASSES.items() if name.startswith(key)), OTHER)
    if isinstance(error.orig, sqlite3.OperationalError):  # a column of text that is none
        return BROKEN
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return AWAY if isinstance(error, OperationalError | InterfaceError) else OTHER
    fitting = [key for key in POSTGRES_CLASSES if state.startswith(key)]
    return POSTGRES_CLASSES[max(fitting, key=len)] if fitting else OTHER


def explained(error: DBAPIError | PoolTimeout | UnicodeDecodeError) -> LedgerFailed:
    """Return the error that says what it means and what to do."""
    text = str(getattr(error, "orig", error)).partition("(Background on this error")[0].strip()
    return LedgerFailed(class_of(error).tell(reason=shortened(text, LONGEST_REASON)))


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    LOG.warning("ledger: try %d failed and is repeated: %s", state.attempt_number, error)
