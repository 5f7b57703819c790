"""`quorumlab benchmark`: suites of measured cases, compared in pairs on the same machine."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sim_core.errors import ConfigurationError
from sim_core.workspace import write_whole
from tasks.describe_environment import describe_environment

MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One thing to measure: `open` gives what a sample calls, and how many units a call is worth."""

    name: str
    unit: str
    """What a sample is given in, such as `ms/step`."""
    open: Callable[[], AbstractContextManager[Callable[[], float]]]
    """Gives a function that does the work once and returns the seconds that one unit took."""
    repeat: int | None = None
    """Samples at most, where one takes long."""
    scale: float = 1e3
    """Factor from seconds to the unit."""


@dataclass(frozen=True)
class Group:
    """Cases that are measured in turn, A B C A B C ..., so that ratios hold while speed drifts."""

    cases: tuple[Case, ...]
    ratios: tuple[tuple[str, str], ...] = ()
    """(name, to what): pairs whose ratio is reported."""


@dataclass
class Result:
    """The samples of one case."""

    case: Case
    samples: list[float] = field(default_factory=list)
    failures: int = 0
    cpu_shares: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the result as the benchmark file has it; None where nothing was measured."""
        values = np.array(self.samples)
        n = len(values)

        def of(function: Callable[..., Any], *arguments: Any) -> float | None:
            return float(function(values, *arguments)) if n else None

        attempts = n + self.failures
        return {
            "name": self.case.name,
            "unit": self.case.unit,
            "n": n,
            "mean": of(np.mean),
            "median": of(np.median),
            "sd": float(values.std(ddof=1)) if n > 1 else None,
            "min": of(np.min),
            "max": of(np.max),
            "p95": of(np.percentile, 95),
            "p99": of(np.percentile, 99),
            "success_rate": n / attempts if attempts else None,
            "cpu_mean": float(np.mean(self.cpu_shares)) if self.cpu_shares else None,
            "cpu_peak": float(np.max(self.cpu_shares)) if self.cpu_shares else None,
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "samples": [float(v) for v in self.samples],
            "ratios": self.ratios,
        }


def measure(group: Group, *, repeat: int, warmup: int, tick: Callable[[], None]) -> list[Result]:
    """Return the samples of all cases of a group, taken in turn."""
    results = [Result(case) for case in group.cases]
    with _opened(group.cases) as calls:
        for call in calls:
            for _ in range(warmup):
                call()
        for turn in range(repeat):
            for result, call in zip(results, calls, strict=True):
                if turn < samples_of(result.case, repeat):
                    _sample(result, call)
                    tick()
    by_name = {result.case.name: result for result in results}
    for name, other in group.ratios:
        if name in by_name and other in by_name:
            pairs = zip(by_name[name].samples, by_name[other].samples, strict=False)
            found = [a / b for a, b in pairs]
            if found:
                by_name[name].ratios[other] = float(np.median(found))
    return results


def samples_of(case: Case, repeat: int) -> int:
    """Return how many samples are taken of a case: slow ones take fewer than are asked for."""
    return min(repeat, case.repeat or repeat)


@contextmanager
def _opened(cases: Sequence[Case]) -> Iterator[list[Callable[[], float]]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield [stack.enter_context(case.open()) for case in cases]


def _sample(result: Result, call: Callable[[], float]) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    seconds = call()
    spent, passed = time.process_time() - cpu, time.perf_counter() - wall
    result.samples.append(seconds * result.case.scale)
    result.cpu_shares.append(100 * spent / passed if passed else 0.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result.peak_rss_mb = max(result.peak_rss_mb, peak)


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    frequency = psutil.cpu_freq()
    return {
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cpus": os.cpu_count(),
        "cpu_mhz": round(frequency.current) if frequency else None,
        "memory_mb": round(psutil.virtual_memory().total / MB),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")


def run_suite(
    name: str, *, repeat: int, warmup: int, console: Console, runs: int | None = None
) -> dict[str, Any]:
    """Return the results of a suite as the benchmark file has them.

    Args:
        name: Which suite.
        repeat: Samples of each case; slow ones take fewer.
        warmup: Calls before the first sample.
        console: Where progress is shown.
        runs: How long the sweeps of the suite `orchestration` are.

    Raises:
        ConfigurationError: there is no such suite, or it has no sweeps.
    """
    groups = _groups(name, runs)
    total = sum(samples_of(case, repeat) for group in groups for case in group.cases)
    results: list[Result] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(name, total=total)
        for group in groups:
            names = ", ".join(case.name for case in group.cases)
            progress.update(task, description=names if len(names) < 60 else names[:57] + "...")
            results += measure(
                group, repeat=repeat, warmup=warmup, tick=lambda: progress.advance(task)
            )
    return {
        "suite": name,
        "commit": describe_environment().get("git_commit"),
        "machine": describe_machine(),
        "results": [result.row() for result in results],
    }


def _groups(name: str, runs: int | None) -> list[Group]:
    from flows.suites import SUITES
    from flows.suites.orchestration import orchestration_suite

    if name not in SUITES:
        raise ConfigurationError(f"no suite {name!r}; there are: {', '.join(sorted(SUITES))}")
    if runs is None:
        return SUITES[name]()
    if name != "orchestration":
        raise ConfigurationError(f"--runs {runs}: suite {name!r} has no sweeps; orchestration has")
    return orchestration_suite(runs)


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON, or as CSV with a row per sample.

    Raises:
        ConfigurationError: the name ends otherwise.
    """
    if path.suffix == ".json":
        write_whole(path, json.dumps(report, indent=1) + "\n")
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["suite", "name", "unit", "iteration", "value"])
        for result in report["results"]:
            for index, value in enumerate(result["samples"]):
                writer.writerow([report["suite"], result["name"], result["unit"], index, value])
        write_whole(path, text.getvalue())
    else:
        raise ConfigurationError(f"--output {path}: the name must end in .json or .csv")


def show_report(report: dict[str, Any], console: Console) -> None:
    """Print the figures, and each ratio as `x OTHER`."""
    table = Table(title=f"suite {report['suite']}", title_justify="left")
    for heading in ("name", "median", "p95", "unit", "n"):
        table.add_column(heading, justify="left" if heading in ("name", "unit") else "right")
    table.add_column("ratios")
    for result in report["results"]:
        if not result["n"]:
            continue
        ratios = ", ".join(f"{value:.3g} x {other}" for other, value in result["ratios"].items())
        table.add_row(
            result["name"],
            f"{result['median']:.4g}",
            f"{result['p95']:.4g}",
            result["unit"],
            str(result["n"]),
            ratios,
        )
    console.print(table)
