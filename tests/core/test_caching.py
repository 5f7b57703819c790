"""The cache keeps to its memory and ages, and gives what was put in."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from sim_core.caching import Cache, CacheStatistics, all_statistics, kept_warm
from sim_core.config import CacheConfig
from sim_core.errors import LedgerFailed

MEBIBYTE = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Any = None, **settings: Any) -> Cache:
    return Cache("trial", CacheConfig(**settings), clock=clock or Clock())


def never() -> Any:
    raise AssertionError("what is kept was asked for again")


ANSWER = [{"name": "a", "n": 2**62, "share": 0.1, "none": None, "deep": {"list": [1, True]}}]


@pytest.mark.parametrize("compress", [False, True])
def test_answer_is_given_again_until_its_version_is_another(compress: bool):
    cache = make(compress=compress)
    kind = list[dict[str, Any]]
    assert cache.fetch("k", lambda: ANSWER, kind, version=1) == ANSWER
    found = cache.fetch("k", never, kind, version=1)
    assert found == ANSWER
    found[0]["deep"]["list"].append("changed by its owner")
    assert cache.fetch("k", never, kind, version=1) == ANSWER
    assert cache.fetch("k", list, kind, version=2) == []
    assert cache.fetch("k", lambda: ANSWER, kind, version=1) == ANSWER
    figures = cache.statistics
    assert (figures.hits, figures.misses, figures.outdated, figures.entries) == (2, 3, 2, 1)


def test_arrays_are_kept_with_type_and_shape():
    cache = make(compress=True)
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    cache.fetch("k", lambda: {"a": array}, dict[str, Any])
    found = cache.fetch("k", never, dict[str, Any])["a"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    with pytest.raises(NotImplementedError, match="object cannot be kept"):
        cache.fetch("o", object, Any)


def test_answers_that_are_too_old_are_read_again():
    clock = Clock()
    cache = make(clock, ttl_seconds=10)
    cache.fetch("k", lambda: 1, int)
    clock.now = 9.9
    assert cache.fetch("k", never, int) == 1
    clock.now = 10.0
    assert cache.fetch("k", lambda: 2, int) == 2
    assert (cache.statistics.expired, cache.statistics.misses) == (1, 2)


def test_what_was_used_least_recently_goes_first():
    cache = make(memory_mb=1)
    third = b"x" * (MEBIBYTE // 3 - 2_000)
    for key in "abc":
        cache.fetch(key, lambda: third, bytes)
    cache.fetch("a", never, bytes)
    cache.fetch("d", lambda: third, bytes)
    for key in "acd":
        cache.fetch(key, never, bytes)
    assert cache.statistics.evicted == 1
    cache.fetch("b", lambda: third, bytes)
    assert (cache.statistics.misses, cache.statistics.evicted) == (5, 2)
    cache.fetch("huge", lambda: b"x" * MEBIBYTE, bytes)
    assert cache.statistics.too_large == 1
    assert cache.statistics.entries == 3


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("n_bytes", [0, 100, 10_000])
def test_memory_is_really_within_the_limit(n_bytes: int, compress: bool):
    cache, rng = make(memory_mb=2, compress=compress), np.random.default_rng(1)
    tracemalloc.start()
    try:
        for number in range(2 * MEBIBYTE // (n_bytes + 1_000) * 2):
            key = (f"sqlite:////a/folder/{number}", "runs", f"experiment {number}", number)
            cache.fetch(key, lambda: rng.bytes(n_bytes), bytes, version=(number, "v" * 40))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    figures = cache.statistics
    assert figures.evicted > 0
    assert figures.megabytes <= 2
    assert 0.4 * 2 * MEBIBYTE < held <= 2 * MEBIBYTE


def test_compressed_answers_take_less():
    plain, compressed = make(), make(compress=True)
    rows = [{"state": "finished", "number": n} for n in range(2_000)]
    for cache in (plain, compressed):
        cache.fetch("k", lambda: rows, Any)
    assert compressed.statistics.megabytes < plain.statistics.megabytes / 4


def test_without_memory_nothing_is_kept():
    cache = make(memory_mb=0)
    for _ in range(2):
        assert cache.fetch("k", lambda: [1], Any) == [1]
    assert cache.statistics == CacheStatistics(misses=2)


def test_clear_forgets_answers_and_keeps_the_figures():
    cache = make()
    cache.fetch("k", lambda: 1, int)
    cache.clear()
    assert cache.fetch("k", lambda: 2, int) == 2
    assert (cache.statistics.misses, cache.statistics.entries) == (2, 1)


def test_of_many_keys_only_those_that_are_missing_are_read():
    cache, asked = make(), []

    def load(keys: list[int]) -> dict[int, int]:
        asked.append(keys)
        return {key: key * key for key in keys}

    assert cache.fetch_many({1: "v", 2: "v"}, load, int) == {1: 1, 2: 4}
    assert cache.fetch_many({2: "v", 3: "v", 1: "new"}, load, int) == {2: 4, 3: 9, 1: 1}
    assert asked == [[1, 2], [3, 1]]


def test_threads_get_their_own_answers_and_all_are_counted():
    cache = make(memory_mb=1, compress=True)
    wrong: list[object] = []

    def work() -> None:
        for number in range(400):
            key = number % 40
            text = str(key) * 30_000  # more than fits, before it is compressed
            if cache.fetch(key, lambda text=text: text, str) != text:
                wrong.append(key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.statistics.hits + cache.statistics.misses == 4 * 400


def test_figures_of_all_caches_are_in_one_place():
    name = "a name that no other test has"
    caches = [Cache(name, CacheConfig()) for _ in range(2)]
    for cache in caches:
        cache.fetch("k", lambda: 1, int)
    caches[0].fetch("k", never, int)
    found = all_statistics()[name]
    assert (found.hits, found.misses, found.entries) == (1, 2, 2)
    del cache, caches
    assert name not in all_statistics()


def test_warming_stops_when_the_cache_is_full():
    cache = make(memory_mb=1)
    data = b"x" * (MEBIBYTE // 4)
    loads = [lambda key=key: cache.fetch(key, lambda: data, bytes) for key in range(100)]
    assert cache.warm(loads) == 4


@pytest.mark.parametrize("settings", [{"warm_up": True}, {"warm_up_seconds": 0.001}])
def test_warming_happens_as_asked_for_and_survives_a_failure(settings: dict[str, Any]):
    times, done = [], threading.Event()

    def warm() -> None:
        times.append(1)
        if len(times) == (1 if settings.get("warm_up") else 3):
            done.set()
        raise LedgerFailed("away")

    with kept_warm(CacheConfig(**settings), warm):
        assert done.wait(60)
    if settings.get("warm_up"):
        assert len(times) == 1


def test_nothing_is_warmed_unless_asked_for():
    with kept_warm(CacheConfig(), never):
        pass
    assert not [t for t in threading.enumerate() if t.name == "cache-warmer"]
