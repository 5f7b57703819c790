"""What an experiment found: records and tables, read from the ledger alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select

from sim_core.config import CostConfig
from sim_core.ledger.blocks import METRIC_VALUES
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.metrics import Metrics

if TYPE_CHECKING:
    import pandas as pd

MAIN_METRICS = (
    "f1",
    "precision",
    "recall",
    "auroc",
    "detection_delay_steps",
    "immunity_share",
    "true_confirmations",
    "false_confirmations",
    "benign_blocked_share",
    "messages_sent",
)
"""What tables for people show."""
CONFIDENCE = 0.95
RESOURCE_METRICS = ("steps_per_minute", "peak_rss_mb", "cpu_seconds", "wall_seconds")


@dataclass(frozen=True)
class Execution:
    """What this invocation did for a run; a run without one was reused."""

    resumed_from_step: int = 0
    steps_executed: int = 0
    """Since the run was started or resumed last."""
    steps_shared: int = 0
    """Taken over from a run with the same history, and not simulated again."""
    is_over: bool = False

    def advanced(self, steps: int, *, is_over: bool, shared: bool = False) -> Execution:
        """Return what holds after another segment."""
        executed, taken = (0, steps) if shared else (steps, 0)
        return replace(
            self,
            steps_executed=self.steps_executed + executed,
            steps_shared=self.steps_shared + taken,
            is_over=is_over,
        )


@dataclass(frozen=True)
class RunRecord:
    """One run of an experiment, as summary.json has it."""

    run_id: str
    number: int
    """Key of the run's rows in the database."""
    point_index: int
    label: str
    point: dict[str, Any]
    replicate: int
    seed: int
    state: str
    steps: int
    steps_executed: int
    resumed_from_step: int
    horizon: int
    ledger_head: str | None
    ledger_rows: int
    metrics: Metrics
    wall_seconds: float
    claimed_at: float
    config: dict[str, Any] = field(repr=False)
    mlflow_run_id: str | None = None
    published: bool = False
    error: str | None = None
    steps_shared: int = 0


@dataclass(frozen=True)
class Interval:
    """A mean over runs with its t interval; each has its own n, because values may be undefined."""

    n: int
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    sd: float | None


def run_records(
    ledger: Ledger,
    name: str,
    labels: Sequence[str],
    values: Sequence[Mapping[str, Any]],
    cost: CostConfig | None = None,
    executions: Mapping[str, Execution] | None = None,
) -> list[RunRecord]:
    """Return the runs of an experiment in order of point and replicate."""
    rows = ledger.runs_of(name)
    counts = ledger.row_counts([row["id"] for row in rows])
    done = executions or {}
    return [
        _record(
            row,
            counts.get(row["id"], 0),
            labels,
            values,
            cost,
            done.get(row["run_key"]),
        )
        for row in rows
    ]


def _record(
    row: Mapping[str, Any],
    n_rows: int,
    labels: Sequence[str],
    values: Sequence[Mapping[str, Any]],
    cost: CostConfig | None,
    execution: Execution | None,
) -> RunRecord:
    finished = row["summary"] is not None
    state = row["state"]
    if finished and state != "quarantined":
        state = "finished"
    metrics = dict(row["summary"] or {})
    if finished:
        metrics |= _cost(metrics, cost) | {
            "steps_per_minute": row["steps"] * 60 / row["wall_seconds"]
            if row["wall_seconds"]
            else None,
            "peak_rss_mb": row["peak_rss_mb"],
            "cpu_seconds": row["cpu_seconds"],
            "wall_seconds": row["wall_seconds"],
        }
    executed = execution or Execution()
    return RunRecord(
        run_id=row["run_key"],
        number=row["id"],
        point_index=row["point"],
        label=labels[row["point"]],
        point=dict(values[row["point"]]),
        replicate=row["replicate"],
        seed=row["seed"],
        state=state,
        steps=min(row["steps"], row["horizon"]),
        steps_executed=executed.steps_executed,
        steps_shared=executed.steps_shared,
        resumed_from_step=executed.resumed_from_step,
        horizon=row["horizon"],
        ledger_head=row["summary_head"] or row["head"],
        ledger_rows=n_rows,
        metrics=metrics,
        wall_seconds=row["wall_seconds"],
        claimed_at=row["claimed_at"] or 0.0,
        config=row["config"],
        mlflow_run_id=row["mlflow_run_id"],
        published=row["published"],
        error=row["error"],
    )


def _cost(metrics: Metrics, cost: CostConfig | None) -> Metrics:
    if cost is None or (cost.missed is None and cost.blocked is None):
        return {}
    missed, blocked = metrics["missed"] or 0.0, metrics["benign_blocked"] or 0.0
    return {"cost": missed * (cost.missed or 0.0) + blocked * (cost.blocked or 0.0)}


def interval(values: Sequence[float | None]) -> Interval:
    """Return mean, sd and the 95 % t interval of the values that are defined.

    >>> found = interval([1.0, 2.0, 3.0, None])
    >>> found.n, found.mean, round(found.ci_low, 3)
    (3, 2.0, -0.484)
    """
    known = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
    if known.size == 0:
        return Interval(0, None, None, None, None)
    mean = float(known.mean())
    if known.size == 1:
        return Interval(1, mean, None, None, None)
    from scipy.special import stdtrit  # Student's t without the 60 MB of scipy.stats

    sd = float(known.std(ddof=1))
    quantile = float(stdtrit(known.size - 1, (1 + CONFIDENCE) / 2))
    half = quantile * sd / math.sqrt(known.size)
    return Interval(int(known.size), mean, mean - half, mean + half, sd)


