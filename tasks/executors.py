"""Where runs are executed: in this process, in worker processes, or on Ray (the only Ray import).

Ray is called directly, one streaming task per shard, with no retries of its own: a dead worker is
seen by whoever waits for the shard, who alone decides what runs again.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol, TypeVar

from sim_core.config import ExecutorConfig, ModelConfig
from sim_core.error_table import Trouble
from sim_core.errors import ServiceLost, Unavailable, WorkerDied
from sim_core.jobs import Job, RunError, simulate_jobs
from sim_core.ledger.blocks import KEPT
from sim_core.randomness import Streams
from sim_core.shard import Shards
from sim_core.sharding import ShardReplica, ShardSpec, open_sharded
from sim_core.simulate import RunSpec, Segment
from sim_core.simulated_network import SimulatedNetwork
from sim_core.state import State
from tasks.last_words import last_words
from tasks.worker import SEGMENTS_AHEAD
from tasks.worker_pool import ProcessExecutor

Item = TypeVar("Item")
GATHERING_SECONDS = 0.5


class Executor(Protocol):
    """Executes the jobs of a shard."""

    max_in_flight: int
    dies_with_driver: bool

    def execute(self, jobs: Sequence[Job]) -> Iterator[Segment | RunError]:
        """Yield the segments of the jobs as they are made.

        Raises:
            WorkerDied: the process that executed them is gone.
        """


class InlineExecutor:
    """Executes in the calling thread."""

    max_in_flight = 1
    dies_with_driver = True

    def execute(self, jobs: Sequence[Job]) -> Iterator[Segment | RunError]:
        """Yield the segments of the jobs."""
        return simulate_jobs(jobs)


class _RayRemote:
    """A shard of a network in a Ray actor."""

    def __init__(self, ray: Any, spec: ShardSpec) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=0)(ShardReplica).remote(spec)

    def submit(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Start a call; what is returned waits for its result."""
        reference = getattr(self._actor, method).remote(*arguments)
        return lambda: self._ray.get(reference)


def simulate_in_shards(jobs: Sequence[Job]) -> Iterator[list[Segment | RunError]]:
    """Yield the segments of the jobs, those of a while together: each object costs Ray milliseconds.

    It runs in a Ray worker, whose networks may reach over others.

    The shards beyond the first of a network live in actors, which end with the run.
    """
    import ray

    def open_shards(
        spec: RunSpec, config: ModelConfig, streams: Streams, liars: Any, state: State | None
    ) -> Shards:
        return open_sharded(
            config,
            streams,
            liars,
            state,
            n_shards=spec.network_shards,
            keeps_alerts="alert" in KEPT[spec.detail],
            open_remote=lambda part: _RayRemote(ray, part),
        )

    yield from gathered(simulate_jobs(jobs, open_shards), GATHERING_SECONDS)


def gathered(items: Iterable[Item], seconds: float) -> Iterator[list[Item]]:
    """Yield what comes of an iterable in lists, each of what came within so many seconds.

    >>> list(gathered("abc", seconds=60)), list(gathered("abc", seconds=0))
    ([['a', 'b', 'c']], [['a'], ['b'], ['c']])
    """
    some: list[Item] = []
    until = time.monotonic() + seconds
    for item in items:
        some.append(item)
        if time.monotonic() >= until:
            yield some
            some, until = [], time.monotonic() + seconds
    if some:
        yield some


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
        return open_sharded(
            config,
            streams,
            liars,
            state,
            n_shards=n_shards,
            keeps_alerts=False,
            open_remote=lambda part: _RayRemote(ray, part),
        )

    try:
        yield SimulatedNetwork(config, seed=seed, open_shards=open_shards)
    finally:
        _end_ray(ray)


