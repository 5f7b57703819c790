"""What nobody needs of a ledger, and the end of an experiment.

A finished run may go on to a longer horizon: from its last checkpoint, which stays, and so does the
one that a shorter horizon without a summary begins at. Whoever owned a run whose rows are erased
can write nothing any more, as its epoch is raised; that is why the run's own row stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Select, cast, delete, func, select, update

from sim_core.ledger.statements import RUNS_AT_ONCE, count_rows
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import (
    BLOCKS,
    CHECKPOINTS,
    ENTRY_TABLES,
    EXPERIMENT_RUNS,
    EXPERIMENTS,
    RUNS,
    SUMMARIES,
)

ROWS_OF_A_RUN = (*ENTRY_TABLES.values(), BLOCKS, SUMMARIES, CHECKPOINTS)
UNTOUCHED: dict[str, Any] = {
    "state": "planned",
    "steps": 0,
    "head": None,
    "claimed_at": None,
    "wall_seconds": 0.0,
    "cpu_seconds": 0.0,
    "peak_rss_mb": 0.0,
    "error": None,
    "tries": 0,
}
"""A run's row as when it was planned, but for its epoch."""


@dataclass(frozen=True)
class Spare:
    """A checkpoint that nothing goes on from."""

    run: int
    step: int
    name: str
    n_bytes: int


@dataclass(frozen=True)
class Holding:
    """What the ledger holds for one experiment alone."""

    runs: tuple[int, ...]
    """Runs that no other experiment uses."""
    shared: int
    """Runs that another one uses too, which stay."""
    rows: int
    """Entries and blocks of `runs`."""
    checkpoints: int
    checkpoint_bytes: int
    published: int
    """Runs that are in MLflow."""


def spare_checkpoints(ledger: Ledger, keep: int) -> list[Spare]:
    """Return the checkpoints of finished runs beyond the last `keep` that no horizon begins at."""
    table = CHECKPOINTS.c
    stored = (
        select(table.run, table.step, table.name, table.n_bytes)
        .join(RUNS, RUNS.c.id == table.run)
        .where(RUNS.c.state == "finished")
        .order_by(table.run, table.step.desc())
    )
    waiting = (
        select(EXPERIMENT_RUNS.c.run, EXPERIMENT_RUNS.c.horizon)
        .outerjoin(
            SUMMARIES,
            (SUMMARIES.c.run == EXPERIMENT_RUNS.c.run)
            & (SUMMARIES.c.horizon == EXPERIMENT_RUNS.c.horizon),
        )
        .where(SUMMARIES.c.run.is_(None))
    )
    by_run: dict[int, list[Spare]] = defaultdict(list)
    horizons: dict[int, list[int]] = defaultdict(list)
    with ledger.reading() as connection:
        for row in connection.execute(stored):
            by_run[row.run].append(Spare(*row))
        for run, horizon in connection.execute(waiting):
            horizons[run].append(horizon)
    return [
        spare
        for run, found in by_run.items()
        for spare in found[keep:]
        if spare.step not in _begun_at(found, horizons[run])
    ]


def _begun_at(newest_first: Sequence[Spare], horizons: Sequence[int]) -> set[int]:
    """Return the steps at which runs to these horizons would go on."""
    firsts = (next((s.step for s in newest_first if s.step <= h), None) for h in horizons)
    return {step for step in firsts if step is not None}


def drop_checkpoints(ledger: Ledger, spares: Sequence[Spare]) -> list[Spare]:
    """Strike out checkpoints of runs that nobody has claimed meanwhile; return those struck out.

    Their files are the caller's to remove, afterwards: a row never lacks its file.
    """

    def write(connection: Connection) -> list[Spare]:
        dropped = []
        for spare in spares:
            free = select(RUNS.c.id).where(RUNS.c.id == spare.run, RUNS.c.state == "finished")
            statement = delete(CHECKPOINTS).where(
                CHECKPOINTS.c.run.in_(free), CHECKPOINTS.c.step == spare.step
            )
            if connection.execute(statement.where(CHECKPOINTS.c.name == spare.name)).rowcount:
                dropped.append(spare)
        return dropped

    return ledger.write(write) if spares else []


