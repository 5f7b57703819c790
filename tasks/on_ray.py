"""Runs on Ray: one started for an experiment, or a cluster that is there.

Ray is called directly, one streaming task per shard, with no retries of its own: a dead worker is
seen by whoever waits for the shard, who alone decides what runs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sim_core.config import ExecutorConfig, ModelConfig
from sim_core.error_table import Trouble
from sim_core.errors import ServiceLost, Unavailable, WorkerDied
from sim_core.identity import program
from sim_core.jobs import Item, Job
from sim_core.randomness import Streams
from sim_core.shard import Shards
from sim_core.simulated_network import SimulatedNetwork
from sim_core.state import State
from tasks.last_words import last_words
from tasks.logs.writing import LogTarget
from tasks.occupancy import Place, unnoted
from tasks.ray_start import end_ray, first_line, n_cpus, start_ray, take_back_sigterm
from tasks.ray_worker import load_early, open_on_ray, simulate_in_shards
from tasks.worker import SEGMENTS_AHEAD

LOOK_SECONDS = 2.0
"""Between two looks at how large a cluster is."""


@contextmanager
def open_network(
    config: ModelConfig, n_shards: int, *, seed: int = 1
) -> Iterator[SimulatedNetwork]:
    """Give one network whose nodes are cut over Ray actors, on a Ray of its own.

    Raises:
        Unavailable: Ray does not start.
    """
    start_ray(ExecutorConfig(num_cpus=n_shards))
    import ray

    def open_shards(
        config: ModelConfig, streams: Streams, liars: Any, state: State | None
    ) -> Shards:
        return open_on_ray(config, streams, liars, state, n_shards=n_shards, keeps_alerts=False)

    try:
        yield SimulatedNetwork(config, seed=seed, open_shards=open_shards)
    finally:
        end_ray(ray)


def warm_workers(config: ExecutorConfig, model: ModelConfig, n_runs: int) -> None:
    """Let workers of a Ray of this machine load what they need while there is no work for them yet."""
    if config.kind != "ray_local" or config.network_shards > 1:
        return
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=0)(load_early)
    for _ in range(min(n_cpus(config), n_runs)):
        remote.remote(model)


class RayExecutor:
    """Executes each shard as one streaming task on the Ray that this process is connected to."""

    dies_with_driver = False

    def __init__(self, config: ExecutorConfig, log: LogTarget | None = None) -> None:
        """Hand out shards whose networks use `network_shards` processors each."""
        import ray

        self._ray: Any = ray
        self._config, self._log = config, log
        self._is_cluster = config.kind == "ray_cluster"
        self._looked, self._n_cpus = 0.0, 0
        remote: Any = ray.remote  # its stubs know neither streaming nor back-pressure
        self._remote = remote(
            num_cpus=config.network_shards,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=SEGMENTS_AHEAD,
        )(simulate_in_shards)

    @property
    def max_in_flight(self) -> int:
        """Shards that Ray can be given at once: one more than it has room for, so that more is asked of it."""
        shards = self._config.network_shards
        return self._config.max_in_flight or max(1, self._cpus() // shards) + 1

    def _cpus(self) -> int:
        """Return the processors that there are, looked at again every few seconds on a cluster."""
        if not self._is_cluster:
            return n_cpus(self._config)
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._n_cpus = int(self._ray.cluster_resources().get("CPU", 0))
            self._looked = time.monotonic()
        return min(self._n_cpus, self._config.num_cpus or self._n_cpus)

    def figures(self) -> dict[str, float]:
        """Return what of Ray is in use; a question to its head, of less than a millisecond.

        Raises:
            OSError: Ray is gone.
        """
        try:
            total, free = self._ray.cluster_resources(), self._ray.available_resources()
        except self._ray.exceptions.RayError as error:
            raise OSError(first_line(error)) from error
        used = {name: total[name] - free.get(name, 0.0) for name in total}
        n_nodes = sum(name.startswith("node:") and not name.endswith("__") for name in total)
        return {
            "system/ray_nodes": float(n_nodes),
            "system/ray_cpus_in_use": used.get("CPU", 0.0),
            "system/ray_object_store_megabytes_in_use": used.get("object_store_memory", 0.0) / 1e6,
        }

    def execute(
        self, jobs: Sequence[Job], placed: Callable[[Place], None] = unnoted
    ) -> Iterator[Item]:
        """Yield the segments of the jobs as the worker makes them; tell where, when it begins.

        Raises:
            WorkerDied: the worker or its node is gone.
            ServiceLost: Ray is gone.
            Unavailable: the worker would simulate something else.
        """
        errors = self._ray.exceptions
        try:
            for reference in self._remote.remote(
                list(jobs), program() if self._is_cluster else None, self._log
            ):
                got = self._ray.get(reference)
                if isinstance(got, Place):
                    placed(got)
                else:
                    yield from got
        except (
            errors.WorkerCrashedError,
            errors.ActorDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.NodeDiedError,
        ) as error:
            raise WorkerDied(Trouble.RAY_WORKER_DIED.tell(reason=first_line(error))) from error
        except (errors.RaySystemError, errors.LocalRayletDiedError, errors.RpcError) as error:
            raise ServiceLost(
                Trouble.RAY_LOST.tell(reason=first_line(error).rstrip("."))
            ) from error
        except errors.RuntimeEnvSetupError as error:
            raise Unavailable(
                Trouble.RAY_NODE_DIFFERS.tell(node="the cluster", reason=first_line(error))
            ) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, Unavailable):
                raise Unavailable(str(error.cause)) from error
            raise


@contextmanager
def open_ray(config: ExecutorConfig, log: LogTarget | None = None) -> Iterator[RayExecutor]:
    """Give an executor on Ray, for as long as it is needed.

    Raises:
        UserError: nobody may talk to the cluster without its token.
        Unavailable: Ray does not start, or there is no cluster.
    """
    start_ray(config)
    take_back_sigterm()
    import ray

    try:
        with last_words(Trouble.RAY_ENDED_ALL.tell()):
            yield RayExecutor(config, log)
    finally:
        end_ray(ray)
