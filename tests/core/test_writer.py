"""The one writer of an experiment: who is ahead waits, what waits is committed together."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import text

from sim_core.errors import OwnershipLost
from sim_core.ledger.store import Claim, Ledger
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


def test_segments_that_may_wait_share_a_transaction(ledger: Ledger, orders: list[Order]):
    with LedgerWriter(ledger, segments=3, flush_seconds=60) as writer:
        for start in (0, 3, 6):
            written = [writer.submit(*orders[start])]
            with pytest.raises(TimeoutError):
                written[0].result(0.2)  # it waits for others
            written += [writer.submit(*order) for order in orders[start + 1 : start + 3]]
            assert [future.result(30) for future in written] == [None] * 3
    assert (writer.counts.processed, writer.counts.batches) == (9, 3)
    assert states(ledger) == [("finished", 12)] * 3


def test_what_is_refused_counts_as_failed(ledger: Ledger, orders: list[Order], make_spec: Any):
    ledger.claim([make_spec(replicate=1)])
    with LedgerWriter(ledger) as writer:
        written = [writer.submit(*order) for order in orders]
        errors = [type(future.exception(60)) for future in written]
    assert errors == [type(None), OwnershipLost, type(None)] * 3
    assert (writer.counts.processed, writer.counts.failed) == (6, 3)
