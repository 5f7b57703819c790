"""What whoever executes runs says of them, while it does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from sim_core.jobs import Item, Job, RunError
from sim_core.simulate import Segment
from tasks.logs.context import about_run

LOG = logging.getLogger("quorumlab.worker")


def told_of(jobs: Sequence[Job], items: Iterator[Item]) -> Iterator[Item]:
    """Yield what comes of jobs, and log it; whatever is logged meanwhile is about the run at work."""
    waiting = [spec for spec, _ in jobs]
    specs = {spec.run_key: spec for spec in waiting}
    while True:
        with about_run(waiting[0] if waiting else jobs[-1][0]):
            item = next(items, None)
        if item is None:
            return
        spec = specs[item.run_key]
        if isinstance(item, Segment):
            with about_run(spec, item.next_step):
                LOG.debug(
                    "steps %d to %d in %.3f s",
                    item.first_step,
                    item.next_step,
                    item.resources.wall_seconds,
                )
        elif isinstance(item, RunError):
            with about_run(spec):
                LOG.debug("the run ends with an error\n%s", item.traceback.rstrip())
        if isinstance(item, RunError) or (isinstance(item, Segment) and item.summary is not None):
            waiting.remove(spec)
        yield item
