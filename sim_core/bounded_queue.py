"""A queue between threads that holds so much and no more, and counts what goes through it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class QueueCounts:
    """What has gone through a queue so far."""

    processed: int = 0
    waited: int = 0
    """Times a producer had to wait for room."""
    dropped: int = 0
    """Items that were not taken, as there was no room for them."""
    failed: int = 0
    batches: int = 0
    deepest: int = 0
    """Most items that were ever in it."""

    def __str__(self) -> str:
        """Return the figures in words.

        >>> str(QueueCounts(processed=1200, waited=3))
        '1,200 processed, 3 waited, 0 dropped, 0 failed'
        """
        shown = ("processed", "waited", "dropped", "failed")
        return ", ".join(f"{getattr(self, name):,} {name}" for name in shown)


class BoundedQueue(Generic[Item]):
    """Items in the order in which they came; producers wait for room, or lose what finds none."""

    def __init__(self, *, items: int, n_bytes: int, drops: bool = False) -> None:
        """Hold at most so many items and bytes; a single item may be larger than that."""
        self._most, self._most_bytes, self._drops = items, n_bytes, drops
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._n_waiting_producers = 0
        self._n_urgent = 0
        self._changed = threading.Condition()
        self._counts = QueueCounts()

    def put(self, item: Item, n_bytes: int = 0) -> bool:
        """Append an item once there is room; return False if there is none and it is dropped."""
        with self._changed:
            if not self._has_room(n_bytes):
                if self._drops:
                    self._count(dropped=1)
                    return False
                self._count(waited=1)
                self._n_waiting_producers += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._has_room(n_bytes))
                self._n_waiting_producers -= 1
            self._waiting.append((item, n_bytes))
            self._bytes += n_bytes
            deepest = max(self._counts.deepest, len(self._waiting))
            self._counts = replace(self._counts, deepest=deepest)
            self._changed.notify_all()
            return True

    def take(self, items: int, *, not_before: float = 0.0) -> list[Item]:
        """Return what waits, at most so many; nothing when closed and empty.

        Waits for the first, and then until it is `not_before` on the clock `time.monotonic`, there
        are as many as may be had, or somebody is in a hurry.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
            pause = not_before - time.monotonic()
            if pause > 0:
                self._changed.wait_for(lambda: self._is_worth_taking(items), pause)
            taken = [self._waiting.popleft() for _ in range(min(items, len(self._waiting)))]
            self._bytes -= sum(size for _, size in taken)
            self._n_urgent = max(0, self._n_urgent - len(taken))
            self._changed.notify_all()
            return [item for item, _ in taken]

    def hurry(self) -> None:
        """Let what waits be taken at once."""
        with self._changed:
            self._n_urgent = len(self._waiting)
            self._changed.notify_all()

    def done(self, *, processed: int = 0, failed: int = 0) -> None:
        """Count a batch that was taken."""
        with self._changed:
            self._count(processed=processed, failed=failed, batches=1)

    def close(self) -> None:
        """Let `take` return what is left, and then nothing."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def counts(self) -> QueueCounts:
        """What has gone through so far."""
        with self._changed:
            return self._counts

    def _has_room(self, n_bytes: int) -> bool:
        fits = len(self._waiting) < self._most and self._bytes + n_bytes <= self._most_bytes
        return fits or not self._waiting

    def _is_worth_taking(self, items: int) -> bool:
        """Return whether nothing is gained by waiting: enough is there, or no more can come."""
        is_full = self._bytes >= self._most_bytes or len(self._waiting) >= min(items, self._most)
        is_urgent = self._n_waiting_producers > 0 or self._n_urgent > 0
        return is_full or is_urgent or self._is_closed

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self._counts, name) + n for name, n in more.items()}
        self._counts = replace(self._counts, **sums)


class Consumer(Generic[Item]):
    """A thread that does something with the items, a few at a time; a context manager.

    After a failure nothing more is done, so that producers do not wait for ever: what is or comes
    into the queue counts as failed, and the producer gets the error when it next looks.
    """

    def __init__(
        self,
        name: str,
        queue: BoundedQueue[Item],
        work: Callable[[Sequence[Item]], None],
        at_once: int = 1,
    ) -> None:
        """Begin on entry; `work` gets what waits, at most `at_once` items."""
        self._queue, self._work, self._at_once = queue, work, at_once
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._consume, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what waits, unless the block has failed, and end the thread."""
        self._error = self._error or error
        self._queue.close()
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, item: Item, n_bytes: int = 0) -> None:
        """Hand over an item, once there is room.

        Raises:
            BaseException: whatever the work on an item before it has raised.
        """
        self._raise()
        self._queue.put(item, n_bytes)

    def _consume(self) -> None:
        while items := self._queue.take(self._at_once):
            is_done = self._error is None and self._is_done(items)
            n_done = len(items) if is_done else 0
            self._queue.done(processed=n_done, failed=len(items) - n_done)

    def _is_done(self, items: Sequence[Item]) -> bool:
        try:
            self._work(items)
        except BaseException as error:  # noqa: BLE001 - the producer raises it
            self._error = error
            return False
        return True

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
