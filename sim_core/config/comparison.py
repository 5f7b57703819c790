"""When a difference between points counts."""

from __future__ import annotations

from pydantic import Field

from sim_core.config.base import Frozen, Positive
from sim_core.config.stopping import MetricName


class ComparisonConfig(Frozen):
    """How points are compared at the end; never changes a result."""

    baseline: str | None = Field(None, max_length=100)
    """Label of the point that others are compared with; without it the first."""
    metrics: tuple[MetricName, ...] = Field((), max_length=30)
    """What is compared, and corrected for each other; without any, the metrics of tables for people."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """Probability with which any difference may be shown where there is none, after correction."""
    smallest_effect: Positive = 0.05
    """Smallest difference that would matter, as a share of the baseline's mean (between 0 and 1: of 0.2 at least)."""
