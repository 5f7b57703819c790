"""How an experiment gives way when its machine is short of something, which never changes a result."""

from __future__ import annotations

from pydantic import Field

from sim_core.config.base import Frozen, Positive


class AdaptationConfig(Frozen):
    """When less is done at once; what was done about it is in summary.json."""

    enabled: bool = False
    """Whether the machine is looked at: fewer shards in flight, smaller ones, empty caches."""
    every_seconds: Positive = 10.0
    """Pause between two looks."""
    memory_percent: float = Field(80.0, gt=0, le=100)
    """Memory in use, of the whole machine, above which it is short."""
    cpu_percent: float = Field(70.0, gt=0, le=100)
    """Processor time in use, of the whole machine, above which it is short."""
    transaction_seconds: Positive = 0.4
    """Length of a transaction of the ledger above which the disk is short."""
