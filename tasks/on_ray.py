"""Ray, and nothing else imports it: one started for an experiment, or a cluster that is there.

Ray is called directly, one streaming task per shard, with no retries of its own: a dead worker is
seen by whoever waits for the shard, who alone decides what runs again.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sim_core.config import ExecutorConfig, ModelConfig
from sim_core.error_table import Trouble
from sim_core.errors import ServiceLost, Unavailable, UserError, WorkerDied
from sim_core.identity import program, run_key
from sim_core.jobs import Job, RunError, simulate_jobs
from sim_core.ledger.blocks import KEPT
from sim_core.randomness import Streams
from sim_core.shard import Shards
from sim_core.sharding import ShardReplica, ShardSpec, open_sharded
from sim_core.simulate import RunSpec, Segment
from sim_core.simulated_network import SimulatedNetwork
from sim_core.state import State
from tasks.last_words import last_words
from tasks.occupancy import Place, here, unnoted
from tasks.worker import SEGMENTS_AHEAD

Item = TypeVar("Item")
GATHERING_SECONDS = 0.5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("sim_core", "tasks")
"""Packages that workers of a cluster get from here: what they simulate is what this command has planned."""
NOT_SHIPPED = ["**/__pycache__/**"]
CONNECT_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""Between two looks at how large a cluster is."""
TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray looks for a token by itself."""


class _RayRemote:
    """A shard of a network in a Ray actor."""

    def __init__(self, ray: Any, spec: ShardSpec) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=0)(ShardReplica).remote(spec)

    def submit(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Start a call; what is returned waits for its result."""
        reference = getattr(self._actor, method).remote(*arguments)
        return lambda: self._ray.get(reference)


def simulate_in_shards(
    jobs: Sequence[Job], planned_by: dict[str, str] | None
) -> Iterator[Place | list[Segment | RunError]]:
    """Yield where this is, then the segments of the jobs, those of a while together.

    Each object costs Ray milliseconds. It runs in a Ray worker, whose networks may reach over others:
    the shards beyond the first of a network live in actors, which end with the run.

    Args:
        jobs: The runs.
        planned_by: The program whose runs they are; None where it is certainly this one.

    Raises:
        Unavailable: what would be simulated here is something else than what was planned.
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

    me = here()
    if planned_by is not None:
        node = ray.get_runtime_context().get_node_id()[:8]
        me = Place(f"{me.node}/{node}", me.pid)
        expect_the_same(jobs, planned_by, me)
    yield me
    yield from gathered(simulate_jobs(jobs, open_shards), GATHERING_SECONDS)


def expect_the_same(jobs: Sequence[Job], planned_by: dict[str, str], me: Place) -> None:
    """Return if runs have the same keys here: code, libraries, configuration, content of data files.

    Raises:
        Unavailable: a key differs, or a data file cannot be read.
    """
    for spec in {id(spec.config): spec for spec, _ in jobs}.values():
        try:
            is_same = run_key(spec.config, spec.seed, spec.replicate) == spec.run_key
        except UserError as error:
            raise Unavailable(Trouble.RAY_NODE_DIFFERS.tell(node=me.node, reason=error)) from error
        if not is_same:
            reason = _difference(planned_by, program())
            raise Unavailable(Trouble.RAY_NODE_DIFFERS.tell(node=me.node, reason=reason))


def _difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Return in which versions two programs differ, in words.

    >>> _difference({"numpy": "2.4.1", "numba": "0.68"}, {"numpy": "2.3.0", "numba": "0.68"})
    'it has numpy 2.3.0, and the command numpy 2.4.1'
    """
    names = [name for name in theirs if theirs[name] != ours.get(name)]
    if not names:
        return "a data file has another content there"
    here, there = (", ".join(f"{n} {of.get(n)}" for n in names) for of in (theirs, ours))
    return f"it has {there}, and the command {here}"


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

    def __init__(self, config: ExecutorConfig) -> None:
        """Hand out shards whose networks use `network_shards` processors each."""
        import ray

        self._ray: Any = ray
        self._config = config
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

    def execute(
        self, jobs: Sequence[Job], placed: Callable[[Place], None] = unnoted
    ) -> Iterator[Segment | RunError]:
        """Yield the segments of the jobs as the worker makes them; tell where, when it begins.

        Raises:
            WorkerDied: the worker or its node is gone.
            ServiceLost: Ray is gone.
            Unavailable: the worker would simulate something else.
        """
        errors = self._ray.exceptions
        try:
            for reference in self._remote.remote(
                list(jobs), program() if self._is_cluster else None
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
            raise WorkerDied(Trouble.RAY_WORKER_DIED.tell(reason=_first_line(error))) from error
        except (errors.RaySystemError, errors.LocalRayletDiedError, errors.RpcError) as error:
            raise ServiceLost(
                Trouble.RAY_LOST.tell(reason=_first_line(error).rstrip("."))
            ) from error
        except errors.RuntimeEnvSetupError as error:
            raise Unavailable(
                Trouble.RAY_NODE_DIFFERS.tell(node="the cluster", reason=_first_line(error))
            ) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, Unavailable):
                raise Unavailable(str(error.cause)) from error
            raise


