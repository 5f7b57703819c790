"""Figures of an experiment for Prometheus: gathered when somebody asks, served or pushed.

The names are those of `METRICS`; docs/reference/telemetry.md lists them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sim_core.bounded_queue import QueueCounts
from sim_core.caching import CacheStatistics
from sim_core.operations import QUANTILES, OperationFigures
from tasks.alerts import AlertCounts

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PUSH_GATEWAY = "QUORUMLAB_PUSH_GATEWAY"
"""HOST:PORT of a push gateway: experiments are over before anybody scrapes them."""
JOB = "quorumlab"
PUSH_SECONDS = 5.0
Kind = Literal["gauge", "counter", "summary"]


@dataclass(frozen=True)
class Named:
    """A metric: what it is called, and what its values are."""

    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Named] = {
    "quorumlab_experiment_info": Named(
        "gauge", "1: the experiment that is at work.", ("experiment", "version")
    ),
    "quorumlab_operation_seconds": Named(
        "summary", "Time that an operation takes, with quantiles 0.5, 0.95, 0.99.", ("operation",)
    ),
    "quorumlab_operation_errors_total": Named("counter", "Operations that failed.", ("operation",)),
    "quorumlab_operation_in_flight": Named("gauge", "Operations at work.", ("operation",)),
    "quorumlab_steps_total": Named("counter", "Steps committed."),
    "quorumlab_node_steps_total": Named("counter", "Steps committed, times the network's nodes."),
    "quorumlab_runs": Named("gauge", "Runs by state: planned, finished, failed.", ("state",)),
    "quorumlab_queue_items_total": Named(
        "counter", "Items of a queue: processed, waited, dropped, failed.", ("queue", "outcome")
    ),
    "quorumlab_cache_requests_total": Named(
        "counter", "Requests to a cache: hits, misses.", ("cache", "outcome")
    ),
    "quorumlab_cache_megabytes": Named("gauge", "What a cache holds.", ("cache",)),
    "quorumlab_issues_total": Named("counter", "Issues that were told.", ("kind", "severity")),
    "quorumlab_alerts_total": Named(
        "counter", "Messages to people: sent, failed, withheld.", ("outcome",)
    ),
    "quorumlab_resource": Named(
        "gauge", "The newest sample of processes and machine, by MLflow's name for it.", ("name",)
    ),
}


@dataclass(frozen=True)
class Figures:
    """All that is known of an experiment at one moment."""

    experiment: str
    version: str
    operations: Mapping[str, OperationFigures]
    steps: int
    node_steps: int
    runs: Mapping[str, int]
    queues: Mapping[str, QueueCounts]
    caches: Mapping[str, CacheStatistics]
    issues: Mapping[tuple[str, str], int]
    alerts: AlertCounts
    resources: Mapping[str, float]


Row = tuple[str, tuple[str, ...], float]
"""A metric's name, the values of its labels, and its value."""


def rows_of(figures: Figures) -> Iterator[Row]:
    """Yield the value of every metric that is a single number."""
    yield "quorumlab_experiment_info", (figures.experiment, figures.version), 1.0
    yield "quorumlab_steps_total", (), float(figures.steps)
    yield "quorumlab_node_steps_total", (), float(figures.node_steps)
    for state, n in figures.runs.items():
        yield "quorumlab_runs", (state,), float(n)
    for name, found in figures.operations.items():
        yield "quorumlab_operation_errors_total", (name,), float(found.errors)
        yield "quorumlab_operation_in_flight", (name,), float(found.in_flight)
    for name, counts in figures.queues.items():
        for outcome in ("processed", "waited", "dropped", "failed"):
            yield "quorumlab_queue_items_total", (name, outcome), float(getattr(counts, outcome))
    for name, statistics in figures.caches.items():
        yield "quorumlab_cache_requests_total", (name, "hits"), float(statistics.hits)
        yield "quorumlab_cache_requests_total", (name, "misses"), float(statistics.misses)
        yield "quorumlab_cache_megabytes", (name,), statistics.megabytes
    for (kind, severity), n in figures.issues.items():
        yield "quorumlab_issues_total", (kind, severity), float(n)
    for outcome in ("sent", "failed", "withheld"):
        yield "quorumlab_alerts_total", (outcome,), float(getattr(figures.alerts, outcome))
    for name, value in figures.resources.items():
        yield "quorumlab_resource", (name.removeprefix("system/"),), value


def registry(gather: Callable[[], Figures]) -> CollectorRegistry:
    """Return what Prometheus's client serves or pushes; figures are gathered when it asks."""
    from prometheus_client import CollectorRegistry

    class Collector:
        def collect(self) -> list[Metric]:
            return families(gather())

        def describe(self) -> list[Metric]:  # without it the client asks at once
            return []

    found = CollectorRegistry()
    found.register(Collector())
    return found


def families(figures: Figures) -> list[Metric]:
    """Return the figures as Prometheus's client has them."""
    from prometheus_client.metrics_core import Metric

    # A counter's family is named without the ending that its samples have.
    found = {
        name: Metric(name.removesuffix("_total"), named.meaning, named.kind)
        for name, named in METRICS.items()
    }
    for name, values, value in rows_of(figures):
        labels = dict(zip(METRICS[name].labels, values, strict=True))
        found[name].add_sample(name, labels, value)
    summary = "quorumlab_operation_seconds"
    for operation, times in figures.operations.items():
        labels = {"operation": operation}
        for quantile, seconds in zip(QUANTILES, (times.p50, times.p95, times.p99), strict=True):
            if seconds is not None:
                found[summary].add_sample(summary, {**labels, "quantile": f"{quantile:g}"}, seconds)
        found[summary].add_sample(f"{summary}_count", labels, float(times.count))
        found[summary].add_sample(f"{summary}_sum", labels, times.seconds)
    return list(found.values())


def push(experiment: str, what: CollectorRegistry, gateway: str) -> None:
    """Send all figures to a push gateway, in place of those that it has of the experiment.

    Raises:
        OSError: it does not take them.
    """
    from prometheus_client import push_to_gateway

    push_to_gateway(
        gateway,
        job=JOB,
        registry=what,
        grouping_key={"experiment": experiment},
        timeout=PUSH_SECONDS,
    )


def push_gateway(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return where figures are pushed to, if anywhere."""
    return environment.get(PUSH_GATEWAY) or None
