"""`quorumlab up` and `down`: Prefect's server and worker, and MLflow's server, for one workspace.

Each is a process in a session of its own, which listens on the loopback alone and writes a log into the
workspace. `services.json` says which there are; a process counts as ours only while one of that
number has been there since that moment.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.environment import prefect_database, prepare_environment
from flows.examine_services import answer, is_free
from flows.prefect_password import CLIENT, FILE, SERVER, new_password, password_of
from flows.prefect_server import create_tables
from sim_core.errors import Unavailable, UserError
from sim_core.workspace import Workspace, open_workspace, write_whole

HOST = "127.0.0.1"
PORT = "{port}"
"""Stands for the port of a service in its words and environment."""
POOL = "quorumlab"
CHECKOUT = Path(__file__).resolve().parents[1]
"""Where prefect.yaml and `deployments` are."""
RECORD = "services.json"
PREFECT, MLFLOW, WORKER = "Prefect", "MLflow", "worker"
FIRST_PORTS = {PREFECT: 4200, MLFLOW: 5000, WORKER: 4280}
MOST_PORTS = 100
"""That are tried, from the first on."""
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""What flows hold of concurrency limits is still known after the server was started anew."""
START_SECONDS = 180.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.1
BEAT_SECONDS = "30"
"""Between two signs of life of a flow run; `zombies` says what becomes of those that give none."""
LAST_LINES = 8
GONE = "is gone"


@dataclass(frozen=True)
class Service:
    """A process that was started for a workspace."""

    name: str
    pid: int
    began: float
    """When the process was created, in seconds since 1970, by which it is known again."""
    address: str
    health: str
    log: str

    @property
    def process(self) -> psutil.Process | None:
        """The process; None where it is gone, or its number is another's by now."""
        try:
            found = psutil.Process(self.pid)
            is_ours = found.create_time() == self.began and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if is_ours else None

    @property
    def trouble(self) -> str | None:
        """Why it is of no use at the moment; None where it answers."""
        if self.process is None:
            return GONE
        try:
            answer(self.health)
        except Unavailable as error:
            return f"does not answer: {error}"
        return None


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
        starting = _Starting(workspace, ports)
        try:
            _start_all(starting, console)
        except BaseException:
            starting.undo()
            raise
    show_services(workspace.folder, console)


