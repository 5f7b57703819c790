"""Benchmarks of this machine over time, and which of their figures have become worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER = "benchmarks"
MOST_FILES = 500
MORE = 0.10
"""Of the usual median: a change that counts."""
DOUBT = 0.01
"""Probability of such ranks without any change, below which it counts."""
FEWEST_SAMPLES = 5
RATES = ("/s", "/min")
"""Ends of units of which more is better; of all others, such as ms/step, less is."""


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


@dataclass(frozen=True)
class Change:
    """The newest figure of a case beside those before it on the same machine."""

    suite: str
    name: str
    unit: str
    newest: float
    before: float
    """Median over all samples before."""
    change: float
    """As a share; positive is more."""
    p: float | None
    verdict: str
    """slower, faster, no change shown, too few samples"""


def changes(table: pd.DataFrame) -> list[Change]:
    """Return how the newest figures differ from the earlier ones of the same case and machine.

    Worse or better is a change of the median by over 10 % that ranks as different by the
    Mann-Whitney test (Mann & Whitney 1947) with p below 0.01; five samples are needed on each side.
    """
    found = []
    for (suite, name, unit, _), group in table.groupby(
        ["suite", "name", "unit", "machine"], sort=False
    ):
        if len(group) < 2:
            continue
        *before, newest = group.sort_values("at")["samples"]
        earlier = [value for samples in before for value in samples]
        found.append(_change(str(suite), str(name), str(unit), newest, earlier))
    order = {"slower": 0, "faster": 1}
    return sorted(found, key=lambda each: order.get(each.verdict, 2))


def _change(
    suite: str, name: str, unit: str, newest: Sequence[float], before: Sequence[float]
) -> Change:
    now, usual = float(np.median(newest)), float(np.median(before))
    share = now / usual - 1 if usual else 0.0
    if min(len(newest), len(before)) < FEWEST_SAMPLES:
        return Change(suite, name, unit, now, usual, share, None, "too few samples")
    from scipy.stats import mannwhitneyu  # 60 MB, for this page alone

    p = float(mannwhitneyu(newest, before).pvalue)
    if p >= DOUBT or abs(share) <= MORE:
        return Change(suite, name, unit, now, usual, share, p, "no change shown")
    is_rate = unit.endswith(RATES)
    verdict = "faster" if (share > 0) == is_rate else "slower"
    return Change(suite, name, unit, now, usual, share, p, verdict)
