"""Suite `ray`: what Ray itself takes: a task there and back, an object put and fetched, a worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from typing import Any

import numpy as np

from flows.benchmarks.cases import Case, Group
from flows.suites.step import timed
from sim_core.config import ExecutorConfig
from tasks.ray_start import end_ray, start_ray

OBJECT_BYTES = 1 << 20
TIMES = 20
"""Tasks or objects of a sample."""
REPEAT_RECOVERY = 5


def ray_suite() -> list[Group]:
    """Return the cases, each on a Ray of its own: they cannot share one that ends in between."""
    cases = (
        Case("task", "ms", round_trip),
        Case("put_1mb", "ms", putting),
        Case("get_1mb", "ms", getting),
        Case("worker_killed", "ms", recovering, REPEAT_RECOVERY),
    )
    return [Group((case,)) for case in cases]


@contextmanager
def started() -> Iterator[Any]:
    """Give a Ray of this machine with two processors."""
    start_ray(ExecutorConfig(num_cpus=2))
    ray: Any = import_module("ray")
    try:
        yield ray
    finally:
        end_ray(ray)


@contextmanager
def round_trip() -> Iterator[Callable[[], float]]:
    """Give what hands out a task that does nothing, and waits for its end."""
    with started() as ray:
        task = ray.remote(num_cpus=1)(_nothing)
        ray.get(task.remote())
        yield timed(lambda: ray.get(task.remote()), TIMES)


@contextmanager
def putting() -> Iterator[Callable[[], float]]:
    """Give what puts a megabyte into the object store."""
    with started() as ray:
        data = np.ones(OBJECT_BYTES, dtype=np.uint8)
        yield timed(lambda: ray.put(data), TIMES)


@contextmanager
def getting() -> Iterator[Callable[[], float]]:
    """Give what fetches a megabyte that a worker has made: nobody here has seen it yet."""
    with started() as ray:
        make = ray.remote(num_cpus=1)(_megabyte)

        def call() -> float:
            made = [make.remote() for _ in range(TIMES)]
            ray.wait(made, num_returns=TIMES, fetch_local=False)
            began = time.perf_counter()
            for reference in made:
                assert ray.get(reference).nbytes == OBJECT_BYTES
            return (time.perf_counter() - began) / TIMES

        yield call


@contextmanager
def recovering() -> Iterator[Callable[[], float]]:
    """Give what kills a worker at work, and waits until its task is carried out by another one.

    As the program itself does it: Ray tells of the death, and whoever waits hands out the task again.
    """
    # Ray says of each death on the output, where figures are.
    with redirect_stdout(sys.stderr), started() as ray:
        endless = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_endless)

        def call() -> float:
            task = endless.remote()
            worker = ray.get(next(task))
            began = time.perf_counter()
            os.kill(worker, signal.SIGKILL)
            with suppress(ray.exceptions.WorkerCrashedError):
                ray.get(next(task))
            again = endless.remote()
            assert ray.get(next(again)) != worker
            seconds = time.perf_counter() - began
            ray.cancel(again, force=True)
            return seconds

        yield call


def _endless() -> Iterator[int]:
    yield os.getpid()
    threading.Event().wait()


def _nothing() -> None:
    pass


def _megabyte() -> Any:
    return np.ones(OBJECT_BYTES, dtype=np.uint8)
