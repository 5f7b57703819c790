"""Which runs of an experiment are executed under a profiler, which never changes a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim_core.config.base import Frozen

ProfileKind = Literal["off", "time", "memory", "objects"]
"""What is looked at; several at once would disturb each other."""


class ProfilingConfig(Frozen):
    """Profiles of runs, wherever they are executed; `quorumlab profile` needs none of this."""

    kind: ProfileKind = "off"
    """`time` (pyinstrument), `memory` (memray) or, at several times the cost, `objects`: memory down to the
    smallest Python object. Files are in experiments/NAME/profiles."""
    runs: int = Field(1, ge=1, le=1_000)
    """Runs that are profiled: the first that a command executes."""
