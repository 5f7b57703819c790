"""The real program as a user runs it, for tests that start, kill and inspect it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from flows.prefect_server import create_tables
from tests.ports import free_port

COMMAND = Path(sys.executable).parent / "quorumlab"
POLL_SECONDS = 0.03
PATIENCE_SECONDS = 180.0


def call_prefect(url: str, method: str = "POST", **more: Any) -> httpx.Response:
    """Return a server's answer, asked again as Prefect's client does while SQLite is at something else."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = httpx.request(method, url, timeout=30, **more)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > end:
            return answer
        time.sleep(POLL_SECONDS)  # between two tries


class PrefectServer:
    """A Prefect server of its own, which spares each command 12 seconds and can go away."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet; records are kept in `folder`."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, again after it was killed, and return when it answers."""
        # As `up` does: migrating takes as long as the rest.
        create_tables(self.folder / "prefect.db")
        words = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        environment = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
                f"sqlite+aiosqlite:///{self.folder / 'prefect.db'}"
            ),
        }
        self.process = start_service(
            "prefect", words, self.folder / "server.log", environment, f"{self.url}/health"
        )

    def kill(self) -> None:
        """Let it be gone at once."""
        if self.process is not None:
            kill_everything(self.process)
            self.process = None


def start_service(
    program: str, words: list[str], log: Path, environment: dict[str, str], health: str
) -> subprocess.Popen[str]:
    """Start a server of this environment and return when it answers."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "COV_"))}
    with log.open("a") as output:
        process = subprocess.Popen(
            [str(COMMAND.parent / program), *words],
            env=clean | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    while not _answers(health):
        assert process.poll() is None, log.read_text()
        time.sleep(POLL_SECONDS)  # between two looks, not in place of one
    return process


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Give the address of a Prefect server for the length of a block."""
    server = PrefectServer(folder)
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass
class Program:
    """Runs `quorumlab` with one workspace, in a folder of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def run(self, *words: str, timeout: float = 1_000) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(list(words), process.returncode, out, err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and return at once; output goes to pipes that `communicate` reads."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "COV_"))},
            "QUORUMLAB_WORKSPACE": str(self.workspace),
            "PREFECT_HOME": str(self.folder / "prefect_home"),
            **self.environment,
        }
        process = subprocess.Popen(
            [str(COMMAND), *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def stop_all(self) -> None:
        """End whatever was started and is still there."""
        for process in self.started:
            kill_everything(process)

    def summary(self) -> dict[str, Any]:
        """Return the summary of the only experiment."""
        (path,) = self.workspace.glob("experiments/*/summary.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the ledger; none while it has no tables yet."""
        url = self.environment.get("QUORUMLAB_LEDGER_URL")
        if url is not None:
            return _query_postgresql(url, statement)
        database = self.workspace / "ledger.db"
        if not database.exists():
            return []
        connection = sqlite3.connect(database, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def wait_for(self, process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; the program must not end before."""
        while not condition():
            if process.poll() is not None:
                out, err = process.communicate()
                raise AssertionError(f"ended with {process.returncode} too early:\n{out}\n{err}")
            time.sleep(POLL_SECONDS)  # between two looks, not in place of one


def _query_postgresql(url: str, statement: str) -> list[tuple[Any, ...]]:
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain) as connection:
        try:
            return connection.execute(statement.encode()).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def kill_everything(process: subprocess.Popen[str]) -> None:
    """Kill -9 a process and all its descendants, Ray's and Prefect's among them, at once."""
    try:
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=30)
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def ray_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the Ray workers below a process that are executing runs."""
    found = []
    for member in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("ray::simulate_" in part for part in member.cmdline()):
                found.append(member)
        except psutil.NoSuchProcess:
            continue
    return found
