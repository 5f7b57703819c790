"""Committing the segments of many runs in one thread: all that wait go into one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple

from sim_core.bounded_queue import BoundedQueue, QueueCounts
from sim_core.ledger.store import Claim, Ledger
from sim_core.simulate import Segment

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

        A transaction is made of at most so many segments, and begins at most `flush_seconds` after
        the first of them is there.
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

    @property
    def counts(self) -> QueueCounts:
        """How many segments went through, in how many transactions, and who had to wait."""
        return self._queue.counts

    def _write(self) -> None:
        while orders := self._queue.take(self._segments, self._flush_seconds):
            self._commit(orders)

    def _commit(self, orders: Sequence[_Order]) -> None:
        began = time.monotonic()
        try:
            lost = self._ledger.commit_all([(o.claim, o.segment) for o in orders])
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            self._queue.done(failed=len(orders))
            for order in orders:
                order.written.set_exception(error)
            return
        self.last_seconds = time.monotonic() - began
        failed = sum(reason is not None for reason in lost)
        self._queue.done(processed=len(orders) - failed, failed=failed)
        for order, reason in zip(orders, lost, strict=True):
            if reason is None:
                order.written.set_result(None)
            else:
                order.written.set_exception(reason)
