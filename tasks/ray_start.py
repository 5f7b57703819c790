"""Starting Ray on this machine, or connecting to a cluster, and who may talk to it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sim_core.config import ExecutorConfig
from sim_core.error_table import Trouble
from sim_core.errors import Unavailable, UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("sim_core", "tasks")
"""Packages that workers of a cluster get from here: what they simulate is what this command has planned."""
NOT_SHIPPED = ["**/__pycache__/**"]
CONNECT_SECONDS = 10.0
TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray looks for a token by itself."""
STARTING = threading.Lock()
"""Held while Ray starts, and while it ends."""
ENDED = threading.Event()
"""Set while there is no Ray."""
ENDED.set()


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

    with STARTING:
        if ray.is_initialized():
            return
        if config.kind == "ray_cluster":
            _connect(ray, config.address)
        else:
            _init_ray(ray, config)
        ENDED.clear()


def end_ray(ray: Any) -> None:
    """End Ray in the background: it takes a second, in which there is something else to do."""

    def shut_down() -> None:
        try:
            ray.shutdown()
        finally:
            ENDED.set()
            STARTING.release()

    STARTING.acquire()
    threading.Thread(target=shut_down, name="end of Ray").start()


def take_back_sigterm() -> None:
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
        with _inherited(ONE_THREAD):  # in a runtime environment it would cost workers a second each
            ray.init(
                address="local",
                num_cpus=n_cpus(config),
                object_store_memory=config.object_store_mb * 1024 * 1024,
                include_dashboard=config.dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (RuntimeError, ConnectionError, TimeoutError, ValueError, OSError) as error:
        raise Unavailable(Trouble.RAY_UNSTARTED.tell(reason=first_line(error))) from error


@contextmanager
def _inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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
            Trouble.RAY_UNREACHABLE.tell(place=place, reason=first_line(error))
        ) from error


def first_line(error: BaseException) -> str:
    """Return what an error says first, or its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
