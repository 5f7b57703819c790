"""The tables of a report's page: comparisons in figures, points, and where runs come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim_core.comparison.report import Report
from sim_core.comparison.telling import FIGURES, in_short, parts_of, size_of
from sim_core.comparison.verdicts import Comparison, Verdict
from sim_core.results import MAIN_METRICS, in_words
from tasks.plots.effects import the_surest
from tasks.plots.factors import Spot, factors_of

MOST_ROWS = 100
"""Rows of a table."""
LONG = 15
"""Rows of a table that is seen without being opened."""
MARKS = {
    Verdict.BETTER: ("●", "good"),
    Verdict.WORSE: ("✖", "bad"),
    Verdict.HIGHER: ("▶", "other"),
    Verdict.LOWER: ("◀", "other"),
}
"""What a difference is marked with, as in the pictures, and its mood."""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    cells: tuple[str, ...]
    mood: str = ""


@dataclass(frozen=True)
class TableOfPage:
    """A table, as far as it is shown."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def is_long(self) -> bool:
        """Whether it is folded until somebody opens it."""
        return len(self.rows) > LONG


@dataclass(frozen=True)
class Origin:
    """Where results come from."""

    experiment: str
    seed: int
    model_versions: tuple[str, ...]
    finished: int
    planned: int
    environment: Mapping[str, Any]


def comparisons_of(report: Report) -> list[TableOfPage]:
    """Return what is compared in figures, as the terminal shows it."""
    tables = []
    for part in parts_of(report):
        rows = the_surest(part.rows, MOST_ROWS)
        few = f"the {len(rows)} surest of {len(part.rows)}; all of them: --csv or --json"
        tables.append(
            TableOfPage(
                f"{part.subject} against {report.baseline}",
                (part.first, "n", *FIGURES, "verdict"),
                tuple(_row(comparison, part.first) for comparison in rows),
                few if len(rows) < len(part.rows) else "",
            )
        )
    return tables


def _row(comparison: Comparison, first: str) -> Row:
    figures = [figure(comparison) for figure in FIGURES.values()]
    mood = MARKS[comparison.verdict][1] if comparison.is_finding else ""
    cells = (size_of(comparison), *figures, in_short(comparison))
    return Row(getattr(comparison, first), cells, mood)


def means_of(spots: Sequence[Spot]) -> TableOfPage:
    """Return means with intervals of the first points, where nothing was compared."""
    metrics = [m for m in MAIN_METRICS if any(spot.n(m) for spot in spots)]
    rows = [
        Row(spot.label, tuple(in_words(spot.intervals.get(metric)) for metric in metrics))
        for spot in spots[:MOST_ROWS]
    ]
    return TableOfPage(
        "Mean ± half of the 95 % interval over replicates",
        ("point", *metrics),
        tuple(rows),
        _few(len(rows), len(spots), "runs.parquet"),
    )


def _few(shown: int, there: int, place: str) -> str:
    return f"the first {shown} of {there:,} points; all of them: {place}" if shown < there else ""


def origins_of(origins: Sequence[Origin]) -> TableOfPage:
    """Return which runs, of which model and code, the figures come from."""
    heads = (
        "experiment",
        "runs",
        "seed",
        "model version",
        "commit",
        "quorumlab",
        "Python",
        "numpy",
    )
    rows = []
    for origin in origins:
        packages = origin.environment.get("packages") or {}
        commit = origin.environment.get("git_commit")
        cells = (
            f"{origin.finished} of {origin.planned}",
            str(origin.seed),
            ", ".join(v[:12] for v in origin.model_versions) or "-",
            str(commit)[:12] if commit else "-",
            *(str(found or "-") for found in (
                packages.get("quorumlab"), origin.environment.get("python"), packages.get("numpy")
            )),
        )  # fmt: skip
        rows.append(Row(origin.experiment, cells))
    return TableOfPage("Where it comes from", heads, tuple(rows))


def settings_of(spots: Sequence[Spot]) -> list[TableOfPage]:
    """Return what distinguishes the points from each other by configuration."""
    factors = factors_of(spots)
    if not factors:
        return []
    rows = [
        Row(spot.label, tuple(f.word(f.values[index]) for f in factors))
        for index, spot in enumerate(spots[:MOST_ROWS])
    ]
    note = _few(len(rows), len(spots), "config.yaml")
    return [
        TableOfPage("What the points are", ("point", *(f.name for f in factors)), tuple(rows), note)
    ]
