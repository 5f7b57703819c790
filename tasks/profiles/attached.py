"""Runs that are profiled among others, wherever they are executed; results are the same.

What a profiler finds travels with the segments, as attachments: workers may be on another machine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from sim_core.jobs import Attachment, Item, Job, simulate_alone, simulate_jobs
from sim_core.simulate import OpenRunShards
from tasks.profiles.watch import StepWatch

LOG = logging.getLogger("quorumlab.profiles")
PATIENCE = 10.0
"""Times `limits.max_seconds` that a run may take under a profiler, which slows it down."""


class Probe(Protocol):
    """A profiler that follows one run."""

    def resume(self) -> None:
        """The run goes on."""

    def pause(self) -> None:
        """A segment is handed over."""

    def close(self) -> None:
        """Let go of everything."""

    def attachments(self, watch: StepWatch) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files."""
        ...


def simulate_profiled(jobs: Sequence[Job], open_shards: OpenRunShards | None) -> Iterator[Item]:
    """Yield what `simulate_jobs` does, and files about the runs that are to be profiled."""
    for is_profiled, group in groupby(jobs, key=lambda job: job[0].profile != "off"):
        if is_profiled:
            for job in group:
                yield from _profiled(job, open_shards)
        else:
            yield from simulate_jobs(list(group), open_shards)


def _profiled(job: Job, open_shards: OpenRunShards | None) -> Iterator[Item]:
    """Yield the segments of a run and then its profile; without one where the profiler fails."""
    from tasks.profiles.findings import SLOW_SECONDS

    spec, checkpoint = job
    patient = replace(spec, max_seconds=spec.max_seconds * PATIENCE)
    try:
        probe = open_probe(spec.profile)
    except Exception as error:  # noqa: BLE001 - such as another profiler at work in this process
        LOG.warning("run %s is not profiled: %s", spec.run_key[:12], error)
        yield from simulate_jobs([job], open_shards)
        return
    watch = StepWatch(SLOW_SECONDS)
    with closing(probe):
        segments = watch.pulled(simulate_alone((patient, checkpoint), open_shards, watch))
        probe.resume()
        for item in segments:
            probe.pause()
            yield item
            probe.resume()
        probe.pause()
        try:
            files = list(probe.attachments(watch))
        except Exception as error:  # noqa: BLE001 - the run has its result all the same
            LOG.warning("no profile of run %s: %s", spec.run_key[:12], error)
            return
    yield from (Attachment(spec.run_key, name, content) for name, content in files)


def open_probe(kind: str) -> Probe:
    """Return a profiler at work.

    Raises:
        RuntimeError: another one is at work in this process.
    """
    if kind == "time":
        from tasks.profiles.time_probe import TimeProbe

        return TimeProbe()
    from tasks.profiles.memory_probe import MemoryProbe

    return MemoryProbe(objects=kind == "objects")
