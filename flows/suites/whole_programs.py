"""Whole programs of this environment, with what they and all of their children took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sim_core.errors import QuorumlabError

LOOK_SECONDS = 0.2
"""Between two looks at a program's processes."""
MB = 1 << 20
LAST_WORDS = 2_000


@dataclass(frozen=True)
class Ended:
    """A program that has run to its end."""

    seconds: float
    cpu_seconds: float
    """Of all of its processes; those that were seen."""
    peak_mb: float
    """Largest sum of the memory of all of its processes at once (PSS: shared pages count once)."""


def quorumlab(*words: str) -> list[str]:
    """Return the command line of this program."""
    return [sys.executable, "-m", "flows.cli", *words]


def run_to_end(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[threading.Event], None] | None = None,
) -> Ended:
    """Return what a program took, started in a folder.

    Args:
        command: The program and its arguments.
        folder: Where it is started.
        environment: Variables beside those of this process.
        meanwhile: Is called in a thread, with an event that is set when the program ends.

    Raises:
        QuorumlabError: it ended with another exit code than 0.
    """
    watch = _Watch()
    ended = threading.Event()
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - of this environment
            [*command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        threads = [threading.Thread(target=watch.follow, args=(process.pid, ended))]
        if meanwhile is not None:
            threads.append(threading.Thread(target=meanwhile, args=(ended,)))
        for thread in threads:
            thread.start()
        try:
            code = process.wait()
        finally:
            seconds = time.perf_counter() - began
            ended.set()
            for thread in threads:
                thread.join()
        output.seek(0)
        said = output.read().decode(errors="replace")[-LAST_WORDS:]
    if code:
        raise QuorumlabError(f"`{' '.join(command)}` ended with {code}: {said}")
    return Ended(seconds, watch.cpu_seconds, watch.peak_mb)


class _Watch:
    """Looks at a process and all of its descendants, again and again."""

    def __init__(self) -> None:
        self._cpu: dict[tuple[int, float], float] = {}
        self.peak_mb = 0.0

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu.values())

    def follow(self, pid: int, ended: threading.Event) -> None:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            while True:
                self._look([root, *root.children(recursive=True)])
                if ended.wait(LOOK_SECONDS):
                    return

    def _look(self, family: Sequence[psutil.Process]) -> None:
        memory = 0.0
        for member in family:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = member.cpu_times()
                self._cpu[member.pid, member.create_time()] = times.user + times.system
                memory += _memory_mb(member)
        self.peak_mb = max(self.peak_mb, memory)


def _memory_mb(process: psutil.Process) -> float:
    """Return the proportional set size where the system knows it, else the resident set."""
    full = process.memory_full_info()
    return float(getattr(full, "pss", 0) or full.rss) / MB


@contextmanager
def new_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        yield Path(folder)


@contextmanager
def served_folder() -> Iterator[Path]:
    """Give such a folder as a workspace whose services run (`quorumlab up`)."""
    with new_folder() as folder:
        run_to_end(quorumlab("up", "--workspace", str(folder)), folder)
        try:
            yield folder
        finally:
            run_to_end(quorumlab("down", "--workspace", str(folder)), folder)
