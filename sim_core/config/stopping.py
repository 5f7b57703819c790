"""When a point of an experiment has replicates enough, which never changes the result of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sim_core.config.base import Frozen, Positive

MetricName = Literal[
    "auroc",
    "benign_blocked",
    "benign_blocked_share",
    "bytes_sent",
    "decision_steps",
    "detected_share",
    "detection_delay_steps",
    "expirations",
    "f1",
    "false_confirmations",
    "first_flag_delay_steps",
    "immunity_delay_steps",
    "immunity_share",
    "infected_share",
    "mcc",
    "messages_lost",
    "messages_sent",
    "missed",
    "precision",
    "recall",
    "rejections",
    "run_length_steps",
    "true_confirmations",
]
"""What `sim_core.metrics.summarise` gives of a run."""


class UntilConfig(Frozen):
    """Replicates of each point until the 95 % intervals of these metrics are narrow enough."""

    metrics: tuple[MetricName, ...] = Field(min_length=1, max_length=20)
    """Metrics that are to be known; those of docs/reference/metrics.md."""
    half_width: Positive | None = None
    """Half of an interval at most, in the metric's own unit."""
    relative: Positive | None = None
    """Half of an interval at most, as a share of the mean; with `half_width`, either is enough."""
    minimum: int = Field(5, ge=2, le=100_000)
    """Replicates of each point before its intervals are looked at first."""
    maximum: int = Field(100, ge=2, le=100_000)
    """Replicates of a point after which it is left as it is."""
    step: int = Field(5, ge=1, le=100_000)
    """Replicates that a point gets before its intervals are looked at again."""

    @model_validator(mode="after")
    def _has_an_end(self) -> UntilConfig:
        if self.half_width is None and self.relative is None:
            raise ValueError("say how narrow: half_width or relative")
        if self.minimum > self.maximum:
            raise ValueError(f"minimum={self.minimum} is above maximum={self.maximum}")
        return self
