"""Where lines go: to one file that several processes write, and to stderr.

Each record is appended by one system call, so that lines of different processes never mix, and a process
that is killed has lost nothing that it has logged. Who finds the file too large puts it aside while it
holds a lock; the others see that they hold an old file, and open the new one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

MB = 1 << 20


class SharedFileHandler(RotatingFileHandler):
    """Appends to a file that others append to, and puts it aside when it is too large."""

    def __init__(self, path: Path, *, max_mb: float, backups: int) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = path.with_name(f".{path.name}.lock")
        super().__init__(path, maxBytes=int(max_mb * MB), backupCount=backups, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line; whatever goes wrong with that is no reason to stop work."""
        try:
            self.append(f"{self.format(record)}\n".encode())
        except Exception:  # noqa: BLE001 - a full disk, for instance, of which others will tell
            self.handleError(record)

    def append(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the disk is full or broken.
        """
        self._make_room(len(lines))
        os.write(self._file().fileno(), lines)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say nothing: the terminal is for the experiment, which does not depend on its log."""

    def _make_room(self, n_bytes: int) -> None:
        if (
            self._is_current()
            and os.fstat(self._file().fileno()).st_size + n_bytes <= self.maxBytes
        ):
            return
        with self._locked() as is_locked:
            if not self._is_current():  # another process has put it aside
                self._reopen()
            size = os.fstat(self._file().fileno()).st_size
            if is_locked and size and size + n_bytes > self.maxBytes:
                self.doRollover()

    def _is_current(self) -> bool:
        """Return whether the open file is the one of that name."""
        try:
            there, ours = Path(self.baseFilename).stat(), os.fstat(self._file().fileno())
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _file(self) -> IO[str]:
        if self.stream is None:
            self.stream = self._open()
        return self.stream

    def _reopen(self) -> None:
        self._file().close()
        self.stream = self._open()

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Give whether this process alone may put the file aside; nobody waits for one that stands still."""
        with self._lock_file.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic for mypy alone
    """Writes to stderr, as it is now, what the terminal does not show anyway."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line above whatever bars are shown."""
        if not getattr(record, "told", False):
            self.stream = sys.stderr
            super().emit(record)


class ListHandler(logging.Handler):
    """Gathers lines for somebody who sends them."""

    def __init__(self, lines: list[str]) -> None:
        """Add to `lines`."""
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        self._lines.append(self.format(record))
