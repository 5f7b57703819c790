"""What a command has sampled and found so far, for whoever looks on: a file in the experiment's folder, a line each.

A line is written at once and whole, so that a kill costs no more than the last one. The file is gone when its
samples are kept (`resource_history`); what a killed command has left is kept by the next one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.issues import SEVERITIES, Issue
from tasks.sample_resources import ResourceSample

LOG = logging.getLogger("quorumlab.telemetry")
FILES = "live-*.jsonl"
TIME, ISSUE = "ms", "issue"
DIGITS = 3
MOST_FILES = 8
"""Whose content is kept, for all who look at them until something is added."""


class LiveHistory:
    """The file of one command. What cannot be written is left out: nothing depends on it."""

    def __init__(self, folder: Path | None) -> None:
        """Write nothing yet, and nothing at all where there is no folder."""
        self._folder = folder
        self._path: Path | None = None
        self._file: int | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._folder is None:
            return self
        path = self._folder / f"live-{time.time_ns() // 1_000_000}-{os.getpid()}.jsonl"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_SH)  # the system takes it back, however this ends
            self._path = path
        except OSError as error:
            LOG.warning("%s: %s; the experiment is not seen while it is at work", path, error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def sample(self, sample: ResourceSample) -> None:
        """Add a sample."""
        values = {name: round(value, DIGITS) for name, value in sample.values.items()}
        self._add({TIME: sample.timestamp_ms, **values})

    def issue(self, issue: Issue) -> None:
        """Add an issue that has been found now."""
        self._add({TIME: time.time_ns() // 1_000_000, ISSUE: asdict(issue)})

    def discard(self) -> None:
        """Remove the file: what was in it is kept elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _add(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file is None:
                return
            try:
                os.write(self._file, line)
            except OSError as error:  # such as a full disk
                LOG.warning("%s: %s; samples are no longer written", self._path, error)
                os.close(self._file)
                self._file = None


@dataclass(frozen=True)
class Seen:
    """What such files say."""

    samples: tuple[ResourceSample, ...]
    issues: tuple[tuple[int, Issue], ...]
    """With when they were found, in milliseconds since 1970."""


def live_files(folder: Path) -> list[Path]:
    """Return the files of commands that are at work on an experiment or have been killed, oldest first."""
    return sorted(folder.glob(FILES))


def left_behind(folder: Path) -> list[Path]:
    """Return those of commands that are gone."""
    return [path for path in live_files(folder) if _is_left(path)]


def _is_left(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_live(path: Path) -> Seen:
    """Return what a file says; what is no whole line of ours is left out."""
    try:
        size = path.stat().st_size
    except OSError:  # it has been kept meanwhile
        return Seen((), ())
    return _read(path, size)


@lru_cache(maxsize=MOST_FILES)
def _read(path: Path, size: int) -> Seen:
    """Read a file; `size` tells the cache of what was added, all that ever happens to such a file."""
    del size
    samples: list[ResourceSample] = []
    issues: list[tuple[int, Issue]] = []
    for entry in _entries(path):
        at, issue = entry.pop(TIME, None), entry.pop(ISSUE, None)
        if not isinstance(at, int):
            continue
        if isinstance(issue, dict):
            issues += [(at, found) for found in _issue(issue)]
        elif all(isinstance(value, int | float) for value in entry.values()):
            samples.append(ResourceSample(at, {name: float(v) for name, v in entry.items()}))
    return Seen(tuple(samples), tuple(issues))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:  # it has been kept meanwhile
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _issue(found: dict[str, Any]) -> Iterator[Issue]:
    try:
        issue = Issue(**{name: str(text) for name, text in found.items()})  # type: ignore[arg-type]
    except TypeError:
        return
    if issue.severity in SEVERITIES:
        yield issue
