"""What is watched while an experiment runs, which never changes a result."""

from __future__ import annotations

from pydantic import Field

from sim_core.config.base import Frozen, Positive, Share


class MonitoringConfig(Frozen):
    """What is measured, and where it can be read."""

    enabled: bool = True
    """Whether resources and operations are measured at all."""
    every_seconds: float = Field(1.0, ge=0.1)
    """Between two samples of processes and machine."""
    port: int | None = Field(None, ge=1, le=65_535)
    """Of the loopback, where `/metrics` (Prometheus), `/health` and `/ready` are answered while the
    experiment runs; null: nowhere."""
    trace_runs: Share = 0.1
    """Share of runs whose segments are in the trace, where traces are exported."""


class AlertsConfig(Frozen):
    """When something is an issue, and how often that is said."""

    enabled: bool = True
    """Whether anybody looks."""
    every_seconds: Positive = 30.0
    """Between two looks."""
    window_seconds: Positive = 300.0
    """Time before a look that it is compared with."""
    cpu_percent: float = Field(85.0, gt=0, le=100)
    """Of all processors, taken by other programs, above which they are in the way."""
    cpu_spike: float = Field(25.0, gt=0, le=100)
    """Points above the window's mean of what other programs take."""
    memory_percent: float = Field(90.0, gt=0, le=100)
    """Memory in use, of the whole machine, above which it is short."""
    memory_spike: float = Field(20.0, gt=0, le=100)
    """Points above the window's mean; twice as much is severe."""
    driver_mb: Positive = 2_000.0
    """Memory that the process that conducts the experiment has taken for it, beyond what it held before."""
    growth_mb: Positive = 200.0
    """Growth of all its processes within a window, without a pause, that is called a leak."""
    response_seconds: Positive = 1.0
    """Mean time of an operation of ledger or checkpoints between two looks."""
    error_percent: float = Field(5.0, gt=0, le=100)
    """Of an operation between two looks; twice as much is critical."""
    throughput_drop_percent: float = Field(20.0, gt=0, lt=100)
    """Fall of node-steps per second below the slowest look of the window, twice in a row."""
    stalled_seconds: Positive = 60.0
    """Without a step, while runs are executed."""
    repeat_seconds: Positive = 3_600.0
    """Before the same issue is told again, unless it has become worse."""
    most_per_hour: int = Field(20, ge=1)
    """Messages that leave this program."""
