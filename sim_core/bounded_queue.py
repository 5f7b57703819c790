"""A queue between threads that holds so much and no more, and counts what goes through it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

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


class BoundedQueue(Generic[Item]):
    """Items in the order in which they came; producers wait for room, or lose what finds none."""

    def __init__(self, *, items: int, n_bytes: int, drops: bool = False) -> None:
        """Hold at most so many items and bytes; a single item may be larger than that."""
        self._most, self._most_bytes, self._drops = items, n_bytes, drops
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._is_closed = False
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
                self._changed.wait_for(lambda: self._has_room(n_bytes))
            self._waiting.append((item, n_bytes))
            self._bytes += n_bytes
            deepest = max(self._counts.deepest, len(self._waiting))
            self._counts = replace(self._counts, deepest=deepest)
            self._changed.notify_all()
            return True

    def take(self, items: int) -> list[Item]:
        """Return what waits, at most so many; wait for the first; nothing when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
            taken = [self._waiting.popleft() for _ in range(min(items, len(self._waiting)))]
            self._bytes -= sum(size for _, size in taken)
            self._changed.notify_all()
            return [item for item, _ in taken]

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

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self._counts, name) + n for name, n in more.items()}
        self._counts = replace(self._counts, **sums)