def unused_runs(ledger: Ledger) -> tuple[list[int], int]:
    """Return runs with rows that no experiment uses, and how many rows those are.

    A driver leaves them whose experiment was deleted before it claimed them.
    """
    used = select(EXPERIMENT_RUNS.c.run)
    with ledger.reading() as connection:
        found = connection.execute(
            select(RUNS.c.id).where(RUNS.c.id.not_in(used), RUNS.c.steps > 0)
        )
        runs = list(found.scalars())
        return runs, sum(count_rows(connection, runs).values())


def erase_unused(ledger: Ledger, runs: Sequence[int]) -> list[str]:
    """Erase the rows of those runs that still nobody uses; return the files of their checkpoints."""

    def write(connection: Connection) -> list[str]:
        used = set(connection.execute(select(EXPERIMENT_RUNS.c.run)).scalars())
        return _erase(connection, [run for run in runs if run not in used])

    return ledger.write(write)


def holding(ledger: Ledger, name: str) -> Holding:
    """Return what the ledger holds for an experiment."""
    uses = select(func.count(), func.sum(cast(EXPERIMENT_RUNS.c.published, Integer)))
    with ledger.reading() as connection:
        own = list(connection.execute(_own_runs(name)).scalars())
        n_uses, published = connection.execute(
            uses.where(EXPERIMENT_RUNS.c.experiment == name)
        ).one()
        sizes = select(func.count(), func.coalesce(func.sum(CHECKPOINTS.c.n_bytes), 0))
        files, n_bytes = connection.execute(
            sizes.where(CHECKPOINTS.c.run.in_(_own_runs(name)))
        ).one()
        rows = sum(count_rows(connection, own).values())
    return Holding(tuple(own), n_uses - len(own), rows, files, int(n_bytes), int(published or 0))


def disown(ledger: Ledger, name: str) -> None:
    """Refuse all writes, from now on, of who works on runs that an experiment has for itself."""

    def write(connection: Connection) -> None:
        _raise_epochs(connection, _locked(connection, _own_runs(name)))

    ledger.write(write)


def delete_experiment(ledger: Ledger, name: str) -> list[str]:
    """Delete an experiment and the rows of its own runs; return the files of their checkpoints.

    Runs that another experiment uses too stay as they are.
    """

    def write(connection: Connection) -> list[str]:
        own = _locked(connection, _own_runs(name))
        connection.execute(delete(EXPERIMENT_RUNS).where(EXPERIMENT_RUNS.c.experiment == name))
        connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.name == name))
        return _erase(connection, own)

    return ledger.write(write)


def _own_runs(name: str) -> Select[tuple[int]]:
    others = select(EXPERIMENT_RUNS.c.run).where(EXPERIMENT_RUNS.c.experiment != name)
    mine = select(EXPERIMENT_RUNS.c.run).where(EXPERIMENT_RUNS.c.experiment == name)
    return select(RUNS.c.id).where(RUNS.c.id.in_(mine), RUNS.c.id.not_in(others))


def _locked(connection: Connection, runs: Select[tuple[int]]) -> list[int]:
    """Return runs that nobody else changes before the transaction ends."""
    return list(connection.execute(runs.order_by(RUNS.c.id).with_for_update()).scalars())


def _raise_epochs(connection: Connection, runs: Sequence[int]) -> None:
    for part in _parts(runs):
        connection.execute(update(RUNS).where(RUNS.c.id.in_(part)).values(epoch=RUNS.c.epoch + 1))


def _erase(connection: Connection, runs: Sequence[int]) -> list[str]:
    """Drop the rows of runs and whoever owns them; return the files of their checkpoints."""
    names: list[str] = []
    _raise_epochs(connection, runs)
    for part in _parts(runs):
        files = select(CHECKPOINTS.c.name).where(CHECKPOINTS.c.run.in_(part))
        names += connection.execute(files).scalars()
        for table in ROWS_OF_A_RUN:
            connection.execute(delete(table).where(table.c.run.in_(part)))
        connection.execute(update(RUNS).where(RUNS.c.id.in_(part)).values(**UNTOUCHED))
    return names


def _parts(runs: Sequence[int]) -> list[Sequence[int]]:
    return [runs[start : start + RUNS_AT_ONCE] for start in range(0, len(runs), RUNS_AT_ONCE)]
