"""Benchmarks of this machine over time, and which of their figures have become worse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.benchmarks.comparing import Comparison, Difference, compare_reports
from flows.benchmarks.history import FOLDER, MOST_REPORTS, earlier_reports, pooled

MOST_FILES = 500
CHANGES = ("suite", "name", "unit", "before", "now", "change", "p", "verdict", "regression")


@dataclass(frozen=True)
class Found:
    """What a folder of benchmark files holds."""

    table: pd.DataFrame
    """suite, name, unit, at, commit, machine, n, median, low, high, samples: a row per case and file."""
    unreadable: tuple[str, ...]


COLUMNS = (
    "suite", "name", "unit", "at", "commit", "machine", "n", "median", "low", "high", "samples",
)  # fmt: skip


def read_benchmarks(folder: Path) -> Found:
    """Return what benchmark files of a workspace hold, the oldest first.

    Args:
        folder: The workspace; files are in its `benchmarks`.
    """
    rows: list[dict[str, Any]] = []
    unreadable = []
    files = sorted((folder / FOLDER).glob("*.json"), key=lambda file: file.stat().st_mtime)
    for file in files[-MOST_FILES:]:
        try:
            rows += _rows(json.loads(file.read_bytes()), file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unreadable.append(f"{file.name}: {type(error).__name__}: {error}")
    return Found(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(unreadable))


def _rows(report: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    machine = report["machine"]
    where = f"{machine.get('processor') or '-'}, {machine.get('cpus') or '-'} processors"
    at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    rows = []
    for result in report["results"]:
        samples = np.array(result["samples"], dtype=np.float64)
        if not samples.size:
            continue
        low, high = np.percentile(samples, [25, 75])
        rows.append(
            {
                "suite": str(report["suite"]),
                "name": str(result["name"]),
                "unit": str(result["unit"]),
                "at": at,
                "commit": str(report.get("commit") or "-")[:10],
                "machine": where,
                "n": int(samples.size),
                "median": float(np.median(samples)),
                "low": float(low),
                "high": float(high),
                "samples": samples.tolist(),
            }
        )
    return rows


def changes(folder: Path) -> pd.DataFrame:
    """Return how the newest figures of each suite differ from those before, of the same machine.

    By the rule of `quorumlab benchmark` (`flows.benchmarks.comparing`); what is worse comes first.
    Columns: suite, name, unit, before, now, change (a share), p (after Holm), verdict, regression.

    Args:
        folder: The workspace.
    """
    rows = []
    for suite in sorted(
        {file.stem.rpartition("-")[0] for file in (folder / FOLDER).glob("*.json")}
    ):
        found = newest_against_earlier(folder, suite)
        rows += [_row(suite, each) for each in found.differences] if found is not None else []
    frame = pd.DataFrame(rows, columns=list(CHANGES))
    order = frame["verdict"].map({"worse": 0, "better": 1}).fillna(2)
    return frame.iloc[order.argsort(kind="stable")]


def newest_against_earlier(folder: Path, suite: str) -> Comparison | None:
    """Return the newest figures of a suite beside the earlier ones; None where there are none."""
    newest = earlier_reports(folder, suite, most=1)
    if not newest:
        return None
    *before, now = earlier_reports(folder, suite, newest[0].machine, MOST_REPORTS + 1)
    return compare_reports(pooled(before), now) if before else None


def _row(suite: str, found: Difference) -> dict[str, Any]:
    return {
        "suite": suite,
        "name": found.name,
        "unit": found.unit,
        "before": found.before,
        "now": found.now,
        "change": None if found.ratio is None else found.ratio - 1,
        "p": found.p_adjusted,
        "verdict": str(found.verdict),
        "regression": found.is_regression,
    }
