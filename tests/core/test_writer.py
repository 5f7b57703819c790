"""The one writer of an experiment: who is ahead waits, what waits is committed together."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import text

from sim_core.errors import OwnershipLost
from sim_core.ledger.store import Claim, Ledger
from sim_core.ledger.verify import verify_run
from sim_core.ledger.writer import LedgerWriter
from sim_core.simulate import Segment, simulate

Order = tuple[Claim, Segment]


@pytest.fixture
def orders(ledger: Ledger, register: Any, make_spec: Any) -> list[Order]:
    """Return the segments of three runs, three of each, in the order in which they come."""
    specs = [make_spec(replicate=number) for number in range(3)]
    register(ledger, *specs)
    claims = ledger.claim(specs)
    return [
        (claim, segment)
        for segments in zip(*(simulate(spec) for spec in specs), strict=True)
        for claim, segment in zip(claims, segments, strict=True)
    ]


def states(ledger: Ledger) -> list[tuple[str, int]]:
    return [(row["state"], row["steps"]) for row in ledger.runs_of("experiment")]


def test_database_that_is_busy_lets_producers_wait_and_they_are_counted(
    open_ledger: Any, ledger: Ledger, orders: list[Order]
):
    with LedgerWriter(ledger, segments=2) as writer:
        with open_ledger().engine.begin() as other:  # holds the database's one write lock
            other.execute(text("UPDATE experiment SET state = 'busy'"))
            producer = threading.Thread(
                target=lambda: [writer.submit(claim, segment) for claim, segment in orders]
            )
            producer.start()
            end = time.monotonic() + 60
            while writer.counts.waited == 0:
                assert time.monotonic() < end
            assert writer.counts.processed == 0
        producer.join()
    assert states(ledger) == [("finished", 12)] * 3
    counts = writer.counts
    assert (counts.processed, counts.failed, counts.dropped) == (9, 0, 0)
    assert counts.waited >= 1
    assert counts.deepest == 2


def test_segments_gather_between_transactions(ledger: Ledger, orders: list[Order]):
    with LedgerWriter(ledger, segments=3, flush_seconds=60) as writer:
        assert writer.submit(*orders[0]).result(30) is None  # the first has nothing to wait for
        for start in (1, 4):
            written = [writer.submit(*orders[start])]
            with pytest.raises(TimeoutError):
                written[0].result(0.2)  # it waits for others
            written += [writer.submit(*order) for order in orders[start + 1 : start + 3]]
            assert [future.result(30) for future in written] == [None] * 3
        rest = [writer.submit(*order) for order in orders[7:]]
        writer.hurry()
        assert [future.result(30) for future in rest] == [None] * 2
    assert (writer.counts.processed, writer.counts.batches) == (9, 4)
    assert states(ledger) == [("finished", 12)] * 3


def test_segments_of_a_run_are_joined(
    open_ledger: Any, ledger: Ledger, register: Any, make_spec: Any
):
    """Rows, blocks, head and summary are those of segments that came alone; one checkpoint."""
    one, other = make_spec(replicate=0), make_spec(replicate=1)
    register(ledger, one, other)
    alone, joined = ledger.claim([one, other])
    segments = list(simulate(one))
    for segment in segments:
        ledger.commit(alone, segment)
    with LedgerWriter(ledger, flush_seconds=60) as writer:
        first, *rest = simulate(other)
        assert writer.submit(joined, first).result(30) is None
        written = [writer.submit(joined, segment) for segment in rest]
        writer.hurry()
        assert [future.result(30) for future in written] == [None] * 2
    assert writer.counts.batches == 2
    rows = {row["run_key"]: row for row in ledger.runs_of("experiment")}
    assert [verify_run(ledger, rows[spec.run_key]) for spec in (one, other)] == [None, None]
    with ledger.reading() as connection:
        kept = connection.execute(text("SELECT run, step FROM checkpointfile ORDER BY run, step"))
        assert [tuple(row) for row in kept] == [(1, 8), (1, 12), (2, 4), (2, 12)]


def test_segments_of_another_owner_are_not_joined(ledger: Ledger, register: Any, make_spec: Any):
    spec = make_spec(replicate=0)
    register(ledger, spec)
    (old,) = ledger.claim([spec])
    (new,) = ledger.claim([spec])
    first, second, _ = simulate(spec)
    with LedgerWriter(ledger, flush_seconds=60) as writer:
        assert writer.submit(new, first).result(30) is None
        late, due = writer.submit(old, second), writer.submit(new, second)
        writer.hurry()
        assert isinstance(late.exception(30), OwnershipLost)
        assert due.result(30) is None


def test_what_is_refused_counts_as_failed(ledger: Ledger, orders: list[Order], make_spec: Any):
    ledger.claim([make_spec(replicate=1)])
    with LedgerWriter(ledger) as writer:
        written = [writer.submit(*order) for order in orders]
        errors = [type(future.exception(60)) for future in written]
    assert errors == [type(None), OwnershipLost, type(None)] * 3
    assert (writer.counts.processed, writer.counts.failed) == (6, 3)
