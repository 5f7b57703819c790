"""Samples of what an experiment takes: its process tree, and the machine around it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import psutil

from sim_core.bounded_queue import QueueCounts

MOST_SAMPLES = 2_000
"""Samples kept; when there are more, every other one is dropped and the interval doubles."""
MEGABYTE = 1e6
"""As MLflow counts its own system metrics."""
BUSY = "system/cpu_utilization_percentage"
OURS = "system/process_tree_cpu_percentage"
OTHERS = "system/other_programs_cpu_percentage"
DRIVER = "system/driver_rss_megabytes"
STEPS, RUNS = "system/committed_steps", "system/finished_runs"
LONGEST_SAMPLE_SECONDS = 5.0
"""Whoever asks a service that is gone is left behind."""
SHORTEST_RATE_SECONDS = 0.05
"""Over less than this, processor time is too coarse to be given as a rate."""


@dataclass(frozen=True)
class ResourceSample:
    """Figures of one moment, under the names that MLflow shows as system metrics."""

    timestamp_ms: int
    values: Mapping[str, float]


class ResourceSampler:
    """Sampler of this process, its descendants and the machine, from a thread of its own.

    A context manager: the first sample is taken on entry, the last on exit, whatever happens.

    Example:
        with ResourceSampler() as sampler:
            work()
        publish(sampler.samples)
    """

    def __init__(
        self,
        interval_seconds: float = 1.0,
        *,
        most_samples: int = MOST_SAMPLES,
        more: Callable[[], Mapping[str, float]] = dict,
        keep: Callable[[ResourceSample], None] = lambda _: None,
    ) -> None:
        """Take a sample every `interval_seconds`, and keep at most `most_samples`.

        `more` gives figures besides those of processes and machine; `keep` is given each sample.
        """
        self._interval, self._more, self._keep = interval_seconds, more, keep
        self._most = max(2, most_samples)
        self._stop = threading.Event()
        self._samples: list[ResourceSample] = []
        self._counts = QueueCounts()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="resource-sampler", daemon=True)

    @property
    def samples(self) -> list[ResourceSample]:
        """The samples so far, oldest first; a copy."""
        return list(self._samples)

    @property
    def counts(self) -> QueueCounts:
        """Samples that were taken, those of them that made room for others, and failures."""
        return self._counts

    def __enter__(self) -> Self:
        self._tree = ProcessTree(os.getpid())
        self._machine = Machine()
        self.take()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(LONGEST_SAMPLE_SECONDS)
        self.take()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.take()

    def take(self) -> None:
        """Take a sample now, besides those that are taken in turn."""
        if not self._lock.acquire(timeout=LONGEST_SAMPLE_SECONDS):
            return  # one is being taken, and does not end
        try:
            self._take()
        finally:
            self._lock.release()

    def _take(self) -> None:
        try:
            values = {**self._tree.figures(), **self._machine.figures(), **self._more()}
            values |= _cpu_of_others(values)
        except (psutil.Error, OSError):
            self._counts = replace(self._counts, failed=self._counts.failed + 1)
            return  # a sample that cannot be had is no reason to stop the work that is sampled
        sample = ResourceSample(time.time_ns() // 1_000_000, values)
        self._samples.append(sample)
        self._keep(sample)
        deepest, dropped = len(self._samples), 0
        if deepest > self._most:
            self._samples = every_other(self._samples)
            self._interval *= 2
            dropped = deepest - len(self._samples)
        self._counts = replace(
            self._counts,
            processed=self._counts.processed + 1,
            dropped=self._counts.dropped + dropped,
            deepest=max(self._counts.deepest, deepest),
        )


def _cpu_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Return the share of all processors that other programs took, where both figures are known."""
    busy, ours = values.get(BUSY), values.get(OURS)
    if busy is None or ours is None:
        return {}
    return {OTHERS: max(0.0, busy - ours / (os.cpu_count() or 1))}


def every_other(samples: list[ResourceSample]) -> list[ResourceSample]:
    """Return the samples at even places, the first among them.

    >>> [s.timestamp_ms for s in every_other([ResourceSample(t, {}) for t in range(5)])]
    [0, 2, 4]
    """
    return samples[::2]


