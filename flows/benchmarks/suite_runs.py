"""A whole suite, measured in this process or in several at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from threading import BrokenBarrierError
from typing import Any

from rich.console import Console
from rich.progress import Progress

from flows.benchmarks.cases import Group, Result, measure, samples_of, summarised
from flows.benchmarks.machine import describe_machine
from sim_core.errors import ConfigurationError, WorkerDied
from tasks.describe_environment import describe_environment

SIZED = "run"
"""The suite whose cases are made of sizes."""
FIRST_STEPS = 50


@dataclass(frozen=True)
class Parameters:
    """What a suite can be asked for beyond its name; empty: as it is."""

    runs: int | None = None
    """Length of the sweeps of `orchestration`."""
    agents: tuple[int, ...] = ()
    steps: int | None = None
    cache_mb: tuple[int, ...] = ()

    @property
    def has_sizes(self) -> bool:
        """Whether sizes are asked for, which the suite `run` has."""
        return bool(self.agents or self.steps or self.cache_mb)

    def document(self) -> dict[str, Any]:
        """Return them as JSON has them."""
        lists = {"agents": list(self.agents), "cache_mb": list(self.cache_mb)}
        return {**asdict(self), **lists}


PLAIN = Parameters()


def run_suite(
    name: str,
    *,
    repeat: int,
    warmup: int,
    console: Console,
    workers: int = 1,
    parameters: Parameters = PLAIN,
) -> dict[str, Any]:
    """Return the results of a suite as the benchmark file has them.

    Args:
        name: Which suite.
        repeat: Samples of each case in each process; slow ones take fewer.
        warmup: Calls before the first sample.
        console: Where progress is shown.
        workers: Processes that measure at the same time.
        parameters: What else is asked of the suite.

    Raises:
        ConfigurationError: there is no such suite, or it cannot be asked for that.
        QuorumlabError: a case has failed every time.
    """
    groups = groups_of(name, parameters)
    if workers == 1:
        rows = _measured_here(name, groups, repeat=repeat, warmup=warmup, console=console)
    else:
        with console.status(f"suite {name} in {workers} processes"):
            rows = _measured_in_processes(workers, name, parameters, repeat, warmup)
    return {
        "suite": name,
        "commit": describe_environment().get("git_commit"),
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "machine": describe_machine(),
        "settings": {
            "repeat": repeat,
            "warmup": warmup,
            "workers": workers,
            **parameters.document(),
        },
        "results": rows,
    }


def groups_of(name: str, parameters: Parameters = PLAIN) -> list[Group]:
    """Return what a suite measures.

    Raises:
        ConfigurationError: there is no such suite, or it cannot be asked for that.
    """
    from flows.suites import SUITES
    from flows.suites.orchestration import orchestration_suite
    from flows.suites.sized import sized_suite

    if name not in SUITES:
        raise ConfigurationError(f"no suite {name!r}; there are: {', '.join(sorted(SUITES))}")
    if parameters.runs is not None and name != "orchestration":
        raise ConfigurationError(
            f"--runs {parameters.runs}: suite {name!r} has no sweeps; orchestration has"
        )
    if parameters.has_sizes and name != SIZED:
        raise ConfigurationError(
            f"--agents, --steps and --cache-size: suite {name!r} has sizes of its own; leave "
            f"--suite out, or say --suite {SIZED}"
        )
    if name == SIZED:
        return sized_suite(
            parameters.agents or (100,), parameters.steps or FIRST_STEPS, parameters.cache_mb
        )
    return SUITES[name]() if parameters.runs is None else orchestration_suite(parameters.runs)


def _measured_here(
    name: str, groups: Sequence[Group], *, repeat: int, warmup: int, console: Console
) -> list[dict[str, Any]]:
    total = sum(samples_of(case, repeat) for group in groups for case in group.cases)
    results: list[Result] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(name, total=total)
        for number, group in enumerate(groups, 1):
            names = ", ".join(case.name for case in group.cases)
            if not console.is_terminal:  # where no bar is seen
                console.print(f"measuring {names} ({number} of {len(groups)})", soft_wrap=True)
            progress.update(task, description=names if len(names) < 60 else names[:57] + "...")
            results += measure(
                group, repeat=repeat, warmup=warmup, tick=lambda: progress.advance(task)
            )
    return [result.row() for result in results]


def _measured_in_processes(
    workers: int, name: str, parameters: Parameters, repeat: int, warmup: int
) -> list[dict[str, Any]]:
    """Return the rows of several processes as one: they begin each group together."""
    fresh = multiprocessing.get_context("spawn")  # threads of this process would not survive a fork
    with ProcessPoolExecutor(
        workers, mp_context=fresh, initializer=_meet_at, initargs=(fresh.Barrier(workers),)
    ) as pool:
        asked = (name, parameters, repeat, warmup)
        found = [pool.submit(_measured_beside_others, *asked) for _ in range(workers)]
        errors = [error for future in found if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, WorkerDied)):
            raise error
        parts = [future.result() for future in found]
    return [merged(rows) for rows in zip(*parts, strict=True)]


def merged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row with the samples of all; its peak is that of the largest process."""

    def lists(key: str) -> list[float]:
        return [x for row in rows for x in row[key]]

    def by_name(key: str) -> dict[str, list[float]]:
        names = dict.fromkeys(name for row in rows for name in row[key])
        return {name: [x for row in rows for x in row[key].get(name, ())] for name in names}

    return summarised(
        {
            **rows[0],
            "failures": sum(row["failures"] for row in rows),
            "peak_rss_mb": max(row["peak_rss_mb"] for row in rows),
            "cpu_percents": lists("cpu_percents"),
            "samples": lists("samples"),
            "pace_ms": lists("pace_ms"),
            "figure_samples": by_name("figure_samples"),
            "ratio_samples": by_name("ratio_samples"),
        }
    )


_BARRIERS: list[Any] = []


def _meet_at(barrier: Any) -> None:
    _BARRIERS.append(barrier)


def _measured_beside_others(
    name: str, parameters: Parameters, repeat: int, warmup: int
) -> list[dict[str, Any]]:
    (barrier,) = _BARRIERS
    results: list[Result] = []
    try:
        for group in groups_of(name, parameters):
            results += measure(
                group, repeat=repeat, warmup=warmup, tick=lambda: None, ready=barrier.wait
            )
    except BrokenBarrierError as error:
        raise WorkerDied("another process that measured beside this one has stopped") from error
    except BaseException:
        barrier.abort()
        raise
    return [result.row() for result in results]
