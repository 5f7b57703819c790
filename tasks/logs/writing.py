"""Writing the log of an experiment, for as long as a block lasts, in each of its processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sim_core.config import LoggingConfig
from tasks.logs.context import ContextFilter
from tasks.logs.formats import formatter_of
from tasks.logs.handlers import ConsoleHandler, ListHandler, SharedFileHandler
from tasks.logs.sampling import SamplingFilter

ROOT = logging.getLogger("quorumlab")
"""The logger above all of ours; the one above all others is left alone."""
FILE = "quorumlab.log"


@dataclass(frozen=True)
class LogTarget:
    """Where an experiment's records go."""

    settings: LoggingConfig
    folder: Path
    """For the file: `logs` of the workspace."""
    experiment: str

    def encoded(self) -> str:
        """Return it as a text that `decoded` understands."""
        parts = {"settings": self.settings.model_dump(), "folder": str(self.folder)}
        return json.dumps(parts | {"experiment": self.experiment})

    @classmethod
    def decoded(cls, text: str) -> LogTarget:
        """Return what `encoded` has made a text of."""
        parts = json.loads(text)
        settings = LoggingConfig.model_validate(parts["settings"])
        return cls(settings, Path(parts["folder"]), parts["experiment"])

    @property
    def path(self) -> Path:
        """The file that is being written."""
        return self.folder / FILE


@contextmanager
def written_by_worker(target: LogTarget | None) -> Iterator[list[str]]:
    """Let a worker write into the same file while the block lasts.

    On a machine that does not have it, a node of a cluster, lines are gathered in the list that is given,
    for whoever sends them. A worker's stderr is kept for its last words.
    """
    lines: list[str] = []
    if target is None or not target.settings.file:
        yield lines
        return
    is_here = target.folder.is_dir()
    settings = target.settings.model_copy(update={"console": False, "file": is_here})
    with written(replace(target, settings=settings), *([] if is_here else [ListHandler(lines)])):
        yield lines


def append(target: LogTarget, lines: bytes) -> None:
    """Add whole lines that somebody else has gathered to the file, if it can be written."""
    settings = target.settings
    with suppress(OSError):  # of a file that cannot be opened `written` has told
        file = SharedFileHandler(target.path, max_mb=settings.max_mb, backups=settings.backups)
        with closing(file):
            file.append(lines)


@contextmanager
def written(target: LogTarget, *others: logging.Handler) -> Iterator[None]:
    """Write the records of all loggers of ours while the block lasts.

    Where the file cannot be opened, work goes on without it, and says so.
    """
    settings = target.settings
    sampling = SamplingFilter(settings.sample)
    handlers, problem = _handlers_of(target)
    handlers += others
    for handler in handlers:
        handler.setFormatter(formatter_of(settings.format))
        handler.addFilter(ContextFilter(target.experiment))
    funnel = _Funnel(sampling, handlers, logging.getLevelName(settings.level))
    before, propagates = ROOT.level, ROOT.propagate
    ROOT.setLevel(min(ROOT.getEffectiveLevel(), funnel.level))
    ROOT.propagate = propagates and not settings.console
    ROOT.addHandler(funnel)
    try:
        if problem is not None:
            ROOT.warning("no log in %s: %s", target.path, problem)
        yield
    finally:
        funnel.close()
        ROOT.removeHandler(funnel)
        ROOT.setLevel(before)
        ROOT.propagate = propagates


def _handlers_of(target: LogTarget) -> tuple[list[logging.Handler], OSError | None]:
    settings = target.settings
    handlers: list[logging.Handler] = [ConsoleHandler()] if settings.console else []
    problem: OSError | None = None
    if settings.file:
        try:
            file = SharedFileHandler(target.path, max_mb=settings.max_mb, backups=settings.backups)
            handlers.append(file)
        except OSError as error:
            problem = error
    return handlers, problem


class _Funnel(logging.Handler):
    """Samples records once for all handlers; without any it still keeps Python from printing them."""

    def __init__(
        self, sampling: SamplingFilter, handlers: list[logging.Handler], level: int
    ) -> None:
        super().__init__(level)
        self._sampling, self._handlers = sampling, handlers

    def emit(self, record: logging.LogRecord) -> None:
        if self._sampling.filter(record):
            for handler in self._handlers:
                handler.handle(record)

    def close(self) -> None:
        """Say what was left out at last, and close all."""
        for record in self._sampling.rest():
            for handler in self._handlers:
                handler.handle(record)
        for handler in self._handlers:
            handler.close()
        self._handlers = []
        super().close()
