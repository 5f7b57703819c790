"""What is read from a ledger is the same from either database, and is read in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import select

from sim_core.checkpoint import CheckpointFolder
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.ledger.verify import streamed, verify_run
from sim_core.results import run_records, steps_frame
from sim_core.simulate import RunSpec
from tests.postgres import Postgres, copy_ledger, open_postgres


@pytest.fixture
def both(
    tmp_path: Path,
    open_ledger: Callable[..., Ledger],
    make_spec: Callable[..., RunSpec],
    register: Callable[..., None],
    execute: Callable[..., object],
    postgres: Postgres,
) -> Iterator[tuple[Ledger, Ledger]]:
    """Return a ledger of a finished run and one that has only begun, and its copy in PostgreSQL."""
    ledger = open_ledger()
    finished, begun = make_spec(detail="all"), make_spec(detail="all", replicate=1)
    register(ledger, finished, begun)
    execute(ledger, finished)
    url = postgres.create()
    copy_ledger(tmp_path / "ledger.db", url)
    copy = Ledger(open_postgres(url), CheckpointFolder(tmp_path / "checkpoints"))
    yield ledger, copy
    copy.engine.dispose()


def test_results_are_the_same(both: tuple[Ledger, Ledger]) -> None:
    found = [run_records(ledger, "experiment", ["a", "b"], [{}, {}]) for ledger in both]
    assert found[0] == found[1]
    assert [record.state for record in found[0]] == ["finished", "planned"]
    assert_frame_equal(*(steps_frame(ledger, found[0]) for ledger in both))


def test_chains_recompute(both: tuple[Ledger, Ledger]) -> None:
    for ledger in both:
        assert [verify_run(ledger, run) for run in ledger.runs_of("experiment")] == [None, None]


def test_break_in_the_middle_leaves_no_cursor_open(both: tuple[Ledger, Ledger]) -> None:
    """Rows behind the break are never asked for; psycopg would warn of a cursor left open."""
    _, copy = both
    metrics = ENTRY_TABLES["metrics"]
    with copy.engine.begin() as connection:
        connection.execute(metrics.update().where(metrics.c.step == 3).values(tp=99))
    [run, _] = copy.runs_of("experiment")
    for _ in range(20):  # more than the pool has connections
        found = verify_run(copy, run)
        assert found is not None
        assert (found.step, found.entry) == (3, "metrics")


def test_rows_stay_with_the_server_until_they_are_wanted(both: tuple[Ledger, Ledger]) -> None:
    alerts = ENTRY_TABLES["alert"]
    for ledger in both:
        with ledger.reading() as connection, streamed(connection, select(alerts), 2) as rows:
            assert len(next(rows.partitions())) == 2
            if ledger is both[1]:
                assert isinstance(rows.cursor, psycopg.ServerCursor)
            assert sum(map(len, rows.partitions())) > 2