@contextmanager
def open_ray(config: ExecutorConfig) -> Iterator[RayExecutor]:
    """Give an executor on Ray, for as long as it is needed.

    Raises:
        UserError: nobody may talk to the cluster without its token.
        Unavailable: Ray does not start, or there is no cluster.
    """
    start_ray(config)
    _take_back_sigterm()
    import ray

    try:
        with last_words(Trouble.RAY_ENDED_ALL.tell()):
            yield RayExecutor(config)
    finally:
        _end_ray(ray)


_STARTING = threading.Lock()
"""Held while Ray starts, and while it ends."""


def start_ray(config: ExecutorConfig) -> None:
    """Start Ray, or connect to a cluster, unless that has happened; takes seconds: a thread may do it early.

    That thread has to live as long as Ray is needed: Ray's processes ask the kernel to die with
    the thread that started them.

    Raises:
        UserError: nobody may talk to the cluster without its token.
        Unavailable: Ray does not start, or there is no cluster.
    """
    if config.kind == "ray_cluster":
        find_token()
    else:
        invent_token()
    import ray

    with _STARTING:
        if ray.is_initialized():
            return
        if config.kind == "ray_cluster":
            _connect(ray, config.address)
        else:
            _init_ray(ray, config)


def _end_ray(ray: Any) -> None:
    """End Ray in the background: it takes a second, in which there is something else to do."""

    def shut_down() -> None:
        try:
            ray.shutdown()
        finally:
            _STARTING.release()

    _STARTING.acquire()
    threading.Thread(target=shut_down, name="end of Ray").start()


def _take_back_sigterm() -> None:
    """Let this program answer SIGTERM: Ray's own handler aborts the process three seconds later."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def invent_token() -> None:
    """Let Ray obey only this process and its children: it listens on all interfaces.

    Has to happen before Ray is imported, which reads these variables once.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def find_token() -> None:
    """Let Ray show the cluster the token that the user has for it; before Ray is imported.

    Raises:
        UserError: there is none, and nobody has said that the cluster asks for none.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else TOKEN_FILE.expanduser()
    if not os.environ.get("RAY_AUTH_TOKEN") and not file.is_file():
        raise UserError(
            f"executor=ray_cluster: there is no token, neither in RAY_AUTH_TOKEN nor in {file}. Set the "
            "one that the cluster was started with; whoever reaches a cluster without one can run "
            "code on it. If it has none on purpose, say RAY_AUTH_MODE=disabled"
        )
    os.environ["RAY_AUTH_MODE"] = "token"


def n_cpus(config: ExecutorConfig) -> int:
    """Return the processors of a Ray of this machine."""
    return max(config.num_cpus or os.cpu_count() or 1, config.network_shards)


def _init_ray(ray: Any, config: ExecutorConfig) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=n_cpus(config),
            object_store_memory=config.object_store_mb * 1024 * 1024,
            include_dashboard=config.dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": ONE_THREAD},
        )
    except (RuntimeError, ConnectionError, TimeoutError, ValueError, OSError) as error:
        raise Unavailable(Trouble.RAY_UNSTARTED.tell(reason=_first_line(error))) from error


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster, to which this machine belongs, and have it fetch our code."""
    place = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        if ":" in place:  # Ray itself asks for minutes whether somebody is there
            host, _, port = place.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "py_modules": [str(ROOT / package) for package in SHIPPED],
                "excludes": NOT_SHIPPED,
                "env_vars": ONE_THREAD,
            },
        )
    except (RuntimeError, ConnectionError, TimeoutError, ValueError, OSError) as error:
        raise Unavailable(
            Trouble.RAY_UNREACHABLE.tell(place=place, reason=_first_line(error))
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
