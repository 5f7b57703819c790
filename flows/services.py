"""`quorumlab up` and `down`: Prefect's server and worker, MLflow's server, and the dashboard, for one workspace.

Each is a process in a session of its own, which listens on the loopback alone and writes a log into the
workspace. `services.json` says which there are; a process counts as ours only while one of that
number has been there since that moment.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.dashboard.serve import HEALTH, dashboard_environment, dashboard_words
from flows.environment import prefect_database, prepare_environment
from flows.examine_services import is_free
from flows.handover import SWITCH, socket_of
from flows.prefect_password import CLIENT, FILE, SERVER, new_password, password_of
from flows.prefect_server import create_tables
from flows.service import (
    CHECKOUT,
    DASHBOARD,
    GONE,
    MLFLOW,
    POLL_SECONDS,
    PREFECT,
    RECORD,
    RUNNER,
    WORKER,
    Service,
    launch,
    program_call,
    read_services,
    stop,
    write_services,
)
from sim_core.errors import Unavailable, UserError
from sim_core.workspace import Workspace, open_workspace

HOST = "127.0.0.1"
PORT = "{port}"
"""Stands for the port of a service in its words and environment."""
POOL = "quorumlab"
FIRST_PORTS = {PREFECT: 4200, MLFLOW: 5000, WORKER: 4280, RUNNER: 4290, DASHBOARD: 8501}
MOST_PORTS = 100
"""That are tried, from the first on."""
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""What flows hold of concurrency limits is still known after the server was started anew."""
START_SECONDS = 180.0
BEAT_SECONDS = "30"
"""Between two signs of life of a flow run; `zombies` says what becomes of those that give none."""
LAST_LINES = 8


def start_services(
    folder: Path, console: Console, *, ports: Mapping[str, int] = FIRST_PORTS
) -> None:
    """Start what is not there yet, register deployments, and show where everything is.

    Args:
        folder: The workspace.
        console: Where to show it.
        ports: The first to try, by service; the next free one is taken.

    Raises:
        UserError: there is no prefect.yaml, as this is no checkout; another server is named.
        Unavailable: a service does not start; those that were started before it are stopped.
    """
    if not (CHECKOUT / "prefect.yaml").is_file():
        raise UserError(f"{CHECKOUT} has no prefect.yaml: services are started from a checkout")
    if named := os.environ.get("PREFECT_API_URL"):
        raise UserError(
            f"PREFECT_API_URL names another server of Prefect: {named}. Unset it to have one of "
            "the workspace's own; docs/how-to/schedules.md says how to use that one"
        )
    workspace = open_workspace(folder)
    prepare_environment(workspace.folder)
    with _alone(workspace):
        starting = Starting(workspace, ports)
        try:
            _start_all(starting, console)
        except BaseException:
            starting.undo()
            raise
    show_services(workspace.folder, console)


