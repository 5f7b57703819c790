"""The processes that serve one workspace, as `services.json` names them: found again, started, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from flows.examine_services import answer, is_free
from flows.prefect_password import CLIENT, password_of
from sim_core.errors import Unavailable, UserError
from sim_core.workspace import Workspace, write_whole

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where prefect.yaml and `deployments` are."""
RECORD = "services.json"
PREFECT, MLFLOW, WORKER, DASHBOARD = "Prefect", "MLflow", "worker", "dashboard"
RUNNER = "runner"
"""Carries out commands, see `flows.runner`."""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.1
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
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.address).port or 0

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
    def is_shut_out(self) -> bool:
        """Whether somebody else listens on its port, with which some services live on, of no use."""
        process = self.process
        return process is not None and not is_free(self.port) and not _listens(process, self.port)

    @property
    def trouble(self) -> str | None:
        """Why it is of no use at the moment; None where it answers."""
        process = self.process
        if process is None:
            return GONE
        if not _listens(process, self.port):  # another's answer at that port says nothing of ours
            return f"does not listen on port {self.port}"
        try:
            answer(self.health)
        except Unavailable as error:
            return f"does not answer: {error}"
        return None


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


def write_services(workspace: Workspace, services: Iterable[Service]) -> None:
    """Say which services a workspace has."""
    text = json.dumps([asdict(service) for service in services], indent=2)
    write_whole(workspace.folder / RECORD, text + "\n")


def _listens(process: psutil.Process, port: int) -> bool:
    """Return whether a process or one that it has started listens on a port."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            for connection in one.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


def launch(words: Sequence[str], environment: Mapping[str, str], log: Path) -> psutil.Process:
    """Start a program of this environment in a session of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        started = subprocess.Popen(
            **program_call(words, environment), stdout=output, stderr=output, start_new_session=True
        )
    return psutil.Process(started.pid)


def program_call(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how subprocess is to call a program of this environment."""
    return {
        "args": [sys.executable, "-m", *words],
        "cwd": CHECKOUT,
        "env": {**os.environ, **environment},
        "stdin": subprocess.DEVNULL,
    }


def stop(services: Iterable[Service]) -> None:
    """End services and all that they have started: first asked to, then made to."""
    there = list(services)
    _end([service for service in there if service.name != PREFECT])
    _end([service for service in there if service.name == PREFECT])  # to which others report


def _end(services: Iterable[Service]) -> None:
    """End services, all at once."""
    families = [_processes_of(service) for service in services]
    for leader in (family[0] for family in families if family):
        with suppress(psutil.NoSuchProcess):
            leader.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(list(chain.from_iterable(families)), timeout=STOP_SECONDS)
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
