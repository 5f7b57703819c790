"""Suite `recovery`: how long after a kill an experiment computes again."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from flows.benchmarks.cases import Case, Group

POLL_SECONDS = 0.005
STEPS_BEFORE_THE_KILL = 20
EXPERIMENT = (
    "experiment.name=killed",
    "experiment.replicates=4",
    "simulation.flows_per_node=400",
    "simulation.steps=2000",
    "executor=processes",
    "tracking=off",
)
"""Minutes long: nobody waits for its end."""
REPEAT = 5
Opened = Callable[[], AbstractContextManager[Callable[[], float]]]


def recovery_suite() -> list[Group]:
    """Return the cases: with a Prefect server that runs already, and without Prefect."""
    return [
        Group(
            (
                Case("kill_to_running_plain", "s", plain, REPEAT, scale=1.0),
                Case("kill_to_running_prefect", "s", with_server, REPEAT, scale=1.0),
            )
        )
    ]


@contextmanager
def plain() -> Iterator[Callable[[], float]]:
    """Give what kills an experiment without Prefect and starts it again."""
    yield lambda: kill_and_start_again(["orchestrator=none"], {})


@contextmanager
def with_server() -> Iterator[Callable[[], float]]:
    """Give what kills an experiment on a Prefect server and starts it again."""
    with prefect_server() as url:
        yield lambda: kill_and_start_again([], {"PREFECT_API_URL": url})


def kill_and_start_again(words: Sequence[str], environment: dict[str, str]) -> float:
    """Return the seconds from a kill -9 to the next step that is committed by the same command."""
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        with started(folder, words, environment):
            steps = steps_beyond(folder, STEPS_BEFORE_THE_KILL)
        began = time.perf_counter()
        with started(folder, words, environment):
            steps_beyond(folder, steps)
            return time.perf_counter() - began


@contextmanager
def started(folder: str, words: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    """Let the experiment run for the length of a block, at whose end it is killed."""
    command = [sys.executable, "-m", "flows.cli", "run", *EXPERIMENT, *words]
    process = subprocess.Popen(  # noqa: S603 - this program
        [*command, f"workspace={folder}"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def steps_beyond(folder: str, steps: int) -> int:
    """Return how many steps of all runs are committed, once it is more than so many."""
    path = Path(folder) / "ledger.db"
    while (found := _committed(path)) <= steps:
        time.sleep(POLL_SECONDS)
    return found


def _committed(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        try:
            (found,) = connection.execute("SELECT coalesce(sum(steps), 0) FROM run").fetchone()
        except sqlite3.OperationalError:  # it has no tables yet
            return 0
    return int(found)


@contextmanager
def prefect_server() -> Iterator[str]:
    """Give the address of a Prefect server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        process = subprocess.Popen(  # noqa: S603 - of this environment
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"],
            env={**os.environ, "PREFECT_HOME": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while not _answers(f"http://127.0.0.1:{port}/api/health"):
                time.sleep(POLL_SECONDS)
            yield f"http://127.0.0.1:{port}/api"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False
