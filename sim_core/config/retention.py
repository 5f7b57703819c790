"""What is kept of a workspace and for how long, which never changes a result."""

from __future__ import annotations

from pydantic import Field

from sim_core.config.base import Frozen, Positive


class RetentionConfig(Frozen):
    """What a clean-up leaves; never less than resuming, verifying or a longer horizon needs."""

    every_hours: Positive | None = None
    """Hours after which a command cleans up at its end; null: only `quorumlab clean` does."""
    checkpoints: int = Field(1, ge=1, le=1_000)
    """Checkpoints that stay of a finished run: a longer horizon goes on from the last."""
    max_workspace_mb: int | None = Field(None, ge=1)
    """Size of the workspace above which plots and tables of old experiments go; null: none."""
    keep_days: float = Field(30.0, ge=0)
    """Days after which an experiment is old; `quorumlab resume` makes its plots and tables again."""
