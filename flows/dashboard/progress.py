"""How far experiments are: counts, throughput, states, curves; every query is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Connection, case, func, select

from sim_core.errors import UserError
from sim_core.ledger.blocks import METRICS
from sim_core.ledger.presence import is_at_work
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES, EXPERIMENT_RUNS, EXPERIMENTS, RUNS, SUMMARIES

FEWEST_POINTS, MOST_POINTS = 100, 10_000
FEWEST_STEPS = 20
"""Of a curve, where runs are too many to read each at every step."""
PAGE = 50
_USES, _METRICS = EXPERIMENT_RUNS.c, ENTRY_TABLES["metrics"]
_DONE = case((RUNS.c.steps < _USES.horizon, RUNS.c.steps), else_=_USES.horizon)
_STATE = case(
    ((RUNS.c.state == "running") & SUMMARIES.c.run.is_not(None), "finished"), else_=RUNS.c.state
)
"""A run that another experiment goes on with is finished for whoever wanted fewer steps."""


@dataclass(frozen=True)
class Progress:
    """How far an experiment is."""

    name: str
    state: str
    runs: dict[str, int]
    """How many are in which state."""
    steps: int
    """That are in the ledger."""
    horizon: int
    """Steps that there will be."""
    node_steps: int
    nodes: int
    """Of all runs that have begun."""
    nodes_up: int | None
    """In the newest step of each; None where no run has a step."""
    pending: int | None
    """Proposals that are voted on, in the newest steps."""
    created_at: float
    updated_at: float

    @property
    def share(self) -> float:
        """What part of it is done."""
        return self.steps / self.horizon if self.horizon else 0.0


def experiment_table(ledger: Ledger) -> pd.DataFrame:
    """Return a row per experiment, the latest first: state, runs, steps done and asked for."""
    summed = (
        select(
            _USES.experiment,
            func.count().label("runs"),
            func.sum(_DONE).label("steps"),
            func.sum(_USES.horizon).label("horizon"),
        )
        .join(RUNS, RUNS.c.id == _USES.run)
        .group_by(_USES.experiment)
        .subquery()
    )
    wanted = select(
        EXPERIMENTS.c.name,
        EXPERIMENTS.c.state,
        summed.c.runs,
        summed.c.steps,
        summed.c.horizon,
        EXPERIMENTS.c.updated_at,
    ).outerjoin(summed, summed.c.experiment == EXPERIMENTS.c.name)
    with ledger.reading() as connection:
        rows = connection.execute(wanted.order_by(EXPERIMENTS.c.updated_at.desc())).all()
    found = [
        {
            "experiment": row.name,
            "state": told_state(ledger, row.name, row.state),
            "runs": int(row.runs or 0),
            "steps": int(row.steps or 0),
            "of": int(row.horizon or 0),
            "updated": pd.Timestamp(row.updated_at, unit="s", tz="UTC"),
        }
        for row in rows
    ]
    return pd.DataFrame(found, columns=["experiment", "state", "runs", "steps", "of", "updated"])


def told_state(ledger: Ledger, name: str, state: str) -> str:
    """Return the state of an experiment: `abandoned` where whoever ran it is gone."""
    try:
        is_left = state == "running" and not is_at_work(ledger.engine, name)
    except OSError:  # a workspace that cannot be written holds no locks either
        return f"{state} (whether anybody is at work on it cannot be seen)"
    return "abandoned" if is_left else state


def progress_of(ledger: Ledger, name: str) -> Progress:
    """Return how far an experiment is.

    Raises:
        UserError: there is none of this name.
    """
    with ledger.reading() as connection:
        columns = (EXPERIMENTS.c.state, EXPERIMENTS.c.created_at, EXPERIMENTS.c.updated_at)
        head = connection.execute(select(*columns).where(EXPERIMENTS.c.name == name)).one_or_none()
        if head is None:
            raise UserError(f"no experiment {name!r} in this workspace")
        counted = select(
            _STATE.label("state"),
            func.count().label("n"),
            func.sum(_DONE).label("steps"),
            func.sum(_USES.horizon).label("horizon"),
            func.sum(_DONE * RUNS.c.n_nodes).label("node_steps"),
        )
        rows = connection.execute(_of_experiment(counted, name).group_by(_STATE)).all()
        nodes, up, pending = _newest(connection, name)
    return Progress(
        name,
        told_state(ledger, name, head.state),
        {row.state: int(row.n) for row in rows},
        sum(int(row.steps) for row in rows),
        sum(int(row.horizon) for row in rows),
        sum(int(row.node_steps) for row in rows),
        nodes,
        up,
        pending,
        head.created_at,
        head.updated_at,
    )


def _of_experiment(statement: Any, name: str) -> Any:
    """Return a query of runs, with the summaries that an experiment asks for, as its own alone."""
    summary = (SUMMARIES.c.run == RUNS.c.id) & (SUMMARIES.c.horizon == _USES.horizon)
    joined = statement.select_from(EXPERIMENT_RUNS).join(RUNS, RUNS.c.id == _USES.run)
    return joined.outerjoin(SUMMARIES, summary).where(_USES.experiment == name)


def _newest(connection: Connection, name: str) -> tuple[int, int | None, int | None]:
    """Return nodes, those that are up, and pending proposals, of the newest step of each run."""
    metric = _METRICS.c
    row = connection.execute(
        select(func.sum(RUNS.c.n_nodes), func.sum(metric.nodes_up), func.sum(metric.pending))
        .select_from(EXPERIMENT_RUNS)
        .join(RUNS, RUNS.c.id == _USES.run)
        .join(_METRICS, (metric.run == RUNS.c.id) & (metric.step == _DONE - 1))
        .where(_USES.experiment == name)
    ).one()
    nodes, up, pending = (None if value is None else int(value) for value in row)
    return nodes or 0, up, pending


def run_table(ledger: Ledger, name: str, *, state: str = "", page: int = 0) -> pd.DataFrame:
    """Return a page of an experiment's runs: 50 of them, with the labels of their points."""
    wanted = select(
        RUNS.c.run_key,
        _USES.point,
        _USES.replicate,
        _STATE.label("state"),
        _DONE.label("steps"),
        _USES.horizon,
        RUNS.c.wall_seconds,
        RUNS.c.error,
    )
    wanted = _of_experiment(wanted, name)
    if state:
        wanted = wanted.where(_STATE.in_([state]))
    ordered = wanted.order_by(_USES.point, _USES.replicate).limit(PAGE).offset(page * PAGE)
    labels = labels_of(ledger, name)
    with ledger.reading() as connection:
        rows = connection.execute(ordered).all()
    found = [
        {
            "run": row.run_key[:12],
            "point": labels[row.point] if row.point < len(labels) else str(row.point),
            "replicate": row.replicate,
            "state": row.state,
            "steps": row.steps,
            "of": row.horizon,
            "steps per minute": round(row.steps * 60 / row.wall_seconds)
            if row.wall_seconds
            else None,
            "why": row.error or "",
        }
        for row in rows
    ]
    return pd.DataFrame(found)


