"""Figures of earlier benchmarks, as a workspace keeps them: a file each in `benchmarks/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.benchmarks.files import Report, Row, read_report, write_report
from flows.benchmarks.machine import machine_id
from sim_core.errors import DataError

FOLDER = "benchmarks"
MOST_REPORTS = 10
"""Earlier figures that new ones are held against."""


def keep_report(report: Mapping[str, Any], workspace: Path) -> Path:
    """Write a report into the workspace, beside all earlier ones; return its file."""
    at = datetime.fromisoformat(report["at"]).astimezone(UTC).strftime("%Y%m%d-%H%M%S")
    path = workspace / FOLDER / f"{report['suite']}-{at}.json"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{report['suite']}-{at}_{number}.json")
    write_report(report, path)
    return path


def earlier_reports(
    workspace: Path, suite: str, machine: Mapping[str, Any] | None = None, most: int = MOST_REPORTS
) -> list[Report]:
    """Return the newest reports of a suite on a machine, the oldest of them first.

    A file that is damaged, or that somebody else has put there, is none of them; nor are figures of
    several processes that measured at once.

    Args:
        workspace: Folder of everything that is kept.
        suite: Which suite.
        machine: Where they were measured; None: on any machine.
        most: How many at most.
    """
    found: list[Report] = []
    for path in sorted((workspace / FOLDER).glob(f"{suite}-*.json"), reverse=True):
        try:
            report = read_report(path)
        except DataError:
            continue
        is_same = machine is None or machine_id(report.machine) == machine_id(machine)
        alone = report.settings.get("workers", 1) == 1  # beside others everything takes longer
        if report.suite == suite and is_same and alone:
            found.append(report)
        if len(found) == most:
            break
    return found[::-1]


def pooled(reports: Sequence[Report]) -> Report:
    """Return one report with the samples of several, which is what varies from day to day too.

    Raises:
        DataError: there are none.
    """
    if not reports:
        raise DataError("no earlier figures")
    newest = reports[-1]
    rows: dict[str, list[Row]] = {}
    for report in reports:
        for row in report.results:
            rows.setdefault(row.name, []).append(row)
    results = tuple(_one(of_name) for of_name in rows.values())
    return newest.model_copy(update={"results": results})


def _one(rows: Sequence[Row]) -> Row:
    alike = [row for row in rows if row.unit == rows[-1].unit]
    others = dict.fromkeys(other for row in alike for other in row.ratio_samples)
    ratios = {
        other: tuple(x for row in alike for x in row.ratio_samples.get(other, ()))
        for other in others
    }
    samples = tuple(x for row in alike for x in row.samples)
    pace = tuple(x for row in alike for x in row.pace_ms)
    update = {"samples": samples, "pace_ms": pace, "ratio_samples": ratios}
    return rows[-1].model_copy(update=update)
