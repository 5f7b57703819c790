"""Worker processes of our own that execute shards: no Ray, no server, nothing but sockets.

A worker is a plain program (`tasks.worker`) at the other end of a socket. Its death closes the socket,
so that whoever waits for a segment learns of it at once; so does ours for the worker. Workers are
in sessions of their own: Ctrl-C reaches the driver alone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from sim_core.error_table import Trouble
from sim_core.errors import Interrupted, Unavailable, WorkerDied
from sim_core.jobs import Item, Job
from tasks.logs.writing import LogTarget
from tasks.occupancy import Place, here, unnoted

ROOT = Path(__file__).parents[1]
"""Folder that holds the packages, which workers import as this process has."""
LONGEST_DEATH_SECONDS = 10.0
"""How long a process whose socket has closed may take to be gone."""
CLOSED = "the worker processes have been ended"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Worker:
    """One worker process and the driver's end of its socket."""

    def __init__(self, nice: int, log: LogTarget | None = None) -> None:
        """Start the process, which is ready about a second later; jobs may be sent before.

        It logs to `log`.

        Raises:
            Unavailable: the system starts no process.
        """
        ours, theirs = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(sys.executable, "-P", "-m", "tasks.worker"),
                    *(str(theirs.fileno()), str(nice)),
                    *([log.encoded()] if log else []),
                ],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self._output.close()
            raise Unavailable(Trouble.WORKER_UNSTARTED.tell(reason=error)) from error
        finally:
            theirs.close()
        self._socket = Connection(ours.detach())

    def execute(self, jobs: Sequence[Job]) -> Iterator[Item]:
        """Yield what the worker makes of the jobs, and tell it what has been taken.

        Raises:
            WorkerDied: the process is gone.
        """
        try:
            self._socket.send(list(jobs))
            while (item := self._socket.recv()) is not None:
                yield item
                self._socket.send(None)
        except (EOFError, OSError) as error:
            raise WorkerDied(self._describe_death()) from error

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self.process.poll() is None

    def end(self) -> None:
        """End the process, whatever it is at: it keeps nothing that could be torn."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and let go of the socket, which nobody may be using any more."""
        self.end()
        self._socket.close()
        self._output.close()

    def _describe_death(self) -> str:
        """Return which process died of what, as far as the system tells."""
        try:
            cause = _cause(self.process.wait(LONGEST_DEATH_SECONDS)) + self._last_words()
        except subprocess.TimeoutExpired:
            self.end()
            cause = "closed its socket and was ended"
        return Trouble.WORKER_DIED.tell(pid=self.process.pid, cause=cause)

    def _last_words(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _cause(code: int) -> str:
    """Return what an exit code means.

    >>> _cause(-9), _cause(1)
    ('was killed by SIGKILL (by somebody, or for want of memory)', 'ended with exit code 1')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (
        " (by somebody, or for want of memory)" if name == "SIGKILL" else ""
    )


class ProcessExecutor:
    """Executes each shard in one of its worker processes, which live from shard to shard."""

    dies_with_driver = False

    def __init__(
        self, n_workers: int, max_in_flight: int, nice: int = 0, log: LogTarget | None = None
    ) -> None:
        """Start the workers; shards beyond their number wait for one that is free.

        Raises:
            Unavailable: the system starts no process.
        """
        self.max_in_flight = max_in_flight
        self._nice, self._log = nice, log
        self._lock = threading.Lock()
        self._is_closed = False
        self._busy: set[Worker] = set()
        self._free = queue.LifoQueue[Worker | None]()
        """Workers without work, the last that had some first; None is a place for one to be started."""
        try:
            for _ in range(n_workers):
                self._free.put(Worker(nice, log))
        except Unavailable:
            self.close()
            raise

    def figures(self) -> dict[str, float]:
        """Return none: its workers are children of this process, and sampled with it."""
        return {}

    def execute(
        self, jobs: Sequence[Job], placed: Callable[[Place], None] = unnoted
    ) -> Iterator[Item]:
        """Yield the segments of the jobs as a worker makes them.

        A worker that is left in the midst of its jobs is ended, and another takes its place.

        Raises:
            WorkerDied: the process that executed them is gone.
            Interrupted: this executor has been closed.
            Unavailable: the system starts no process.
        """
        worker = self._take()
        placed(Place(here().node, worker.process.pid))
        is_ready = False
        try:
            yield from worker.execute(jobs)
            is_ready = True
        except WorkerDied as error:
            if self._is_closed:
                raise Interrupted(CLOSED) from error
            raise
        finally:
            self._give_back(worker, is_ready=is_ready)

    def pids(self) -> list[int]:
        """Return the numbers of the processes that have work."""
        with self._lock:
            return [worker.process.pid for worker in self._busy]

    def close(self) -> None:
        """End all workers; who still waits for one is told so."""
        with self._lock:
            self._is_closed = True
            for worker in self._busy:
                worker.end()  # closed by who uses it
            with contextlib.suppress(queue.Empty):
                while True:
                    if (idle := self._free.get_nowait()) is not None:
                        idle.close()
            self._free.put(None)

    def _take(self) -> Worker:
        """Return a worker that is alive, as soon as there is a place for it."""
        worker = self._free.get()
        with self._lock:
            if self._is_closed:
                self._free.put(None)  # for the next who waits
                raise Interrupted(CLOSED)
            if worker is not None and not worker.is_alive():
                worker.close()
                worker = None
            try:
                worker = worker or Worker(self._nice, self._log)
            except Unavailable:
                self._free.put(None)
                raise
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: Worker, *, is_ready: bool) -> None:
        """Make room for the next shard; a worker that is not ready for it is ended."""
        with self._lock:
            self._busy.discard(worker)
            if self._is_closed or not is_ready:
                worker.close()
            self._free.put(worker if is_ready and not self._is_closed else None)
