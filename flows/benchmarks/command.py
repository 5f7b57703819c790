"""`quorumlab benchmark`: measure, keep, publish, compare; or only compare; or only say where it tends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from flows.benchmarks.comparing import THRESHOLD, Comparison, compare_reports
from flows.benchmarks.files import (
    Report,
    check_output,
    read_report,
    write_report,
    write_table,
)
from flows.benchmarks.machine import describe_machine, machine_id
from flows.benchmarks.publishing import history_of, publish
from flows.benchmarks.showing import show_comparison, show_report, show_trends
from flows.benchmarks.suite_runs import PLAIN, SIZED, Parameters, groups_of, run_suite
from flows.benchmarks.trends import trends_of
from sim_core.errors import ConfigurationError, DataError

FIRST_SUITE = "step"
TRACKING = ("mlflow_local", "mlflow_server", "off")
LARGEST_SHARE = 5.0


@dataclass(frozen=True)
class Asked:
    """What the command was asked for."""

    workspace: Path
    suite: str | None = None
    output: Path | None = None
    baseline: Path | None = None
    threshold: float = THRESHOLD
    repeat: int = 15
    warmup: int = 2
    workers: int = 1
    tracking: str = "mlflow_local"
    parameters: Parameters = PLAIN

    @property
    def suite_name(self) -> str:
        """The suite: of sizes where sizes are asked for and nothing else is said."""
        return self.suite or (SIZED if self.parameters.has_sizes else FIRST_SUITE)


def benchmark(
    asked: Asked,
    files: tuple[Path, Path] | None,
    console: Console,
    progress: Console,
    *,
    is_trend: bool,
) -> bool:
    """Do what was asked for; return whether nothing has regressed.

    Raises:
        UserError: what is asked for cannot be.
    """
    check_tracking(asked.tracking)
    if is_trend and (files or asked.baseline or asked.output):
        raise ConfigurationError(
            "--trend only looks at what was measured: leave --compare, --baseline and --output out"
        )
    if is_trend:
        show_history(asked.workspace, asked.suite, asked.tracking, console)
        return True
    if files is not None:
        if asked.baseline is not None:
            raise ConfigurationError("--compare names both files: leave --baseline out")
        return compare_files(*files, asked.output, asked.threshold, console)
    return measure_and_compare(asked, console, progress)


def sizes(option: str, text: str | None, *, least: int) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas.

    Raises:
        ConfigurationError: there is something else in it, or a number twice.

    >>> sizes("--agents", "100,1000", least=2)
    (100, 1000)
    """
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 9 for word in words):
        raise ConfigurationError(
            f"{option} {text}: expected whole numbers with commas, as 100,1000"
        )
    numbers = tuple(map(int, words))
    if min(numbers) < least or len(set(numbers)) < len(numbers):
        raise ConfigurationError(f"{option} {text}: expected different numbers of {least} at least")
    return numbers


def share(option: str, text: str) -> float:
    """Return a share, given as such or in per cent.

    Raises:
        ConfigurationError: it is neither.

    >>> share("--threshold", "20%"), share("--threshold", "0.2")
    (0.2, 0.2)
    """
    number, sign, rest = text.strip().partition("%")
    try:
        found = float(number) / (100 if sign else 1)
    except ValueError:
        found = -1.0
    if rest or not 0 <= found < LARGEST_SHARE:
        raise ConfigurationError(f"{option} {text}: expected a share as 20% or 0.2")
    return found


def check_tracking(tracking: str) -> None:
    """Check where figures are to be published.

    Raises:
        ConfigurationError: there is no such way.
    """
    if tracking not in TRACKING:
        raise ConfigurationError(f"--tracking {tracking}: expected {', '.join(TRACKING)}")


def measure_and_compare(asked: Asked, console: Console, progress: Console) -> bool:
    """Measure a suite, keep its figures and compare them; return whether nothing has regressed.

    Args:
        asked: What to do.
        console: Where figures are shown.
        progress: Where it is shown how far measuring is, and what went wrong beside it.

    Raises:
        UserError: there is no such suite, or the baseline is none of it; before anything is measured.
        QuorumlabError: a case has failed every time.
    """
    name = asked.suite_name
    check_output(asked.output)
    groups_of(name, asked.parameters)
    baseline = None if asked.baseline is None else read_report(asked.baseline)
    if baseline is not None and baseline.suite != name:
        raise DataError(
            f"{asked.baseline}: is of suite {baseline.suite!r}, and {name!r} is asked for; say "
            f"--suite {baseline.suite}"
        )
    report = run_suite(
        name,
        repeat=asked.repeat,
        warmup=asked.warmup,
        console=progress,
        workers=asked.workers,
        parameters=asked.parameters,
    )
    show_report(report, console)
    if asked.output is not None:
        write_report(report, asked.output)
    publish(report, asked.workspace, asked.tracking, progress)
    if baseline is None:
        return True
    found = compare_reports(baseline, Report.model_validate(report), threshold=asked.threshold)
    show_comparison(found, console)
    return not found.regressions


def compare_files(
    before: Path, now: Path, output: Path | None, threshold: float, console: Console
) -> bool:
    """Compare two benchmark files, without measuring; return whether nothing has regressed.

    Raises:
        UserError: one of them is no benchmark file, or they have nothing in common.
    """
    check_output(output)
    found = compare_reports(read_report(before), read_report(now), threshold=threshold)
    show_comparison(found, console)
    if output is not None:
        write_comparison(found, output)
    return not found.regressions


def write_comparison(found: Comparison, path: Path) -> None:
    """Write a comparison as JSON, or as CSV with a row per case."""
    rows = [asdict(each) for each in found.differences]
    heads = list(rows[0])
    write_table(found.document(), heads, [list(row.values()) for row in rows], path)


def show_history(workspace: Path, suite: str | None, tracking: str, console: Console) -> None:
    """Print where a suite tends on this machine, or every suite that has been measured here.

    Raises:
        UserError: there is no such suite, or nothing has been measured yet.
    """
    from flows.suites import SUITES

    if suite is not None:
        groups_of(suite)
    machine = machine_id(describe_machine())
    found = {
        name: history_of(workspace, name, tracking, console)
        for name in ([suite] if suite else sorted(SUITES))
    }
    if not any(found.values()):
        raise DataError(
            f"no history on this machine ({machine}) in {workspace}: measure first, `quorumlab "
            f"benchmark{f' --suite {suite}' if suite else ''}`, five times at least"
        )
    for name, history in found.items():
        if history:
            show_trends(name, machine, trends_of(history), console)
