"""Who carries out the stages and shards of an experiment: Prefect, or this process alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sim_core.comparison.report import Report
from sim_core.results import Execution, Findings
from tasks.simulate_shard import Log, Shard, Workbench, simulate_shard

Result = TypeVar("Result")


class Progress(Protocol):
    """Shows how far an experiment is."""

    def show(self, done_steps: int) -> None:
        """Show how many steps are committed."""

    def close(self) -> None:
        """Show the last figure."""


class Orchestrator(Protocol):
    """Carries out stages one after the other, and shards at the same time."""

    @property
    def log(self) -> Log:
        """Where to say what happens."""
        ...

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Return what the work returns."""
        ...

    def submit(self, shard: Shard, workbench: Workbench) -> Any:
        """Start a shard; return its future."""
        ...

    def progress(self, total_steps: int) -> Progress:
        """Return what shows the progress of so many steps."""
        ...

    def show_results(self, name: str, findings: Findings, comparison: Report | None = None) -> None:
        """Show what was found."""

    def close(self) -> None:
        """Let go of what shards needed; none of them is running."""


class PlainOrchestrator:
    """This process alone: no server, nothing but what is on the terminal and in the workspace."""

    log = logging.getLogger("quorumlab.experiment")

    def __init__(self) -> None:
        """Start no thread before it is needed."""
        if not self.log.handlers:  # what is logged of an experiment is shown on the terminal
            self.log.addHandler(logging.NullHandler())
        self._threads: ThreadPoolExecutor | None = None

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Do the work."""
        del name
        return work()

    def submit(self, shard: Shard, workbench: Workbench) -> Future[dict[str, Execution]]:
        """Start a shard in a thread; as many run as are submitted."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="shard")
        return self._threads.submit(simulate_shard, shard, workbench, self.log)

    def progress(self, total_steps: int) -> Progress:
        """Return nothing to look at: the terminal shows it."""
        del total_steps
        return _Unseen()

    def show_results(self, name: str, findings: Findings, comparison: Report | None = None) -> None:
        """Show nothing more than the terminal does."""

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


class _Unseen:
    def show(self, done_steps: int) -> None:
        del done_steps

    def close(self) -> None:
        pass


MOST_THREADS = 1_000
"""A thread waits for each shard that is handed out; how many are is `executor.max_in_flight`."""
