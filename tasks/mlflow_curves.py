"""Points of curves, written straight into the workspace's own MLflow database.

MLflow makes some objects of each point and looks each up; of 1,000 runs with 600 points each that
takes two minutes. Here they are rows. What MLflow then has is what its own `log_batch` would have
written, and where its tables have other columns than these, that is what writes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

COLUMNS = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}
BUSY_SECONDS = 60.0
"""How long to wait for somebody else who writes."""
ADD_POINT = """
    INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)
    ON CONFLICT DO NOTHING"""
ADD_LATEST = """
    INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
    VALUES (?, ?, ?, ?, 0, ?)
    ON CONFLICT (key, run_uuid) DO UPDATE
    SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
    WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)"""


class Point(NamedTuple):
    """A defined value of a curve at one step."""

    key: str
    value: float
    timestamp: int
    step: int


class CurveTable:
    """The tables of metrics in one MLflow database."""

    def __init__(self, path: Path) -> None:
        """Use the database in a file, see `fits`."""
        self._path = path

    def fits(self) -> bool:
        """Return whether both tables have the columns that are written, and no others."""
        with closing(sqlite3.connect(self._path)) as database:
            found = [
                {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
                for table in ("metrics", "latest_metrics")
            ]
        return found == [COLUMNS, COLUMNS]

    def add(self, run: str, points: Iterable[Point]) -> None:
        """Add points of a run in one transaction; those that are there stay as they are.

        Raises:
            sqlite3.Error: the database does not write.
        """
        rows = [(*point, run) for point in points]
        latest = {row[0]: row for row in sorted(rows, key=lambda row: (row[3], row[2], row[1]))}
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
            database.executemany(ADD_POINT, rows)
            database.executemany(ADD_LATEST, latest.values())
