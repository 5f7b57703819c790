"""The log of an experiment: opened with it, told how it begins and ends, in its orchestrator's log too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.bench import Bench, Outcome
from tasks.logs.context import TOLD
from tasks.logs.writing import written
from tasks.simulate_shard import Log

LOG = logging.getLogger("quorumlab.experiment")


class BothLogs(logging.LoggerAdapter[logging.Logger]):
    """Logs to the logger of a flow run or task run, which Prefect shows, and to this program's own."""

    def __init__(self, of_run: Log) -> None:
        """Log to `of_run` as well."""
        super().__init__(LOG, {})
        self._of_run = of_run

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to both; either decides by itself what it writes."""
        self._of_run.log(level, msg, *args, **kwargs)
        LOG.log(level, msg, *args, **kwargs)


@contextmanager
def logged(bench: Bench) -> Iterator[None]:
    """Write the experiment's log while the block lasts, and whatever ends it early into it."""
    with written(bench.log_target):
        plan, config = bench.plan, bench.config
        LOG.info(
            "experiment %s begins: %d points, %d runs, executor %s",
            *(plan.name, len(plan.labels), len(plan.runs), config.executor.kind),
        )
        try:
            yield
        except BaseException as error:
            reason = str(error) or type(error).__name__
            LOG.log(logging.ERROR, "experiment stops: %s", reason, extra=TOLD)
            LOG.debug("where it stopped", exc_info=error)
            raise


def log_end(outcome: Outcome) -> None:
    """Log what became of an experiment."""
    counts = outcome.counts
    level = logging.INFO if outcome.state == "finished" else logging.ERROR
    LOG.log(
        level,
        "experiment ends %s in %.1f s: %d of %d runs finished, %d of them reused, %d failed, %d quarantined",
        *(outcome.state, outcome.wall_seconds, counts["finished"], counts["planned"]),
        *(counts["reused"], counts["failed"], counts["quarantined"]),
        extra=TOLD,
    )