def _start_all(starting: _Starting, console: Console) -> None:
    folder = starting.workspace.folder
    create_tables(prefect_database())
    password = password_of(folder) or new_password(folder)
    prefect = starting.need(
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
    starting.wait(PREFECT, console)
    if starting.has_begun(PREFECT):  # a worker of before reports to a server that is gone
        starting.drop(WORKER)
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


class _Starting:
    """What there is of a workspace's services, and what one `up` adds."""

    def __init__(self, workspace: Workspace, ports: Mapping[str, int]) -> None:
        self.workspace = workspace
        self._ports = ports
        found = read_services(workspace.folder)
        _stop(service for service in found if service.process is None)  # what it has left behind
        self._there = {service.name: service for service in found if service.process is not None}
        self._begun: list[Service] = []

    def has(self, name: str) -> bool:
        return name in self._there

    def has_begun(self, name: str) -> bool:
        return self._there[name] in self._begun

    def drop(self, name: str) -> None:
        """Stop a service, if it is there."""
        if name in self._there:
            _stop([self._there.pop(name)])
            _write(self.workspace, self._there.values())

    def need(
        self,
        name: str,
        words: Sequence[str],
        *,
        path: str = "",
        health: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Service:
        """Return a service, started if it is not there; it may not answer yet."""
        if name not in self._there:
            port = str(_free_port(self._ports[name]))
            log = self.workspace.folder / "logs" / f"{name.lower()}.log"
            process = _launch(
                [word.replace(PORT, port) for word in words],
                {key: value.replace(PORT, port) for key, value in environment.items()},
                log,
            )
            base = f"http://{HOST}:{port}"
            self._there[name] = Service(
                name, process.pid, process.create_time(), base + path, base + health, str(log)
            )
            self._begun.append(self._there[name])
            _write(self.workspace, self._there.values())
        return self._there[name]

    def wait(self, name: str, console: Console) -> None:
        """Return when a service answers.

        Raises:
            Unavailable: it is gone, or takes too long.
        """
        service = self._there[name]
        end = time.monotonic() + START_SECONDS
        with console.status(f"waiting for {name}"):
            while (trouble := service.trouble) is not None:
                is_gone = service.process is None  # since it was asked, maybe
                if is_gone or time.monotonic() > end:
                    said = f"the end of {service.log}:\n{_tail(Path(service.log))}"
                    raise Unavailable(f"{name} {GONE if is_gone else trouble}; {said}")
                time.sleep(POLL_SECONDS)  # between two looks

    def undo(self) -> None:
        """Stop what this `up` has started."""
        _stop(self._begun)
        left = [service for service in self._there.values() if service not in self._begun]
        _write(self.workspace, left)


def stop_services(folder: Path, console: Console) -> None:
    """Stop the services of a workspace; what they have started ends with them, and can be resumed."""
    workspace = Workspace(folder.expanduser().absolute())
    if not workspace.folder.is_dir():
        raise UserError(f"no workspace at {workspace.folder}")
    with _alone(workspace):
        found = read_services(workspace.folder)
        names = ", ".join(service.name for service in found if service.process is not None)
        with console.status("stopping"):
            _stop(found)
        _write(workspace, [])
    console.print(f"stopped: {names}" if names else "nothing was running")


def show_services(folder: Path, console: Console) -> bool:
    """Print where services are and whether they answer; return whether all do."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("service", "state", "address", "process", "log"):
        table.add_column(title, overflow="fold")
    found = [(service, service.trouble) for service in read_services(folder)]
    for service, trouble in found:
        state = "[green]answers[/]" if trouble is None else f"[red]{escape(trouble)}[/]"
        address = service.address.removesuffix("/api")
        table.add_row(service.name, state, address, str(service.pid), escape(service.log))
    console.print(table if found else "no services; quorumlab up starts them")
    if any(service.name == PREFECT for service, _ in found):
        console.print(f"Prefect asks for the password in {folder / FILE}", soft_wrap=True)
    return all(trouble is None for _, trouble in found)


def read_services(folder: Path) -> list[Service]:
    """Return the services that were started for a workspace, whether they are still there or not."""
    try:
        entries = json.loads((folder / RECORD).read_bytes())
        return [Service(**entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / RECORD} cannot be read: {error}. Remove it, and end what it named"
        ) from error


def address_of(folder: Path, name: str) -> str | None:
    """Return where a service of a workspace is; None where it was not started, or is gone."""
    found = (s for s in read_services(folder) if s.name == name and s.process is not None)
    return next((service.address for service in found), None)


def use_services(folder: Path) -> None:
    """Let this command use the Prefect server of a workspace, if there is one and no other is named."""
    address = address_of(folder, PREFECT)
    if address is None or "PREFECT_API_URL" in os.environ:
        return
    os.environ["PREFECT_API_URL"] = address
    if password := password_of(folder):
        os.environ.setdefault(CLIENT, password)


def _write(workspace: Workspace, services: Iterable[Service]) -> None:
    text = json.dumps([asdict(service) for service in services], indent=2)
    write_whole(workspace.folder / RECORD, text + "\n")


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Let one `up` or `down` at a time work on a workspace."""
    with (workspace.folder / f".{RECORD}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_port(first: int) -> int:
    """Return the first port from this one on that nobody listens on.

    Raises:
        Unavailable: there is none.
    """
    for port in range(first, first + MOST_PORTS):
        if is_free(port):
            return port
    raise Unavailable(f"no port from {first} to {first + MOST_PORTS - 1} is free")


def _launch(words: Sequence[str], environment: Mapping[str, str], log: Path) -> psutil.Process:
    """Start a program of this environment in a session of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        started = subprocess.Popen(
            **_program(words, environment), stdout=output, stderr=output, start_new_session=True
        )
    return psutil.Process(started.pid)


def _program(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how subprocess is to call a program of this environment."""
    return {
        "args": [sys.executable, "-m", *words],
        "cwd": CHECKOUT,
        "env": {**os.environ, **environment},
        "stdin": subprocess.DEVNULL,
    }


def _register(environment: Mapping[str, str]) -> None:
    """Create the work pool, and register what prefect.yaml describes, and what becomes of zombies.

    Raises:
        Unavailable: Prefect refuses.
    """
    template = str(CHECKOUT / "deployments" / "work_pool.json")
    kind = ("--type", "process", "--base-job-template", template, "--overwrite")
    for words in (
        ["prefect", "work-pool", "create", POOL, *kind],
        ["prefect", "--no-prompt", "deploy", "--all"],
        ["flows.zombies"],
    ):
        call = _program(words, environment)
        done = subprocess.run(**call, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:]
            raise Unavailable(f"{' '.join(words)} failed:\n" + "\n".join(said))


def _stop(services: Iterable[Service]) -> None:
    """End services and all that they have started: first asked to, then made to."""
    processes = []
    for service in reversed(list(services)):  # a worker before the server that it reports to
        mine = _processes_of(service)
        processes += mine
        for process in mine[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        psutil.wait_procs(mine, timeout=STOP_SECONDS)
    _, alive = psutil.wait_procs(processes, timeout=POLL_SECONDS)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _processes_of(service: Service) -> list[psutil.Process]:
    """Return the process of a service and all that it has started; those alone that it has left behind.

    They are in its session, which no other can be while one of them is there.
    """
    leader = service.process
    if leader is None and psutil.pid_exists(service.pid):
        return []  # the number is another's by now, and so is a session of that number
    found = [] if leader is None else [leader, *leader.children(recursive=True)]
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == service.pid and process not in found:
                found.append(process)
    return found


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join(lines[-LAST_LINES:])
