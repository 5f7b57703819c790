"""A worker process of the executor `processes`: simulates what it is sent, and streams it back.

    python -P -m tasks.worker DESCRIPTOR NICE [LOG]

It is started by `tasks.worker_pool` with one end of a socket. The driver sends lists of jobs, and a
`None` for each segment that it has taken; the worker sends segments and errors, and `None` when a
list is done. When the driver is gone, by kill -9 too, the socket closes and the worker ends at once.
Only what a run needs is imported here: a worker is small, and is there in a second.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection

from sim_core.jobs import Job
from tasks.logs.writing import LogTarget, written_by_worker
from tasks.profiles.asked import simulate_as_asked

SEGMENTS_AHEAD = 4
"""Segments that a worker may be ahead of the driver before it waits."""
UNUSED = ("scipy.linalg.cython_blas", "scipy.linalg.cython_lapack")
"""What Numba looks for to call linear algebra, of which no compiled pass has any: 17 MB."""


def main(words: Sequence[str]) -> None:
    """Serve the socket until the driver closes it."""
    descriptor, nice = map(int, words[:2])
    os.nice(nice)
    driver = Connection(descriptor)
    jobs, free = queue.SimpleQueue[list[Job]](), threading.Semaphore(SEGMENTS_AHEAD)
    threading.Thread(target=_listen, args=(driver, jobs, free), daemon=True).start()
    load_numba_without_scipy()
    with written_by_worker(LogTarget.decoded(words[2]) if words[2:] else None):
        while True:
            for item in simulate_as_asked(jobs.get()):
                free.acquire()
                driver.send(item)
            driver.send(None)


def _listen(
    driver: Connection, jobs: queue.SimpleQueue[list[Job]], free: threading.Semaphore
) -> None:
    """Take in what the driver sends; when it is gone, end this process in the midst of a step."""
    try:
        while True:
            message = driver.recv()
            if message is None:
                free.release()
            else:
                jobs.put(message)
    except (EOFError, OSError):
        os._exit(0)
    except Exception:  # noqa: BLE001 - whatever it is, nobody would hear of it from a thread
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def load_numba_without_scipy() -> None:
    """Let Numba find no SciPy while it loads what calls it; others may import it afterwards."""
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules |= dict.fromkeys(absent)  # type: ignore[arg-type]  # None: not to be found
    try:
        import numba.np.arraymath  # noqa: F401 - else loaded by the first compiled pass
    finally:
        for name in absent:
            del sys.modules[name]


if __name__ == "__main__":
    main(sys.argv[1:])
