"""The benchmark that is due by the clock: held against earlier nights, and measured again in doubt.

A machine that has other work in one night is slower in that night, by more than any threshold. What
looks like a regression is therefore measured again, and is one where it is there both times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.benchmarks.comparing import Comparison, compare_reports
from flows.benchmarks.files import Report, read_report
from flows.benchmarks.history import FOLDER, earlier_reports, pooled
from flows.benchmarks.machine import describe_machine
from flows.benchmarks.publishing import publish
from flows.benchmarks.showing import show_comparison, show_report, show_trends
from flows.benchmarks.trends import past_of, trends_of
from sim_core.errors import DataError

Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Night:
    """What came of a benchmark by the clock."""

    report: dict[str, Any]
    comparison: Comparison | None
    """With what there was before; None where there was nothing."""


def check_against_history(
    workspace: Path,
    suite: str,
    measure: Measure,
    console: Console,
    *,
    threshold: float,
    baseline: str | None = None,
    tracking: str = "off",
) -> Night:
    """Measure, keep the figures, and hold them against earlier ones of the same machine.

    Args:
        workspace: Folder of everything that is kept.
        suite: What is measured.
        measure: Measures it once.
        console: Where it is told.
        threshold: Worsening from which a significant difference is a regression.
        baseline: Name of a file in `benchmarks/`; None: the newest there are of this machine, together.
        tracking: Where figures are published.

    Raises:
        UserError: there is no such baseline, or it is none of this suite.
    """
    before = _before(workspace, suite, baseline)
    report = measure()
    publish(report, workspace, tracking, console)
    show_report(report, console)
    if before is None:
        console.print("nothing to compare with yet: these are the first figures of this machine")
        return Night(report, None)
    found = compare_reports(before, Report.model_validate(report), threshold=threshold)
    if found.regressions:
        console.print("measured again, since something looks like a regression:")
        again = compare_reports(before, Report.model_validate(measure()), threshold=threshold)
        found = confirmed(found, again)
    show_comparison(found, console)
    _show_tendency(workspace, suite, console)
    return Night(report, found)


def confirmed(first: Comparison, again: Comparison) -> Comparison:
    """Return the first comparison with those regressions alone that are in both."""
    names = {each.name for each in again.regressions}
    passing = [each.name for each in first.regressions if each.name not in names]
    differences = tuple(
        replace(each, is_regression=each.is_regression and each.name in names)
        for each in first.differences
    )
    note = f"not so when measured again, hence no regression: {', '.join(passing)}"
    notes = (*first.notes, note) if passing else first.notes
    return replace(first, differences=differences, notes=notes)


def _before(workspace: Path, suite: str, baseline: str | None) -> Report | None:
    if baseline is None:
        earlier = earlier_reports(workspace, suite, describe_machine())
        return pooled(earlier) if earlier else None
    report = read_report(workspace / FOLDER / f"{baseline.removesuffix('.json')}.json")
    if report.suite != suite:
        raise DataError(f"baseline {baseline}: is of suite {report.suite!r}, not {suite!r}")
    return report


def _show_tendency(workspace: Path, suite: str, console: Console) -> None:
    machine = describe_machine()
    history = [past_of(each) for each in earlier_reports(workspace, suite, machine, 30)]
    show_trends(suite, "this machine", trends_of(history), console)
