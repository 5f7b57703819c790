"""What is kept in memory of what was read, which never changes an answer or a result."""

from __future__ import annotations

from pydantic import Field

from sim_core.config.base import Frozen, Positive


class CacheConfig(Frozen):
    """How much is kept in memory of what was read from the ledger, and how long."""

    memory_mb: int = Field(100, ge=0, le=1_048_576)
    """Most memory of a cache; what was used least recently goes first; 0: nothing is kept."""
    ttl_seconds: Positive = 300.0
    """Age at which an answer is read again although nothing has changed."""
    compress: bool = False
    """Whether answers are kept compressed (Zstandard): more of them fit, each takes longer."""
    warm_up: bool = False
    """Whether programs that go on reading read ahead when they start."""
    warm_up_seconds: Positive | None = None
    """Pause after which they read ahead once more; null: never."""
