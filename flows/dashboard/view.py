"""A workspace as the dashboard looks at it: answers are kept while the ledger says the same.

Whoever looks at a page must neither wait for nor disturb an experiment: nothing is written, a
database that is away is told in words, and what was read last stays, with its time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from sim_core.checkpoint import CheckpointFolder
from sim_core.config import SqliteLedger
from sim_core.config.explain import shortened
from sim_core.errors import QuorumlabError
from sim_core.ledger.engine import open_engine, open_reader
from sim_core.ledger.store import Ledger
from sim_core.ledger.version import DatabaseVersion
from sim_core.workspace import Workspace, existing_workspace, read_ledger_settings

T = TypeVar("T")
MOST_ANSWERS = 256
BUSY_SECONDS = 2.0
"""That a page waits for a file that is locked."""
LONGEST_REASON = 400


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a question was answered last, and whether that still holds."""

    value: T | None
    """None where there never was an answer."""
    read_at: float | None
    """Seconds since 1970 at which it held last."""
    trouble: str | None = None
    """Why it was not read again; None where it is of now."""

    @property
    def is_stale(self) -> bool:
        """Whether it may have changed since it was read."""
        return self.trouble is not None


class LedgerView:
    """The ledger of one workspace; may be used from several threads, by all who look at it."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open nothing yet."""
        self.workspace = Workspace(folder.expanduser().absolute())
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: tuple[Ledger, DatabaseVersion, Hashable] | None = None
        self._kept: OrderedDict[Hashable, tuple[Hashable, Answer[Any]]] = OrderedDict()
        self.hits = self.misses = 0

    @property
    def is_empty(self) -> bool:
        """Whether no experiment has been run here yet."""
        return not self.workspace.has_ledger

    def ask(self, question: Hashable, load: Callable[[Ledger], T]) -> Answer[T]:
        """Return what `load` reads, unless the ledger is the same as when it was read last.

        Args:
            question: Tells this question from all others.
            load: Reads the answer.
        """
        with self._lock:
            kept = self._kept.get(question)
        try:
            ledger, version = self._open()
            token = version.read()
            if kept is not None and kept[0] == token and kept[1].trouble is None:
                self.hits += 1
                answer = cast("Answer[T]", replace(kept[1], read_at=self._clock()))
            else:
                self.misses += 1
                answer = Answer(load(ledger), self._clock())
        except (QuorumlabError, DBAPIError, OSError) as error:
            self.close()
            reason = shortened(" ".join(str(error).split()), LONGEST_REASON)
            if kept is None:
                return Answer(None, None, reason)
            return cast("Answer[T]", replace(kept[1], trouble=reason))
        self._keep(question, token, answer)
        return answer

    def forget(self) -> int:
        """Drop all answers that are kept; return how many there were."""
        with self._lock:
            n = len(self._kept)
            self._kept.clear()
        return n

    def close(self) -> None:
        """Close the database; the next question opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()
            opened[0].dispose()

    def _keep(self, question: Hashable, token: Hashable, answer: Answer[Any]) -> None:
        with self._lock:
            self._kept[question] = (token, answer)
            self._kept.move_to_end(question)
            while len(self._kept) > MOST_ANSWERS:
                self._kept.popitem(last=False)

    def _open(self) -> tuple[Ledger, DatabaseVersion]:
        """Return the ledger, opened again where another file has taken its place."""
        workspace = existing_workspace(self.workspace.folder)
        place = _place(workspace)
        with self._lock:
            if self._opened is not None and self._opened[2] == place:
                return self._opened[:2]
        self.close()
        settings = read_ledger_settings(workspace)
        if isinstance(settings, SqliteLedger):
            settings = settings.model_copy(update={"busy_timeout_seconds": BUSY_SECONDS})
        engine = open_engine(workspace.database, settings, as_it_is=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _refuse_writing)
        folder = CheckpointFolder(workspace.checkpoints)
        ledger = Ledger(engine, folder, reader=open_reader(settings), attempts=1)
        version = DatabaseVersion(engine)
        with self._lock:
            self._opened = (ledger, version, place)
        return ledger, version


def _refuse_writing(connection: Any, record: Any) -> None:
    """Have SQLite itself refuse what would change the file; PostgreSQL's transactions do so anyway."""
    del record
    connection.execute("PRAGMA query_only=1")


def _place(workspace: Workspace) -> Hashable:
    """Return what tells this database from another one at the same place."""
    if workspace.ledger_settings.is_file():
        return workspace.ledger_settings.read_bytes()
    found = workspace.database.stat()
    return found.st_dev, found.st_ino


def age_in_words(seconds: float) -> str:
    """Return how long ago something was.

    >>> age_in_words(0.4), age_in_words(75), age_in_words(7_300), age_in_words(200_000)
    ('just now', '75 s ago', '2.0 h ago', '2 d ago')
    """
    if seconds < 1:
        return "just now"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.1f} h ago" if seconds < 172_800 else f"{seconds / 86_400:.0f} d ago"