class ProcessTree:
    """A process and all its descendants: memory and processor time.

    Resident sets are added up, so that memory which processes share counts in each of them.
    """

    def __init__(self, pid: int) -> None:
        """Look at the process with this id; processor time counts from now."""
        self._root = psutil.Process(pid)
        self._clock = time.monotonic()
        self._spent = {process: _cpu_seconds(process) for process in self._processes()}

    def figures(self) -> dict[str, float]:
        """Return the figures of now; processor time is the mean since the call before."""
        processes = self._processes()
        rss = [_rss(process) / MEGABYTE for process in processes]
        figures = {
            "system/process_tree_rss_megabytes": sum(rss),
            DRIVER: rss[0],
            "system/workers_rss_megabytes": sum(rss[1:]),
            "system/process_tree_processes": float(len(processes)),
            "system/process_tree_threads": float(sum(map(_threads, processes))),
            "system/process_tree_open_files": float(sum(map(_open_files, processes))),
        }
        elapsed = time.monotonic() - self._clock
        if elapsed >= SHORTEST_RATE_SECONDS:
            spent = {process: _cpu_seconds(process) for process in processes}
            # A process that is new since the call before has spent all of its time since then.
            used = sum(now - self._spent.get(process, 0.0) for process, now in spent.items())
            figures["system/process_tree_cpu_percentage"] = 100 * max(0.0, used) / elapsed
            self._clock, self._spent = self._clock + elapsed, spent
        return figures

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self._root]


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process, 0 if it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _rss(process: psutil.Process) -> float:
    """Return the resident set in bytes, 0 if the process is gone."""
    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def _threads(process: psutil.Process) -> int:
    """Return how many threads a process has, 0 if it is gone."""
    try:
        return int(process.num_threads())
    except psutil.Error:
        return 0


def _open_files(process: psutil.Process) -> int:
    """Return how many files and connections a process has open, 0 if it is gone or another's."""
    try:
        return int(process.num_fds())
    except psutil.Error:
        return 0


class Machine:
    """The computer as a whole; network and disk traffic count from the beginning."""

    def __init__(self) -> None:
        """Remember where the counters stand."""
        self._busy, self._total = _cpu_times()
        self._first = _traffic_megabytes()

    def figures(self) -> dict[str, float]:
        """Return the figures of now; the processors' share is the mean since the call before."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(os.sep)
        figures = {
            "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system/system_memory_usage_percentage": 100 * memory.used / memory.total,
            "system/disk_usage_percentage": float(disk.percent),
            "system/disk_usage_megabytes": disk.used / MEGABYTE,
            "system/disk_available_megabytes": disk.free / MEGABYTE,
        }
        for name, value in _traffic_megabytes().items():
            figures[name] = value - self._first.get(name, value)
        busy, total = _cpu_times()
        if total - self._total >= SHORTEST_RATE_SECONDS:
            share = (busy - self._busy) / (total - self._total)
            figures["system/cpu_utilization_percentage"] = min(100.0, max(0.0, 100 * share))
            self._busy, self._total = busy, total
        return figures


def _cpu_times() -> tuple[float, float]:
    """Return the seconds that all processors were busy, and all their seconds.

    Not `psutil.cpu_percent`, which counts for each thread apart.
    """
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _traffic_megabytes() -> dict[str, float]:
    """Return the machine's counters of network and disk, those that it has."""
    traffic: dict[str, float] = {}
    network, disk = psutil.net_io_counters(), psutil.disk_io_counters()
    if network is not None:
        traffic["system/network_receive_megabytes"] = network.bytes_recv / MEGABYTE
        traffic["system/network_transmit_megabytes"] = network.bytes_sent / MEGABYTE
    if disk is not None:
        traffic["system/disk_read_megabytes"] = disk.read_bytes / MEGABYTE
        traffic["system/disk_write_megabytes"] = disk.write_bytes / MEGABYTE
    return traffic
