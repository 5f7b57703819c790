"""Where runs are executed: in this process, in worker processes, or on Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from sim_core.config import ExecutorConfig
from sim_core.jobs import Item, Job
from tasks.logs.writing import LogTarget
from tasks.occupancy import Place, here, unnoted
from tasks.profiles.asked import simulate_as_asked
from tasks.worker_pool import ProcessExecutor

ON_RAY = ("ray_local", "ray_cluster")
Placed = Callable[[Place], None]


class Executor(Protocol):
    """Executes the jobs of a shard."""

    dies_with_driver: bool
    """Whether a run that kills who executes it kills this process."""

    @property
    def max_in_flight(self) -> int:
        """Shards that it can be given at once, which grows and shrinks with a cluster."""

    def figures(self) -> dict[str, float]:
        """Return figures of its own, under the names of samples of resources; may take a millisecond."""

    def execute(self, jobs: Sequence[Job], placed: Placed = unnoted) -> Iterator[Item]:
        """Yield the segments of the jobs as they are made; tell where, as soon as one has begun.

        Raises:
            WorkerDied: the process that executed them is gone.
        """


class InlineExecutor:
    """Executes in the calling thread."""

    max_in_flight = 1
    dies_with_driver = True

    def figures(self) -> dict[str, float]:
        """Return none: all it takes is this process's."""
        return {}

    def execute(self, jobs: Sequence[Job], placed: Placed = unnoted) -> Iterator[Item]:
        """Yield the segments of the jobs."""
        placed(here())
        return simulate_as_asked(jobs)


def worth_starting(config: ExecutorConfig, most_nodes: int) -> ExecutorConfig:
    """Return where runs are executed: without Ray where all networks are smaller than it is worth.

    Args:
        config: What is asked for.
        most_nodes: Nodes of the largest network.
    """
    if config.kind not in ON_RAY or config.network_shards > 1 or most_nodes >= config.min_nodes:
        return config
    return config.model_copy(update={"kind": "processes"})


@contextmanager
def open_executor(config: ExecutorConfig, log: LogTarget | None = None) -> Iterator[Executor]:
    """Give the executor that the configuration names, for as long as it is needed.

    Its workers log to `log`.

    Raises:
        UserError: nobody may talk to the cluster without its token.
        Unavailable: Ray or a worker process does not start; there is no cluster at that address.
    """
    if config.kind == "inline":
        yield InlineExecutor()
    elif config.kind == "processes":
        n_workers = config.num_cpus or os.cpu_count() or 1
        in_flight = config.max_in_flight or n_workers + 1
        with closing(ProcessExecutor(n_workers, in_flight, config.nice, log)) as executor:
            yield executor
    else:
        from tasks.on_ray import open_ray

        with open_ray(config, log) as on_ray:
            yield on_ray