class RayExecutor:
    """Executes each shard as one streaming task on the Ray that this process is connected to."""

    dies_with_driver = False

    def __init__(self, max_in_flight: int, network_shards: int = 1) -> None:
        """Hand out at most `max_in_flight` shards at once, whose networks use so many processes."""
        import ray

        self.max_in_flight = max_in_flight
        self._ray = ray
        remote: Any = ray.remote  # its stubs know neither streaming nor back-pressure
        self._remote = remote(
            num_cpus=network_shards,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=SEGMENTS_AHEAD,
        )(simulate_in_shards)

    def execute(self, jobs: Sequence[Job]) -> Iterator[Segment | RunError]:
        """Yield the segments of the jobs as the worker makes them."""
        errors = self._ray.exceptions
        try:
            for reference in self._remote.remote(list(jobs)):
                yield from self._ray.get(reference)
        except (
            errors.WorkerCrashedError,
            errors.ActorDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.NodeDiedError,
        ) as error:
            raise WorkerDied(Trouble.RAY_WORKER_DIED.tell(reason=_first_line(error))) from error
        except (errors.RaySystemError, errors.LocalRayletDiedError, errors.RpcError) as error:
            raise ServiceLost(
                Trouble.RAY_LOST.tell(reason=_first_line(error).rstrip("."))
            ) from error


@contextmanager
def open_executor(config: ExecutorConfig) -> Iterator[Executor]:
    """Give the executor that the configuration names, for as long as it is needed.

    Raises:
        Unavailable: Ray or a worker process does not start.
    """
    if config.kind == "inline":
        yield InlineExecutor()
    elif config.kind == "processes":
        with closing(_start_workers(config)) as executor:
            yield executor
    else:
        with _ray_executor(config) as on_ray:
            yield on_ray


def _start_workers(config: ExecutorConfig) -> ProcessExecutor:
    n_workers = config.num_cpus or os.cpu_count() or 1
    return ProcessExecutor(n_workers, config.max_in_flight or n_workers + 1, config.nice)


@contextmanager
def _ray_executor(config: ExecutorConfig) -> Iterator[RayExecutor]:
    start_ray(config)
    _take_back_sigterm()
    import ray

    try:
        in_flight = config.max_in_flight or _n_cpus(config) // config.network_shards + 1
        with last_words(Trouble.RAY_ENDED_ALL.tell()):
            yield RayExecutor(in_flight, config.network_shards)
    finally:
        _end_ray(ray)


_STARTING = threading.Lock()
"""Held while Ray starts, and while it ends."""


def _end_ray(ray: Any) -> None:
    """End Ray in the background: it takes a second, in which there is something else to do."""

    def shut_down() -> None:
        try:
            ray.shutdown()
        finally:
            _STARTING.release()

    _STARTING.acquire()
    threading.Thread(target=shut_down, name="end of Ray").start()


def start_ray(config: ExecutorConfig) -> None:
    """Start Ray unless it runs already; takes seconds, so callers may do it early, in a thread.

    That thread has to live as long as Ray is needed: Ray's processes ask the kernel to die with
    the thread that started them.

    Raises:
        Unavailable: Ray does not start.
    """
    _demand_token()
    import ray

    with _STARTING:
        if not ray.is_initialized():
            _init_ray(ray, config)


def _take_back_sigterm() -> None:
    """Let this program answer SIGTERM: Ray's own handler aborts the process three seconds later."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _demand_token() -> None:
    """Let Ray obey only this process and its children: it listens on all interfaces.

    Has to happen before Ray is imported, which reads these variables once.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _n_cpus(config: ExecutorConfig) -> int:
    return max(config.num_cpus or os.cpu_count() or 1, config.network_shards)


def _init_ray(ray: Any, config: ExecutorConfig) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=_n_cpus(config),
            object_store_memory=config.object_store_mb * 1024 * 1024,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}},
        )
    except (RuntimeError, ConnectionError, TimeoutError, ValueError, OSError) as error:
        raise Unavailable(Trouble.RAY_UNSTARTED.tell(reason=_first_line(error))) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