def labels_of(ledger: Ledger, name: str) -> list[str]:
    """Return the labels of an experiment's points, in order."""
    wanted = select(EXPERIMENTS.c.points).where(EXPERIMENTS.c.name == name)
    with ledger.reading() as connection:
        points = connection.execute(wanted).scalar_one_or_none()
    return [str(point["label"]) for point in points or []]


@dataclass(frozen=True)
class Curves:
    """Metrics over steps."""

    table: pd.DataFrame
    """label, step, n (runs), and a column of means per metric."""
    runs: int
    """That were read."""
    all_runs: int
    every: int
    """Steps between two that were read."""


def curves(ledger: Ledger, name: str, metrics: Sequence[str], most_points: int) -> Curves:
    """Return the means of metrics of a step by point, from at most so many rows of the ledger.

    Where an experiment has more, steps are left out, evenly, and then replicates, the last first.

    Raises:
        UserError: one is no metric of a step.
    """
    for metric in metrics:
        if metric not in (METRICS.names or ()):
            raise UserError(f"no metric of a step is called {metric!r}")
    most_points = min(max(most_points, FEWEST_POINTS), MOST_POINTS)
    labels = labels_of(ledger, name)
    with ledger.reading() as connection:
        begun = (
            select(_USES.run, _USES.point, _DONE.label("steps"))
            .join(RUNS, RUNS.c.id == _USES.run)
            .where(_USES.experiment == name, RUNS.c.steps > 0)
            .order_by(_USES.replicate, _USES.point)
        )
        n_runs = connection.execute(select(func.count()).select_from(begun.subquery())).scalar_one()
        rows = connection.execute(begun.limit(max(1, most_points // FEWEST_STEPS))).all()
        longest = max((row.steps for row in rows), default=0)
        every = -(-longest * len(rows) // most_points) if rows else 1
        found = _step_rows(connection, [row.run for row in rows], metrics, longest, every)
    points = {row.run: (labels[row.point], row.steps) for row in rows}
    frame = pd.DataFrame(found, columns=["run", "step", *metrics])
    frame = frame[frame["step"] < frame["run"].map(lambda run: points[run][1])]
    frame["label"] = frame["run"].map(lambda run: points[run][0])
    grouped = frame.groupby(["label", "step"], sort=False)
    table = grouped[list(metrics)].mean().assign(n=grouped.size()).reset_index()
    table = table.sort_values(["label", "step"], ignore_index=True)
    return Curves(table, len(rows), int(n_runs), every)


def _step_rows(
    connection: Connection, runs: Sequence[int], metrics: Sequence[str], longest: int, every: int
) -> list[Any]:
    """Return the rows of every so many steps: looked up one by one, so that no other is read."""
    steps = sorted({*range(0, longest, max(every, 1)), longest - 1}) if longest else []
    columns = [_METRICS.c.run, _METRICS.c.step, *(_METRICS.c[name] for name in metrics)]
    rows: list[Any] = []
    for run in runs:
        for start in range(0, len(steps), 500):
            part = steps[start : start + 500]
            wanted = select(*columns).where(_METRICS.c.run == run, _METRICS.c.step.in_(part))
            rows += [tuple(row) for row in connection.execute(wanted)]
    return rows


def rate_per_minute(looks: Sequence[tuple[float, int]]) -> float | None:
    """Return steps per minute over some looks (seconds, steps), None where that cannot be said.

    >>> rate_per_minute([(0.0, 0), (10.0, 30), (20.0, 60)])
    180.0
    >>> rate_per_minute([(5.0, 10)]) is None
    True
    """
    if len(looks) < 2 or looks[-1][0] <= looks[0][0] or looks[-1][1] < looks[0][1]:
        return None
    return 60 * (looks[-1][1] - looks[0][1]) / (looks[-1][0] - looks[0][0])
