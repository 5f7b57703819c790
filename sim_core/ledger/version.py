"""What state a ledger database is in: a token that is another one after every commit.

An answer is read *after* the token under which it is kept. While the token stays, nothing was
committed in between, whoever might have done it, so that the answer still holds.

SQLite counts, for each connection, the commits of others that it has noticed (`PRAGMA
data_version`), hence one connection that asks nothing else and never writes. Of PostgreSQL the
token is the snapshot: which transactions can be seen. Equal snapshots see equal rows, and a
snapshot never comes back. Neither the position in the write-ahead log (a commit is written there
before others see it) nor counts and sums over tables (a text may change) would do.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from contextlib import suppress
from itertools import count
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sim_core.ledger.transactions import explained

SNAPSHOT = text("SELECT pg_current_snapshot()::text")
_NUMBERS = count()


class DatabaseVersion:
    """Reads the token of one database; may be used from several threads.

    Only of the database that is written: the snapshots of a replica do not tell all.
    """

    def __init__(self, engine: Engine) -> None:
        """Open nothing yet."""
        self._engine = engine
        self._lock = threading.Lock()
        self._watch: Any = None
        self._number = next(_NUMBERS)

    def read(self) -> Hashable:
        """Return the token of now, which is of use to this object alone.

        Raises:
            LedgerFailed: the database does not answer.
        """
        try:
            return self._snapshot() if self._engine.name == "postgresql" else self._data_version()
        except (DBAPIError, PoolTimeout) as error:
            raise explained(error) from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._let_go()

    def _snapshot(self) -> Hashable:
        options = {"isolation_level": "AUTOCOMMIT"}
        with self._engine.connect().execution_options(**options) as connection:
            return str(connection.execute(SNAPSHOT).scalar_one())

    def _data_version(self) -> Hashable:
        with self._lock:
            if self._watch is None:
                self._number = next(_NUMBERS)  # numbers of two connections cannot be compared
                self._watch = self._engine.raw_connection()
                self._watch.detach()
            try:
                row = self._watch.dbapi_connection.execute("PRAGMA data_version").fetchone()
            except self._engine.dialect.loaded_dbapi.Error as error:
                self._let_go()
                raise DBAPIError.instance(
                    "PRAGMA data_version", None, error, self._engine.dialect.loaded_dbapi.Error
                ) from error
            return self._number, row[0]

    def _let_go(self) -> None:
        if self._watch is not None:
            with suppress(self._engine.dialect.loaded_dbapi.Error):
                self._watch.close()
            self._watch = None
