"""How the jobs of a shard are executed: plainly, or under a profiler where one of them asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sim_core.jobs import Item, Job, simulate_jobs
from sim_core.simulate import OpenRunShards
from tasks.logs.progress import told_of


def simulate_as_asked(
    jobs: Sequence[Job], open_shards: OpenRunShards | None = None
) -> Iterator[Item]:
    """Return the segments of jobs, and what profilers find; without any, none is loaded."""
    if all(spec.profile == "off" for spec, _ in jobs):
        return told_of(jobs, simulate_jobs(jobs, open_shards))
    from tasks.profiles.attached import simulate_profiled

    return told_of(jobs, simulate_profiled(jobs, open_shards))
