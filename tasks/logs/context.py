"""Which run a record is about: known to whoever logs, without being told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from sim_core.simulate import RunSpec

TOLD = {"told": True}
"""`extra` of records whose content the terminal shows anyway."""


@dataclass(frozen=True)
class About:
    """What a record is about; None where it is about none."""

    run: str | None = None
    """First 12 digits of the run's key."""
    point: str | None = None
    replicate: int | None = None
    step: int | None = None


NOTHING = About()
FIELDS = ("experiment", *About.__dataclass_fields__)
_ABOUT: ContextVar[About] = ContextVar("about", default=NOTHING)


@contextmanager
def about_run(spec: RunSpec, step: int | None = None) -> Iterator[None]:
    """Let records of the block be about a run, in this thread."""
    token = _ABOUT.set(About(spec.run_key[:12], spec.point, spec.replicate, step))
    try:
        yield
    finally:
        _ABOUT.reset(token)


@contextmanager
def at_step(step: int) -> Iterator[None]:
    """Let records of the block be about a step of whatever they are about."""
    token = _ABOUT.set(replace(_ABOUT.get(), step=step))
    try:
        yield
    finally:
        _ABOUT.reset(token)


class ContextFilter(logging.Filter):
    """Adds to each record what it is about."""

    def __init__(self, experiment: str) -> None:
        """Records are of this experiment."""
        super().__init__()
        self._experiment = experiment

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete a record; all of them pass."""
        record.experiment = self._experiment
        about = _ABOUT.get()
        for name in About.__dataclass_fields__:
            setattr(record, name, getattr(about, name))
        return True
