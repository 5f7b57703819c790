"""Reading what many rows say: all of them in batches, or the most active sources of alerts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, func, literal, select, tuple_

from sim_core.errors import UserError
from sim_core.ledger.statements import RUNS_AT_ONCE
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import kept_kinds
from sim_core.ledger.tables import ENTRY_TABLES, RUNS

ROWS_AT_ONCE = 10_000
MOST_SOURCES = 100
FEWEST_ALERTS = 10
IDENTITY = (RUNS.c.id, RUNS.c.epoch, RUNS.c.steps, RUNS.c.head, RUNS.c.detail)
"""What tells the rows of a run from any others that it has had: they change in the transaction that
changes one of these, and a run that starts again has a higher epoch. Of a finished run they stay."""


def stream_entries(
    ledger: Ledger,
    run: int,
    kind: str,
    *,
    after: tuple[int, ...] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a run in the order of their keys, in batches that bound memory.

    Every batch is a query of its own that begins after the last key, so that reading goes on where
    it was, holds no transaction open, and sees rows that are committed meanwhile.

    Args:
        ledger: The ledger.
        run: The run's number.
        kind: One of `blocks.KINDS`.
        after: Key (step, ...) of the last row that is known already.
        rows_at_once: Rows of a batch.
    """
    return stream_rows(ledger, run, ENTRY_TABLES[kind], after=after, rows_at_once=rows_at_once)


def stream_rows(
    ledger: Ledger,
    run: int,
    table: Table,
    *,
    after: tuple[int, ...] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows that a table has of a run, see `stream_entries`."""
    keys = [column for column in table.primary_key if column.name != "run"]
    places = [table.columns.keys().index(column.name) for column in keys]
    while True:
        statement = select(table).where(table.c.run == run).order_by(*keys).limit(rows_at_once)
        if after is not None:
            statement = statement.where(tuple_(*keys) > tuple_(*map(literal, after)))
        with ledger.reading(may_lag=True) as connection:
            rows = [tuple(row) for row in connection.execute(statement)]
        if rows:
            yield rows
        if len(rows) < rows_at_once:
            return
        after = tuple(rows[-1][place] for place in places)


class Source(NamedTuple):
    """What came from one source address and was flagged."""

    address: str
    alerts: int
    total_bytes: int
    mean_score: float
    last_step: int


def top_sources(
    ledger: Ledger,
    run_key: str,
    *,
    first_step: int = 0,
    last_step: int | None = None,
    at_least: int = FEWEST_ALERTS,
    most: int = MOST_SOURCES,
) -> list[Source]:
    """Return the sources with the most alerts within steps of a run, at most 100 of them.

    Args:
        ledger: The ledger.
        run_key: The run.
        first_step: First step of the window.
        last_step: Last step of the window; None: the run's last.
        at_least: Alerts that a source has to have.
        most: Sources that are returned.

    Raises:
        UserError: there is no such run, or it keeps no alerts.
    """
    with ledger.reading(may_lag=True) as connection:
        run = run_with_alerts(connection, run_key)
        return find_sources(connection, run.id, first_step, last_step, at_least, most)


def run_with_alerts(connection: Connection, run_key: str) -> Row[Any]:
    """Return the identity of a run that keeps its alerts.

    Raises:
        UserError: there is no such run, or it keeps no alerts.
    """
    run = connection.execute(select(*IDENTITY).where(RUNS.c.run_key == run_key)).one_or_none()
    if run is None:
        raise UserError(f"no run {run_key[:12]} in this ledger")
    if "alert" not in kept_kinds(run_key, run.detail):
        raise UserError(
            f"run {run_key[:12]} keeps no alerts (its detail is {run.detail}): run the "
            "experiment again with ledger.detail=alerts; the heads stay the same"
        )
    return run


def find_sources(
    connection: Connection,
    run: int,
    first_step: int,
    last_step: int | None,
    at_least: int,
    most: int,
) -> list[Source]:
    """Return the sources with the most alerts of the run of this number, see `top_sources`."""
    alert, count = ENTRY_TABLES["alert"].c, func.count()
    window = [alert.run == run, alert.step >= first_step]
    if last_step is not None:
        window.append(alert.step <= last_step)
    rows = connection.execute(
        select(
            alert.source_ip,
            count,
            func.sum(alert.bytes_transferred),
            func.avg(alert.score),
            func.max(alert.step),
        )
        .where(*window)
        .group_by(alert.source_ip)
        .having(count >= at_least)
        .order_by(count.desc(), alert.source_ip)
        .limit(min(most, MOST_SOURCES))
    )
    return [
        Source(str(IPv4Address(address)), alerts, int(total), float(mean), last)
        for address, alerts, total, mean, last in rows
    ]


def identities(connection: Connection, runs: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Return what tells the rows of each of these runs from others, see `IDENTITY`."""
    found: dict[int, tuple[Any, ...]] = {}
    for start in range(0, len(runs), RUNS_AT_ONCE):
        part = runs[start : start + RUNS_AT_ONCE]
        rows = connection.execute(select(*IDENTITY).where(RUNS.c.id.in_(part)))
        found |= {row.id: tuple(row) for row in rows}
    return found
