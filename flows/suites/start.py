"""Suite `start`: how long a command takes that has nearly nothing to do, from its start to its end.

Whole processes: what is imported, what is started beside, and what is waited for at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from flows.benchmarks.cases import Case, Group, Measured
from flows.suites.whole_programs import (
    Ended,
    new_folder,
    quorumlab,
    run_to_end,
    served_folder,
)

TINY = (
    "simulation.nodes=10", "simulation.steps=10", "experiment.replicates=2", "executor=inline",
)  # fmt: skip
"""With Prefect, validation, plots and MLflow, as everything that is not said otherwise."""
REPEAT = 5
Opened = Callable[[], AbstractContextManager[Callable[[], Measured]]]


def start_suite() -> list[Group]:
    """Return the cases: help, a tiny experiment in a workspace that is new, used, served; `make run` again."""
    cases = (
        ("help", helping),
        ("tiny_cold", tiny_cold),
        ("tiny_again", tiny_again),
        ("tiny_warm", tiny_warm),
        ("make_run_warm", make_run_warm),
    )
    return [Group((Case(name, "s", opened, REPEAT, scale=1.0),)) for name, opened in cases]


@contextmanager
def helping() -> Iterator[Callable[[], Measured]]:
    """Give what asks for help."""
    with new_folder() as folder:
        yield lambda: measured(run_to_end(quorumlab("--help"), folder))


@contextmanager
def tiny_cold() -> Iterator[Callable[[], Measured]]:
    """Give what runs a tiny experiment in a workspace that is new."""
    with new_folder() as folder:
        numbers = count()

        def call() -> Measured:
            words = [*TINY, f"workspace={folder / str(next(numbers))}"]
            return measured(run_to_end(quorumlab("run", *words), folder))

        yield call


@contextmanager
def tiny_again() -> Iterator[Callable[[], Measured]]:
    """Give what runs another tiny experiment where there has been one."""
    with new_folder() as folder, more_of_them(folder) as call:
        yield call


@contextmanager
def tiny_warm() -> Iterator[Callable[[], Measured]]:
    """Give what runs another tiny experiment where the services of `quorumlab up` are as well."""
    with served_folder() as folder, more_of_them(folder) as call:
        yield call


@contextmanager
def more_of_them(folder: Path) -> Iterator[Callable[[], Measured]]:
    """Give what runs another tiny experiment in a workspace, of which this makes the first."""
    numbers = count(1)

    def call() -> Measured:
        words = [*TINY, f"experiment.seed={next(numbers)}", f"workspace={folder}"]
        return measured(run_to_end(quorumlab("run", *words), folder))

    call()
    yield call


@contextmanager
def make_run_warm() -> Iterator[Callable[[], Measured]]:
    """Give what starts the finished experiment of `make run` again."""
    with new_folder() as folder:

        def call() -> Measured:
            words = ["+study=quickstart", f"workspace={folder}"]
            return measured(run_to_end(quorumlab("run", *words), Path(folder)))

        call()
        yield call


def measured(ended: Ended) -> Measured:
    """Return a program's seconds as a sample, with what its processes took."""
    share = 100 * ended.cpu_seconds / ended.seconds
    return Measured(ended.seconds, cpu_percent=share, peak_rss_mb=ended.peak_mb)
