"""Reading what many rows say: all of them in batches, or the most active sources of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from sqlalchemy import func, select, tuple_

from sim_core.errors import UserError
from sim_core.ledger.blocks import KEPT
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES, RUNS

ROWS_AT_ONCE = 10_000
MOST_SOURCES = 100
FEWEST_ALERTS = 10


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
    table = ENTRY_TABLES[kind]
    keys = [column for column in table.primary_key if column.name != "run"]
    places = [table.columns.keys().index(column.name) for column in keys]
    while True:
        statement = select(table).where(table.c.run == run).order_by(*keys).limit(rows_at_once)
        if after is not None:
            statement = statement.where(tuple_(*keys) > tuple_(*after))
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
    alert = ENTRY_TABLES["alert"].c
    with ledger.reading(may_lag=True) as connection:
        run = connection.execute(
            select(RUNS.c.id, RUNS.c.detail).where(RUNS.c.run_key == run_key)
        ).one_or_none()
        if run is None:
            raise UserError(f"no run {run_key[:12]} in this ledger")
        if "alert" not in KEPT[run.detail]:
            raise UserError(
                f"run {run_key[:12]} keeps no alerts (its detail is {run.detail}): run the "
                "experiment again with ledger.detail=alerts; the heads stay the same"
            )
        window = [alert.run == run.id, alert.step >= first_step]
        if last_step is not None:
            window.append(alert.step <= last_step)
        count = func.count()
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
