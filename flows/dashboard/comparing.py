"""Points compared with a baseline, as the dashboard shows it: the figures of `quorumlab compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from flows.compare import as_csv, merged, read_compared, weigh
from flows.report import spots_of
from sim_core.comparison.report import Report
from sim_core.comparison.telling import FIGURES, explanations, in_short, others
from sim_core.comparison.verdicts import Comparison
from sim_core.comparison.wording import plain
from sim_core.errors import UserError
from sim_core.ledger.store import Ledger
from sim_core.results import metric_names
from tasks.plots.factors import Spot, factors_of

MOST_EXPERIMENTS = 10
MOST_RUNS = 20_000
"""That a page reads the results of; `quorumlab compare` has no such limit."""
MOST_LEVELS = 24


@dataclass(frozen=True)
class Compared:
    """What a page of comparisons shows."""

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    """All that any run has."""
    report: Report | None
    """None where there is one point only."""
    spots: tuple[Spot, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    csv: str


def compare(
    ledger: Ledger,
    names: Sequence[str],
    baseline: str | None,
    *,
    alpha: float | None = None,
    smallest_effect: str = "",
    across_versions: bool = False,
) -> Compared:
    """Return how points of experiments differ from a baseline.

    Raises:
        UserError: an experiment or point is not there, versions of the model differ, or no run has
            ended yet.
    """
    experiments = [read_compared(ledger, name) for name in dict.fromkeys(names)]
    labels, records = merged(experiments)
    if len(records) > MOST_RUNS:
        raise UserError(
            f"{len(records):,} runs are more than a page compares ({MOST_RUNS:,}): quorumlab compare "
            f"{' '.join(names)} --html FILE does it"
        )
    if not any(record.state == "finished" for record in records):
        raise UserError("no run has a result yet: there is nothing to compare before one has ended")
    report, notes = weigh(
        experiments,
        baseline=baseline if baseline in labels else None,
        alpha=alpha,
        smallest_effect=[smallest_effect] if smallest_effect else [],
        across_versions=across_versions,
    )
    found = report if len(labels) > 1 else None
    return Compared(
        tuple(labels),
        tuple(metric_names(records)),
        found,
        tuple(spots_of(labels, records)),
        _sentences(report),
        (*(explanations(report) if found else ()), *notes, *map(str, report.left_out[:10])),
        as_csv(report),
    )


def _sentences(report: Report) -> tuple[str, ...]:
    shown = [comparison.sentence for comparison in report.findings]
    return (*shown, *others(report.comparisons))


def comparison_table(report: Report, metric: str) -> pd.DataFrame:
    """Return a row per point: means, difference with interval, effect size, p, verdict."""
    rows = [
        {"point": c.point, **{name: figure(c) for name, figure in FIGURES.items()}, **_verdict(c)}
        for c in report.comparisons
        if c.metric == metric
    ]
    return pd.DataFrame(rows)


def _verdict(comparison: Comparison) -> dict[str, str]:
    return {"verdict": in_short(comparison)}


@dataclass(frozen=True)
class Map:
    """A metric over two factors."""

    down: str
    across: str
    table: pd.DataFrame
    """Means: rows are levels of `down`, columns those of `across`; NaN where there is none."""


def two_factors(spots: Sequence[Spot], metric: str) -> Map | str:
    """Return a metric over the two factors that vary, or why there is no such map."""
    factors = factors_of(spots)
    if len(factors) != 2:
        names = ", ".join(factor.name for factor in factors) or "none"
        return f"A map needs exactly two factors that vary. Here: {names}."
    down, across = sorted(factors, key=lambda factor: len(factor.levels))
    if len(across.levels) > MOST_LEVELS:
        return (
            f"{across.name} has {len(across.levels)} values: more than {MOST_LEVELS} make no map."
        )
    if all(spot.mean(metric) is None for spot in spots):
        return f"{metric} is undefined at all points."
    cells: dict[tuple[str, str], float | None] = {}
    for spot, low, high in zip(spots, down.values, across.values, strict=True):
        place = down.word(low), across.word(high)
        if place in cells:
            return f"The values of {down.name} and {across.name} form no grid."
        cells[place] = spot.mean(metric)
    rows = [down.word(level) for level in down.levels]
    columns = [across.word(level) for level in across.levels]
    table = pd.DataFrame(
        [[cells.get((row, column)) for column in columns] for row in rows],
        index=pd.Index(rows, name=down.name),
        columns=columns,
        dtype="float64",
    )
    return Map(down.name, across.name, table)


def point_table(spots: Sequence[Spot], metric: str) -> pd.DataFrame:
    """Return a row per point: n, mean, and 95 % interval."""
    rows = []
    for spot in spots:
        found = spot.intervals.get(metric)
        known = found is not None and found.mean is not None
        rows.append(
            {
                "point": spot.label,
                "n": 0 if found is None else found.n,
                "mean": plain(found.mean) if known and found is not None else "-",
                "95 % interval": "-"
                if found is None or found.ci_low is None
                else f"{plain(found.ci_low)} to {plain(found.ci_high)}",
            }
        )
    return pd.DataFrame(rows)
