"""An experiment as a trace of OpenTelemetry: experiment, stage, shard, run, segment.

Where to is said by OpenTelemetry's own variables of the environment: OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Without them nothing is imported, and nothing is done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sim_core.simulate import Segment

if TYPE_CHECKING:
    from opentelemetry.trace import Span

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
PATIENCE_SECONDS = 3.0
"""For who takes no traces: an experiment does not end before."""
SHARES = 2**32
"""Of the first 32 bits of a run's key, which choose the runs that are traced."""
Value = str | int | float | bool


class Traces:
    """No trace: what is called where none is exported."""

    @contextmanager
    def experiment(self, name: str, values: Mapping[str, Value]) -> Iterator[None]:
        """Trace an experiment while the block lasts."""
        del name, values
        yield

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Trace a stage of the experiment."""
        del name
        yield

    @contextmanager
    def shard(self, index: int, runs: int) -> Iterator[object]:
        """Trace a shard of the stage; gives what its runs belong to."""
        del index, runs
        yield None

    def segment(self, shard: object, segment: Segment) -> None:
        """Trace a segment that has arrived, and its run with the last one."""


class ExportedTraces(Traces):
    """A trace that is sent to where the environment says."""

    def __init__(self, run_share: float) -> None:
        """Trace so large a share of the runs; which ones depends on their keys alone."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = {"service.name": "quorumlab", "service.version": version("quorumlab")}
        self._provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
        patience = None if os.environ.get(TIMEOUT) else PATIENCE_SECONDS
        exporter = OTLPSpanExporter(timeout=patience)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("quorumlab")
        self._least = round(run_share * SHARES)
        self._stage: Span | None = None
        self._root: Span | None = None
        self._runs: dict[str, Span] = {}

    @contextmanager
    def experiment(self, name: str, values: Mapping[str, Value]) -> Iterator[None]:
        """Trace an experiment while the block lasts, and send what is left at its end."""
        try:
            with self._span("experiment", None, {"experiment": name, **values}) as span:
                self._root = span
                yield
        finally:
            for run in self._runs.values():  # they go on another time
                run.end()
            self._provider.shutdown()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Trace a stage of the experiment."""
        with self._span(name, self._root, {}) as span:
            before, self._stage = self._stage, span
            try:
                yield
            finally:
                self._stage = before

    @contextmanager
    def shard(self, index: int, runs: int) -> Iterator[object]:
        """Trace a shard of the stage; gives what its runs belong to."""
        with self._span("shard", self._stage or self._root, {"shard": index, "runs": runs}) as span:
            yield span

    def segment(self, shard: Any, segment: Segment) -> None:
        """Trace a segment that has arrived, and its run with the last one."""
        if int(segment.run_key[:8], 16) >= self._least:
            return
        ended = time.time_ns()
        began = ended - round(segment.resources.wall_seconds * 1e9)
        run = self._runs.get(segment.run_key)
        if run is None:
            run = self._start("run", shard, {"run": segment.run_key[:12]}, began)
            self._runs[segment.run_key] = run
        values: dict[str, Value] = {
            "first_step": segment.first_step,
            "next_step": segment.next_step,
            "cpu_seconds": segment.resources.cpu_seconds,
            "peak_rss_mb": segment.resources.peak_rss_mb,
            "shared": segment.shared,
        }
        self._start("segment", run, values, began).end(ended)
        if segment.summary is not None:
            self._runs.pop(segment.run_key).end(ended)

    @contextmanager
    def _span(self, name: str, parent: Span | None, values: Mapping[str, Value]) -> Iterator[Span]:
        from opentelemetry.trace import Status, StatusCode

        span = self._start(name, parent, values, None)
        try:
            yield span
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()

    def _start(
        self, name: str, parent: Span | None, values: Mapping[str, Value], began: int | None
    ) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        context = Context() if parent is None else set_span_in_context(parent, Context())
        return self._tracer.start_span(
            name, context=context, attributes=dict(values), start_time=began
        )


def open_traces(run_share: float) -> Traces:
    """Return what traces an experiment, if the environment says where to."""
    if any(os.environ.get(name) for name in VARIABLES):
        return ExportedTraces(run_share)
    return Traces()
