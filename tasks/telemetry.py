"""What is seen of an experiment while it is at work: operations, resources, issues, and who is told.

One object that everything reports to. It serves and pushes figures, looks for issues now and then
from a thread of its own, and never changes or stops the work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from sim_core.bounded_queue import QueueCounts
from sim_core.caching import all_statistics
from sim_core.config import AlertsConfig, MonitoringConfig
from sim_core.operations import Operations
from sim_core.simulate import Segment
from tasks.alerts import Alerts, channels
from tasks.issues import SEVERITIES, Issue, Look, find_issues
from tasks.live_history import LiveHistory
from tasks.prometheus import Figures, push, push_gateway, registry
from tasks.sample_resources import DRIVER, OTHERS, RUNS, STEPS, ResourceSample, ResourceSampler
from tasks.traces import Traces, Value, open_traces

LOG = logging.getLogger("quorumlab.telemetry")
SHARD, STAGE = "shard", "stage."
RUN, SEGMENT, STEP, NODE = "run", "segment", "step", "node"
COMMIT = "ledger.commit"
PUSH_EVERY_SECONDS = 15.0
SEVERE = SEVERITIES.index("high")


@dataclass(frozen=True)
class Sources:
    """Where figures come from that are counted elsewhere."""

    queues: Callable[[], Mapping[str, QueueCounts]] = dict


class Telemetry:
    """All that is measured of one experiment. Not a dataclass: Prefect would copy what it finds inside."""

    def __init__(
        self,
        experiment: str,
        monitoring: MonitoringConfig,
        alerts: AlertsConfig,
        operations: Operations,
        *,
        tell: Callable[[str], None],
        sources: Sources | None = None,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Measure nothing yet; `tell` shows an issue to whoever follows, `folder` is where others see all.

        Raises:
            ConfigurationError: the environment names no address of the web for alerts.
        """
        self.experiment, self.operations = experiment, operations
        self.steps = self.node_steps = 0
        self.runs: Counter[str] = Counter(planned=0, finished=0, failed=0)
        self._monitoring, self._limits, self._clock = monitoring, alerts, clock
        self._sources = sources or Sources()
        ways = channels() if monitoring.enabled and alerts.enabled else []
        self.alerts = Alerts(experiment, alerts, ways, tell=tell, clock=clock)
        self._traces: Traces = Traces()
        self._sampler: ResourceSampler | None = None
        self._live = LiveHistory(folder)
        self._more: Callable[[], Mapping[str, float]] = dict
        self._looks: list[Look] = []
        self._seen = 0
        self._progressed = clock()
        self._spent: dict[str, float] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def at_work(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Watch an experiment while the block lasts; `values` describe it in a trace.

        Raises:
            ConfigurationError: the port for figures is taken.
        """
        if not self._monitoring.enabled:
            yield
            return
        with ExitStack() as stack:
            figures = registry(self.figures)
            if self._monitoring.port is not None:
                from tasks.serve_metrics import serving

                is_ready = self._executes
                stack.enter_context(serving(self._monitoring.port, figures, self.health, is_ready))
            self._traces = open_traces(self._monitoring.trace_runs)
            stack.enter_context(self._traces.experiment(self.experiment, values))
            gateway = push_gateway()
            if gateway is not None:
                stack.callback(self._push, figures, gateway)
            stack.enter_context(self._watching(figures, gateway))
            yield

    @contextmanager
    def sampling(self) -> Iterator[ResourceSampler | None]:
        """Sample resources while the block lasts; gives None where nothing is measured."""
        if not self._monitoring.enabled:
            yield None
            return
        every, live = self._monitoring.every_seconds, self._live
        with live, ResourceSampler(every, more=self._counted, keep=live.sample) as sampler:
            self._sampler = sampler
            yield sampler

    def sample_now(self) -> None:
        """Take a sample besides those in turn, such as of what has been reached at the end."""
        if self._sampler is not None:
            self._sampler.take()

    def _counted(self) -> dict[str, float]:
        with self._lock:
            counts = {STEPS: float(self.steps), RUNS: float(self.runs["finished"])}
        return {**counts, **self._more()}

    def discard_live(self) -> None:
        """Remove what others could see until now: it is kept elsewhere."""
        self._live.discard()

    @contextmanager
    def also(self, more: Callable[[], Mapping[str, float]]) -> Iterator[None]:
        """Have more figures in each sample while the block lasts."""
        self._more = more
        try:
            yield
        finally:
            self._more = dict

    @property
    def samples(self) -> list[ResourceSample]:
        """What was sampled so far; without sampling nothing."""
        return [] if self._sampler is None else self._sampler.samples

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the experiment."""
        with self.operations.timed(STAGE + name), self._traces.stage(name):
            yield

    @contextmanager
    def shard(self, index: int, runs: int) -> Iterator[object]:
        """Time a shard; gives what its segments belong to."""
        with self._lock:
            self._progressed = self._clock()
        with self.operations.timed(SHARD), self._traces.shard(index, runs) as shard:
            yield shard

    def segment(self, shard: object, segment: Segment, n_nodes: int) -> None:
        """Count a segment that has arrived from a worker."""
        n_steps, seconds = segment.next_step - segment.first_step, segment.resources.wall_seconds
        with self._lock:
            self._progressed = self._clock()
            self.steps += n_steps
            self.node_steps += n_steps * n_nodes
            spent = self._spent.pop(segment.run_key, 0.0) + seconds
            if segment.summary is None:
                self._spent[segment.run_key] = spent
        if not segment.shared and n_steps:
            self.operations.record(SEGMENT, seconds)
            self.operations.record(STEP, seconds / n_steps, n=n_steps)
            self.operations.record(NODE, seconds / n_steps / n_nodes, n=n_steps * n_nodes)
        if segment.summary is not None:
            self.operations.record(RUN, spent)
        self._traces.segment(shard, segment)

    def ended(self, error: str | None) -> None:
        """Count a run that is over."""
        with self._lock:
            self.runs["finished" if error is None else "failed"] += 1
        if error is not None:
            self.operations.record(RUN, 0.0, failed=True)

    def health(self) -> dict[str, str]:
        """Return the state of each component: ok, or what is wrong."""
        worst = {issue.kind: issue.text for issue in self._issues if issue.rank >= SEVERE}
        commits = self.operations.figures().get(COMMIT)
        idle = self._clock() - self._progressed if self._executes() else 0.0
        n_failed = commits.errors if commits is not None else 0
        return {
            "sampler": "ok" if self._sampler is not None else "has not begun",
            "ledger": f"{n_failed} transactions failed" if n_failed else "ok",
            "executor": "ok"
            if idle < self._limits.stalled_seconds
            else f"no step for {idle:,.0f} s",
            **worst,
        }

    @property
    def _issues(self) -> list[Issue]:
        return find_issues(self._looks, self._limits)

    def figures(self) -> Figures:
        """Return all that is known now."""
        samples = self.samples
        issues: Counter[tuple[str, str]] = Counter(
            (issue.kind, issue.severity) for _, issue in self.alerts.history
        )
        with self._lock:
            return Figures(
                experiment=self.experiment,
                version=version("quorumlab"),
                operations=self.operations.figures(),
                steps=self.steps,
                node_steps=self.node_steps,
                runs=dict(self.runs),
                queues=self._sources.queues(),
                caches=all_statistics(),
                issues=issues,
                alerts=self.alerts.counts,
                resources=samples[-1].values if samples else {},
            )

    def operation_samples(self) -> list[ResourceSample]:
        """Return what operations took, as one more sample under names that MLflow shows with the others."""
        values: dict[str, float] = {}
        for name, found in self.operations.figures().items():
            if found.p95 is not None and not name.startswith(STAGE):
                values[f"system/operation_{name}_p95_milliseconds"] = 1e3 * found.p95
            if found.errors:
                values[f"system/operation_{name}_errors"] = float(found.errors)
        return [ResourceSample(time.time_ns() // 1_000_000, values)] if values else []

    @contextmanager
    def _watching(self, figures: object, gateway: str | None) -> Iterator[None]:
        """Look for issues, and push figures, while the block lasts."""
        thread = threading.Thread(
            target=self._watch, args=(figures, gateway), name="telemetry", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self, figures: object, gateway: str | None) -> None:
        pause = self._limits.every_seconds
        next_look, next_push = self._clock() + pause, self._clock() + PUSH_EVERY_SECONDS
        while not self._stop.wait(max(0.01, min(next_look, next_push) - self._clock())):
            if self._clock() >= next_look:
                next_look += pause
                if self._limits.enabled:
                    self.look()
            if self._clock() >= next_push:
                next_push += PUSH_EVERY_SECONDS
                if gateway is not None:
                    self._push(figures, gateway)

    def look(self) -> list[Issue]:
        """Look at the experiment, tell what is wrong, and return it."""
        look = self._take_look()
        if look is None:
            return []
        oldest = look.at - self._limits.window_seconds
        self._looks = [before for before in self._looks if before.at >= oldest] + [look]
        issues = find_issues(self._looks, self._limits)
        for issue in self.alerts.raise_all(issues):
            self._live.issue(issue)
        return issues

    def _take_look(self) -> Look | None:
        samples = self.samples
        new, self._seen = samples[min(self._seen, len(samples) - 1) :], len(samples)
        if not new:
            return None
        newest = new[-1].values
        others = [sample.values[OTHERS] for sample in new if OTHERS in sample.values]
        with self._lock:
            idle = self._clock() - self._progressed if self._executes() else None
            return Look(
                at=self._clock(),
                cpu_of_others=fmean(others) if others else None,
                memory=newest["system/system_memory_usage_percentage"],
                driver_mb=newest[DRIVER] - samples[0].values[DRIVER],
                tree_mb=newest["system/process_tree_rss_megabytes"],
                operations=self.operations.figures(),
                node_steps=self.node_steps,
                idle_seconds=idle,
            )

    def _executes(self) -> bool:
        found = self.operations.figures().get(SHARD)
        return found is not None and found.in_flight > 0

    def _push(self, figures: object, gateway: str) -> None:
        try:
            push(self.experiment, figures, gateway)  # type: ignore[arg-type]
        except OSError as error:
            LOG.warning("the push gateway takes no figures: %s", error)
