"""What is logged of an experiment, and where, which never changes a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim_core.config.base import Frozen, Positive


class SampleConfig(Frozen):
    """Which of many records of one kind are written: those of one message, in one process."""

    first: int = Field(100, ge=1)
    """The first so many of a message; warnings and errors are always written."""
    every: int = Field(100, ge=1)
    """Then each so-manieth, which says how many were left out; 1: all of them."""


class LoggingConfig(Frozen):
    """Records of this program (loggers `quorumlab.*`); what others log is left to them."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe that is written."""
    format: Literal["human", "json"] = "human"
    """A line for people, or an object per line for machines."""
    console: bool = False
    """Whether they are written to stderr as well, where the terminal does not tell the same."""
    file: bool = True
    """Whether they are written to logs/quorumlab.log in the workspace, by workers too."""
    max_mb: Positive = 10.0
    """Size at which the file is put aside and a new one begun."""
    backups: int = Field(5, ge=1, le=1_000)
    """Files put aside that are kept."""
    sample: SampleConfig = SampleConfig()
