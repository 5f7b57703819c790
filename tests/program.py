"""The real program as a user runs it, for tests that start, kill and inspect it."""

from __future__ import annotations

import json
import os
import signal
import socket
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

import psutil
import psycopg

COMMAND = Path(sys.executable).parent / "quorumlab"
POLL_SECONDS = 0.01


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Give the address of a Prefect server of its own, which spares each command 12 seconds."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
    }
    log = folder / "server.log"
    words = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(COMMAND.parent / "prefect"), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while not _answers(f"http://127.0.0.1:{port}/api/health"):
            assert process.poll() is None, log.read_text()
            time.sleep(POLL_SECONDS)  # between two looks, not in place of one
        yield f"http://127.0.0.1:{port}/api"
    finally:
        kill_everything(process)


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

    def run(self, *words: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
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
