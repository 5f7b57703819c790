"""Queues are bounded: producers wait and are counted, or lose what finds no room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from sim_core.bounded_queue import BoundedQueue, Consumer, QueueCounts

LATE = time.monotonic() + 3_600


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def await_count(queue: BoundedQueue[int], **counts: int) -> None:
    end = time.monotonic() + 60
    while any(getattr(queue.counts, name) < n for name, n in counts.items()):
        assert time.monotonic() < end, queue.counts


def test_slow_consumer_makes_its_producer_wait_and_nothing_is_lost():
    queue, done, may_go_on = BoundedQueue[int](items=3, n_bytes=1_000), [], threading.Semaphore(0)

    def work(numbers: Sequence[int]) -> None:
        may_go_on.acquire()
        done.extend(numbers)

    def produce() -> None:
        for number in range(20):
            consumer.put(number, 10)

    with Consumer("slow", queue, work) as consumer:
        producer = started(produce)
        await_count(queue, waited=1)
        assert done == []
        assert queue.counts.deepest == 3
        may_go_on.release(20)
        producer.join()
    assert done == list(range(20))
    counts = queue.counts
    assert (counts.processed, counts.dropped, counts.failed) == (20, 0, 0)
    assert counts.waited >= 1
    assert counts.deepest == 3


def test_items_wait_for_bytes_too_but_one_alone_may_be_larger():
    queue = BoundedQueue[int](items=100, n_bytes=1_000)
    assert queue.put(1, 5_000)
    producer = started(lambda: queue.put(2, 1))
    await_count(queue, waited=1)
    assert queue.take(10) == [1]
    producer.join()
    assert queue.take(10) == [2]


def test_telemetry_drops_what_finds_no_room_and_counts_it():
    queue = BoundedQueue[int](items=3, n_bytes=1_000, drops=True)
    assert [queue.put(number) for number in range(10)] == [True] * 3 + [False] * 7
    assert queue.counts == QueueCounts(dropped=7, deepest=3)
    assert queue.take(10) == [0, 1, 2]
    assert queue.put(10)


def test_batch_is_taken_when_it_is_large_enough_however_long_one_may_wait():
    queue = BoundedQueue[int](items=100, n_bytes=1_000)
    producer = started(lambda: [queue.put(number) for number in range(5)])
    assert queue.take(5, not_before=LATE) == [0, 1, 2, 3, 4]
    producer.join()


def test_batch_is_taken_when_its_time_is_over():
    queue = BoundedQueue[int](items=100, n_bytes=1_000)
    queue.put(1)
    end = time.monotonic() + 0.05
    assert queue.take(5, not_before=end) == [1]
    assert time.monotonic() >= end


def test_batch_is_taken_when_somebody_is_in_a_hurry():
    queue = BoundedQueue[int](items=100, n_bytes=1_000)
    queue.put(1)
    queue.hurry()
    queue.put(2)
    assert queue.take(50, not_before=LATE) == [1, 2]
    queue.hurry()  # for nothing: what comes later may wait
    queue.put(3)
    assert queue.take(50, not_before=time.monotonic() + 0.05) == [3]


@pytest.mark.parametrize("n_bytes", [10, 600])
def test_batch_is_taken_when_a_producer_waits_or_nothing_more_can_come(n_bytes: int):
    full = BoundedQueue[int](items=2, n_bytes=1_000)
    producer = started(lambda: [full.put(number, n_bytes) for number in range(3)])
    first = full.take(50, not_before=LATE)
    assert first == ([0, 1] if n_bytes == 10 else [0])
    closed = BoundedQueue[int](items=100, n_bytes=1_000)
    closed.put(1)
    closed.close()
    assert closed.take(50, not_before=LATE) == [1]
    assert closed.take(50, not_before=LATE) == []
    while producer.is_alive():
        full.take(1)


def test_failure_reaches_the_producer_and_nothing_more_is_done():
    queue, done = BoundedQueue[int](items=2, n_bytes=1_000), []

    def work(numbers: Sequence[int]) -> None:
        done.extend(numbers)
        if 3 in numbers:
            raise OSError("away")

    def produce() -> None:
        with Consumer("failing", queue, work) as consumer:
            for number in range(1_000):
                consumer.put(number)

    with pytest.raises(OSError, match="away"):
        produce()
    assert done == [0, 1, 2, 3]
    assert queue.counts.processed == 3
    assert queue.counts.failed >= 1


def test_failure_on_the_last_item_is_raised_too():
    def fail(numbers: Sequence[int]) -> None:
        raise OSError("away")

    with (
        pytest.raises(OSError, match="away"),
        Consumer("failing", BoundedQueue[int](items=2, n_bytes=1_000), fail) as consumer,
    ):
        consumer.put(1)


def test_failure_of_the_producer_ends_the_work_and_is_the_one_that_is_raised():
    queue = BoundedQueue[int](items=9, n_bytes=1_000)

    def work(numbers: Sequence[int]) -> None:
        while not queue._is_closed:
            time.sleep(0)

    def produce() -> None:
        with Consumer("busy", queue, work) as consumer:
            for number in range(5):
                consumer.put(number)
            while len(queue._waiting) == 5:
                time.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        produce()
    assert (queue.counts.processed, queue.counts.failed) == (1, 4)


def test_what_waits_is_done_together_up_to_a_limit():
    queue, done, may_go_on = BoundedQueue[int](items=9, n_bytes=1_000), [], threading.Event()

    def work(numbers: Sequence[int]) -> None:
        may_go_on.wait()
        done.append(list(numbers))

    with Consumer("batches", queue, work, at_once=3) as consumer:
        consumer.put(0)
        while queue._waiting:
            time.sleep(0)
        for number in range(1, 6):
            consumer.put(number)
        may_go_on.set()
    assert done == [[0], [1, 2, 3], [4, 5]]
    assert (queue.counts.processed, queue.counts.batches) == (6, 3)
