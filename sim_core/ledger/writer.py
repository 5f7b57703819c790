"""Committing the segments of many runs in one thread: all that wait go into one transaction.

Segments of one run that follow each other are joined before: the run advances once, and of its
checkpoints only the last becomes a file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

import numpy as np

from sim_core.bounded_queue import BoundedQueue, QueueCounts
from sim_core.errors import QuorumlabError
from sim_core.ledger.store import Claim, Ledger
from sim_core.simulate import Resources, Segment

MOST_SEGMENTS = 64
"""That wait, and that go into one transaction."""
MOST_BYTES = 256 * 1024 * 1024
"""Of checkpoints that wait."""


class _Order(NamedTuple):
    claim: Claim
    segment: Segment
    written: Future[None]


class LedgerWriter:
    """The one writer of an experiment; those who have segments wait while it is far behind."""

    def __init__(
        self, ledger: Ledger, *, segments: int = MOST_SEGMENTS, flush_seconds: float = 0.0
    ) -> None:
        """Start the thread.

        A transaction is made of at most so many segments. It begins `flush_seconds` after the one
        before, unless there are as many sooner or somebody waits for them.
        """
        self._ledger = ledger
        self._segments = segments
        self._flush_seconds = flush_seconds
        self.last_seconds = 0.0
        """How long the last transaction took."""
        self._queue: BoundedQueue[_Order] = BoundedQueue(items=segments, n_bytes=MOST_BYTES)
        self._thread = threading.Thread(target=self._write, name="ledger-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> LedgerWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits, and end the thread."""
        self._queue.close()
        self._thread.join()

    def submit(self, claim: Claim, segment: Segment) -> Future[None]:
        """Hand over a segment; the future ends when it is committed.

        Its errors are those of `Ledger.commit`.
        """
        order = _Order(claim, segment, Future())
        self._queue.put(order, len(segment.checkpoint))
        return order.written

    def hurry(self) -> None:
        """Let what has been handed over be written at once: somebody waits for it."""
        self._queue.hurry()

    @property
    def counts(self) -> QueueCounts:
        """How many segments went through, in how many transactions, and who had to wait."""
        return self._queue.counts

    def _write(self) -> None:
        began = -self._flush_seconds
        while True:
            orders = self._queue.take(self._segments, not_before=began + self._flush_seconds)
            if not orders:
                return
            began = time.monotonic()
            self._commit(orders)
            self.last_seconds = time.monotonic() - began

    def _commit(self, orders: Sequence[_Order]) -> None:
        groups = _by_run(orders)
        try:
            with self._ledger.operations.timed("ledger.commit"):
                lost = self._ledger.commit_all([_joined(group) for group in groups])
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            self._queue.done(failed=len(orders))
            for order in orders:
                order.written.set_exception(error)
            return
        n_failed = sum(len(g) for g, reason in zip(groups, lost, strict=True) if reason is not None)
        self._queue.done(processed=len(orders) - n_failed, failed=n_failed)
        for group, reason in zip(groups, lost, strict=True):
            for order in group:
                _settle(order, reason)


def _settle(order: _Order, reason: QuorumlabError | None) -> None:
    if reason is None:
        order.written.set_result(None)
    else:
        order.written.set_exception(reason)


def _by_run(orders: Sequence[_Order]) -> list[list[_Order]]:
    """Return the orders in groups, each of segments of one claim that follow each other."""
    groups: list[list[_Order]] = []
    newest: dict[Claim, list[_Order]] = {}
    for order in orders:
        group = newest.get(order.claim)
        if group is not None and group[-1].segment.next_step == order.segment.first_step:
            group.append(order)
        else:
            newest[order.claim] = [order]
            groups.append(newest[order.claim])
    return groups


def _joined(group: Sequence[_Order]) -> tuple[Claim, Segment]:
    """Return segments that follow each other as one, with the last one's state."""
    first, last = group[0].segment, group[-1].segment
    if first is last:
        return group[0].claim, first
    parts = [order.segment for order in group]
    took = [part.resources for part in parts]
    return group[0].claim, replace(
        last,
        first_step=first.first_step,
        blocks=tuple(block for part in parts for block in part.blocks),
        rows={kind: np.concatenate([part.rows[kind] for part in parts]) for kind in last.rows},
        resources=Resources(
            wall_seconds=sum(each.wall_seconds for each in took),
            cpu_seconds=sum(each.cpu_seconds for each in took),
            peak_rss_mb=max(each.peak_rss_mb for each in took),
        ),
    )