def in_words(found: Interval | None) -> str:
    """Return mean and half width of the interval for a table.

    >>> in_words(Interval(3, 0.5, 0.4, 0.6, 0.05)), in_words(Interval(3, 1200.0, 1100.0, 1300.0, 9.0))
    ('0.500 ± 0.100', '1,200 ± 100')
    """
    if found is None or found.mean is None:
        return "-"
    digits = 3 if abs(found.mean) < 10 else 1 if abs(found.mean) < 1000 else 0
    if found.ci_high is None:
        return f"{found.mean:,.{digits}f}"
    return f"{found.mean:,.{digits}f} ± {found.ci_high - found.mean:,.{digits}f}"


def metric_names(records: Sequence[RunRecord]) -> list[str]:
    """Return the names of all metrics, in the order in which runs give them."""
    return list(dict.fromkeys(name for record in records for name in record.metrics))


def point_intervals(records: Sequence[RunRecord], n_points: int) -> list[dict[str, Interval]]:
    """Return, per point, the interval of each metric over its finished runs."""
    names = metric_names(records)
    points: list[dict[str, Interval]] = []
    for index in range(n_points):
        mine = [r for r in records if r.point_index == index and r.state == "finished"]
        points.append({name: interval([r.metrics.get(name) for r in mine]) for name in names})
    return points


def runs_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return a row per run: identity, the point's values, state, metrics."""
    import pandas as pd

    rows = [
        {
            "run_id": r.run_id,
            "label": r.label,
            **r.point,
            "replicate": r.replicate,
            "state": r.state,
            "steps": r.steps,
            "ledger_head": r.ledger_head,
            "ledger_rows": r.ledger_rows,
            **r.metrics,
            "error": r.error,
        }
        for r in records
    ]
    return pd.DataFrame(rows)


def steps_frame(ledger: Ledger, records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return a row per run and step: all columns of table `metrics`, and the ratios.

    Columns `run_id`, `label` and `replicate` come first; undefined values are NaN.
    """
    import pandas as pd

    table = ENTRY_TABLES["metrics"]
    numbers = [record.number for record in records]
    rows: list[tuple[Any, ...]] = []
    with ledger.reading() as connection:
        for start in range(0, len(numbers), 500):
            found = connection.execute(
                select(table)
                .where(table.c.run.in_(numbers[start : start + 500]))
                .order_by(table.c.run, table.c.step)
            )
            rows += map(tuple, found)  # pandas takes an age over rows of SQLAlchemy
    frame = pd.DataFrame(rows, columns=[column.name for column in table.columns])
    frame = frame.astype(dict.fromkeys(METRIC_VALUES, "float64"))
    who = pd.DataFrame(
        [
            {
                "run": r.number,
                "run_id": r.run_id,
                "label": r.label,
                "replicate": r.replicate,
                "horizon": r.horizon,
            }
            for r in records
        ],
        columns=["run", "run_id", "label", "replicate", "horizon"],
    )
    frame = who.merge(frame, on="run", how="inner")
    frame = frame[frame["step"] < frame["horizon"]].drop(columns=["run", "horizon"])
    return frame.assign(**ratio_columns(frame)).reset_index(drop=True)


def ratio_columns(steps: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return `sim_core.metrics.derived_ratios` of all rows at once; undefined values are NaN."""
    tp, fp, tn, fn = (
        steps[f"honest_{name}"].astype("float64") for name in ("tp", "fp", "tn", "fn")
    )
    scale = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    ratios: dict[str, tuple[Any, Any]] = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn, np.sqrt(scale)),
        "benign_blocked_share": (steps["benign_blocked"].astype("float64"), fp + tn),
    }
    return {name: above / below.where(below != 0) for name, (above, below) in ratios.items()}


class Findings:
    """What an experiment found, all of it. Not a dataclass: Prefect would copy its parts."""

    def __init__(
        self,
        records: list[RunRecord],
        points: list[dict[str, Interval]],
        point_descriptions: list[dict[str, Any]],
        ledger: Ledger,
    ) -> None:
        """Keep runs, intervals per point, what the points are, and where their steps are."""
        self.records = records
        self.points = points
        self.point_descriptions = point_descriptions
        self._ledger = ledger

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Table of all steps of all runs, see `steps_frame`; read when it is asked for first."""
        return steps_frame(self._ledger, self.records)

    @property
    def labels(self) -> list[str]:
        """Labels of the points."""
        return [point["label"] for point in self.point_descriptions]


def collect_findings(
    ledger: Ledger,
    name: str,
    cost: CostConfig | None = None,
    executions: Mapping[str, Execution] | None = None,
) -> Findings:
    """Return what an experiment has found so far."""
    experiment = ledger.experiment(name)
    assert experiment is not None
    descriptions = experiment.points
    labels = [point["label"] for point in descriptions]
    values = [point["values"] for point in descriptions]
    records = run_records(ledger, name, labels, values, cost, executions)
    return Findings(
        records,
        point_intervals(records, len(descriptions)),
        descriptions,
        ledger,
    )