def _start_all(starting: Starting, console: Console) -> None:
    folder = starting.workspace.folder
    create_tables(prefect_database())
    password = password_of(folder) or new_password(folder)
    starting.need(
        PREFECT,
        ["prefect", "server", "start", "--host", HOST, "--port", PORT],
        path="/api",
        health="/api/health",
        environment={
            "PREFECT_UI_API_URL": f"http://{HOST}:{PORT}/api",
            SERVER: password,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{PORT},http://localhost:{PORT}",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        },
    )
    starting.need(
        MLFLOW,
        [
            *("mlflow", "server", "--host", HOST, "--port", PORT, "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "mlartifacts")),
        ],
        health="/health",
    )
    starting.need(
        DASHBOARD,
        dashboard_words(HOST, PORT),
        health=HEALTH,
        environment=dashboard_environment(folder),
    )
    prefect = starting.wait(PREFECT, console)
    if starting.has_begun(PREFECT):  # a worker of before reports to a server that is gone
        starting.drop(WORKER)
    _start_runner(starting)  # the longest to begin
    client = {"PREFECT_API_URL": prefect.address, CLIENT: password}
    if not starting.has(WORKER):
        with console.status("registering deployments"):
            _register(client)
    starting.need(
        WORKER,
        ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck"],
        health="/health",
        environment={
            **client,
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": PORT,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": BEAT_SECONDS,
            "QUORUMLAB_WORKSPACE": str(folder),
        },
    )
    starting.wait(MLFLOW, console)
    starting.wait(WORKER, console)
    starting.wait(DASHBOARD, console)
    if starting.has(RUNNER):
        starting.wait(RUNNER, console)


def _start_runner(starting: Starting) -> None:
    """Start what carries out commands, anew where the program or Prefect's address has changed since."""
    workspace = starting.workspace.folder
    if sys.platform != "linux" or socket_of(workspace) is None or os.environ.get(SWITCH) == "0":
        return
    if starting.has_begun(PREFECT) or not _is_current(starting.address_of(RUNNER)):
        starting.drop(RUNNER)
    starting.need(
        RUNNER,
        ["flows.runner", str(workspace), PORT],
        health="/health",
        environment={"OPENBLAS_NUM_THREADS": "1"},  # a copy has no threads but the one that made it
    )


def _is_current(address: str | None) -> bool:
    """Return whether a runner is what it would be if it were started now."""
    if address is None:
        return False
    try:
        return bool(httpx.get(f"{address}/health", timeout=START_SECONDS).json()["is_current"])
    except (httpx.HTTPError, ValueError, KeyError):
        return False


class Starting:
    """What there is of a workspace's services, and what one `up` adds."""

    def __init__(self, workspace: Workspace, ports: Mapping[str, int]) -> None:
        self.workspace = workspace
        self._ports = ports
        found = read_services(workspace.folder)
        stop(service for service in found if service.process is None)  # what it has left behind
        self._there = {service.name: service for service in found if service.process is not None}
        self._begun: dict[str, Callable[[], Service]] = {}
        """What this `up` has started, and how."""

    def has(self, name: str) -> bool:
        """Return whether a service was started, now or before."""
        return name in self._there

    def address_of(self, name: str) -> str | None:
        """Return where a service listens, if it was started."""
        return self._there[name].address if name in self._there else None

    def has_begun(self, name: str) -> bool:
        """Return whether this `up` has started a service."""
        return name in self._begun

    def drop(self, name: str) -> None:
        """Stop a service, if it is there."""
        if name in self._there:
            stop([self._there.pop(name)])
            write_services(self.workspace, self._there.values())

    def need(
        self,
        name: str,
        words: Sequence[str],
        *,
        path: str = "",
        health: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start a service if it is not there; it may not answer yet."""
        if name in self._there:
            return
        log = self.workspace.folder / "logs" / f"{name.lower()}.log"

        def begin() -> Service:
            port = str(free_port(self._ports[name]))
            process = launch(
                [word.replace(PORT, port) for word in words],
                {key: value.replace(PORT, port) for key, value in environment.items()},
                log,
            )
            base = f"http://{HOST}:{port}"
            return Service(
                name, process.pid, process.create_time(), base + path, base + health, str(log)
            )

        self._begun[name] = begin
        self._begin(name)

    def _begin(self, name: str) -> None:
        self._there[name] = self._begun[name]()
        write_services(self.workspace, self._there.values())

    def wait(self, name: str, console: Console) -> Service:
        """Return a service when it answers; on another port if its own was taken meanwhile.

        Raises:
            Unavailable: it is gone, or takes too long.
        """
        end = time.monotonic() + START_SECONDS
        with console.status(f"waiting for {name}"):
            while (trouble := self._there[name].trouble) is not None:
                service = self._there[name]
                is_gone = service.process is None  # since it was asked, maybe
                is_late = time.monotonic() > end
                if (is_gone or service.is_shut_out) and name in self._begun and not is_late:
                    stop([service])
                    if not is_free(service.port):  # another was quicker
                        self._begin(name)
                        continue
                if is_gone or is_late:
                    said = f"the end of {service.log}:\n{_tail(Path(service.log))}"
                    raise Unavailable(f"{name} {GONE if is_gone else trouble}; {said}")
                time.sleep(POLL_SECONDS)  # between two looks
        return self._there[name]

    def undo(self) -> None:
        """Stop what this `up` has started."""
        stop(service for name, service in self._there.items() if name in self._begun)
        left = [service for name, service in self._there.items() if name not in self._begun]
        write_services(self.workspace, left)


def _within(folder: Path, log: str) -> str:
    """Return where a log is in the workspace."""
    place = folder.expanduser().absolute()
    return str(Path(log).relative_to(place)) if Path(log).is_relative_to(place) else log


def stop_services(folder: Path, console: Console) -> None:
    """Stop the services of a workspace; what they have started ends with them, and can be resumed."""
    workspace = Workspace(folder.expanduser().absolute())
    if not workspace.folder.is_dir():
        raise UserError(f"no workspace at {workspace.folder}")
    with _alone(workspace):
        found = read_services(workspace.folder)
        names = ", ".join(service.name for service in found if service.process is not None)
        with console.status("stopping"):
            stop(found)
        write_services(workspace, [])
    console.print(f"stopped: {names}" if names else "nothing was running")


def show_services(folder: Path, console: Console) -> bool:
    """Print where services are and whether they answer; return whether all do."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("service", "state", "address", "process", "log"):
        table.add_column(title, overflow="fold", no_wrap=title == "address")
    found = [(service, service.trouble) for service in read_services(folder)]
    for service, trouble in found:
        state = "[green]answers[/]" if trouble is None else f"[red]{escape(trouble)}[/]"
        address = service.address.removesuffix("/api")
        table.add_row(
            service.name, state, address, str(service.pid), escape(_within(folder, service.log))
        )
    console.print(table if found else "no services; quorumlab up starts them")
    if any(service.name == PREFECT for service, _ in found):
        console.print(f"Prefect asks for the password in {folder / FILE}", soft_wrap=True)
    return all(trouble is None for _, trouble in found)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Let one `up` or `down` at a time work on a workspace."""
    with (workspace.folder / f".{RECORD}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_port(first: int) -> int:
    """Return the first port from this one on that nobody listens on.

    Raises:
        Unavailable: there is none.
    """
    for port in range(first, first + MOST_PORTS):
        if is_free(port):
            return port
    raise Unavailable(f"no port from {first} to {first + MOST_PORTS - 1} is free")


def _register(environment: Mapping[str, str]) -> None:
    """Tell Prefect's server of the work pool, the deployments, and what becomes of zombies.

    Raises:
        Unavailable: Prefect refuses.
    """
    call = program_call(["flows.register"], environment)
    done = subprocess.run(**call, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:]
        raise Unavailable("registering deployments failed:\n" + "\n".join(said))


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join(lines[-LAST_LINES:])
