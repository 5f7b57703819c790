"""The one cache: so much memory and no more, answers of a limited age, figures of what it did.

Answers are kept as bytes (MessagePack, compressed if asked for). So their size is known, and who
gets an answer may change it without changing what the next one gets.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import msgspec
import numpy as np
import zstandard
from cachetools import TTLCache

from sim_core.config import CacheConfig
from sim_core.errors import QuorumlabError

LOG = logging.getLogger("quorumlab.cache")
MEBIBYTE = 1024 * 1024
ENTRY_BYTES = 1_200
"""Of an entry besides its answer: its key and its places in the cache's tables, as measured."""
ARRAY = 1
"""Code of arrays among MessagePack's extensions."""
COMPRESSION_LEVEL = 3
Answer = TypeVar("Answer")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CacheStatistics:
    """What a cache has done so far, and what it holds."""

    hits: int = 0
    misses: int = 0
    outdated: int = 0
    """Misses because what the answer was read from had changed."""
    evicted: int = 0
    """Answers that made room for others."""
    expired: int = 0
    """Answers that became too old."""
    too_large: int = 0
    """Answers that do not fit into the whole cache."""
    entries: int = 0
    megabytes: float = 0.0

    def __str__(self) -> str:
        """Return the figures in words.

        >>> str(CacheStatistics(hits=3, misses=1, entries=1, megabytes=0.2))
        '3 hits, 1 misses (75 %), 0 evicted, 0 expired, 1 entries of 0.2 MB'
        """
        asked = self.hits + self.misses
        share = f" ({self.hits / asked:.0%})".replace("%", " %") if asked else ""
        return (
            f"{self.hits:,} hits, {self.misses:,} misses{share}, {self.evicted:,} evicted, "
            f"{self.expired:,} expired, {self.entries:,} entries of {self.megabytes:.1f} MB"
        )

    def __add__(self, other: CacheStatistics) -> CacheStatistics:
        """Return the figures of two caches together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return CacheStatistics(*(one + two for one, two in pairs))


class _Entry(NamedTuple):
    version: Hashable
    data: bytes


class _Entries(TTLCache[Hashable, _Entry]):
    """The library's cache, which also counts what leaves it."""

    evicted = expired = 0

    def popitem(self) -> tuple[Hashable, _Entry]:
        """Remove and return the entry that was used least recently."""
        gone = super().popitem()
        self.evicted += 1
        return gone

    def expire(self, time: float | None = None) -> list[tuple[Hashable, _Entry]]:
        """Remove and return the entries that are too old."""
        gone = super().expire(time)
        self.expired += len(gone)
        return gone


class Cache:
    """Answers by key; may be used from several threads."""

    def __init__(
        self, name: str, settings: CacheConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Hold nothing yet; `name` is that of its figures in `all_statistics`."""
        self.name = name
        self.settings = settings
        self._lock = threading.Lock()
        self._most_bytes = settings.memory_mb * MEBIBYTE
        self._entries = _Entries(
            self._most_bytes, settings.ttl_seconds, timer=clock, getsizeof=_n_bytes
        )
        self._hits = self._misses = self._outdated = self._too_large = 0
        _CACHES.add(self)

    def fetch(
        self,
        key: Hashable,
        load: Callable[[], Answer],
        kind: Any,
        *,
        version: Hashable = None,
    ) -> Answer:
        """Return what is kept under a key, or else what `load` returns, which is kept then.

        Args:
            key: What is asked.
            load: Who finds it out. Several threads may do so at once.
            kind: Type of the answer, as msgspec decodes it.
            version: State of what the answer is read from: an answer of another one is not given.
        """
        return self.fetch_many({key: version}, lambda _: {key: load()}, kind)[key]

    def fetch_many(
        self,
        versions: Mapping[Key, Hashable],
        load: Callable[[list[Key]], Mapping[Key, Answer]],
        kind: Any,
    ) -> dict[Key, Answer]:
        """Return answers by key; `load` finds out, in one go, those that are not kept."""
        found = {key: self._find(key, version) for key, version in versions.items()}
        missing = [key for key, entry in found.items() if entry is None]
        loaded = load(missing) if missing else {}
        if self._most_bytes:
            for key in missing:
                self._keep(key, _Entry(versions[key], self._encoded(loaded[key])))
        return {
            key: loaded[key] if entry is None else self._decoded(entry.data, kind)
            for key, entry in found.items()
        }

    def _find(self, key: Hashable, version: Hashable) -> _Entry | None:
        with self._lock:
            self._entries.expire()
            entry = self._entries.get(key)
            if entry is not None and entry.version == version:
                self._hits += 1
                return entry
            self._misses += 1
            if entry is not None:
                self._outdated += 1
                self._entries.pop(key)
            return None

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            if _n_bytes(entry) > self._most_bytes:
                self._too_large += 1
            else:
                self._entries[key] = entry

    def _encoded(self, answer: Any) -> bytes:
        data = msgspec.msgpack.encode(answer, enc_hook=_extension)
        if self.settings.compress:
            return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(data)
        return bytes(memoryview(data))  # msgspec's own has room behind its end that nobody sees

    def _decoded(self, data: bytes, kind: Any) -> Any:
        if self.settings.compress:
            data = zstandard.ZstdDecompressor().decompress(data)
        return msgspec.msgpack.decode(data, type=kind, ext_hook=_array)

    def warm(self, loads: Iterable[Callable[[], object]]) -> int:
        """Do what fills the cache until it is full; return how many were done."""
        n_done = 0
        for load in loads:
            evicted = self.statistics.evicted
            load()
            n_done += 1
            if self.statistics.evicted > evicted:
                break
        return n_done

    def clear(self) -> None:
        """Forget all answers; the figures go on."""
        with self._lock:
            self._entries.clear()

    @property
    def statistics(self) -> CacheStatistics:
        """The figures so far."""
        with self._lock:
            self._entries.expire()
            return CacheStatistics(
                hits=self._hits,
                misses=self._misses,
                outdated=self._outdated,
                evicted=self._entries.evicted,
                expired=self._entries.expired,
                too_large=self._too_large,
                entries=len(self._entries),
                megabytes=round(self._entries.currsize / MEBIBYTE, 3),
            )


_CACHES: WeakSet[Cache] = WeakSet()


def all_statistics() -> dict[str, CacheStatistics]:
    """Return the figures of all caches of this process; those of one name are added up."""
    found: dict[str, CacheStatistics] = {}
    for cache in sorted(_CACHES, key=lambda cache: cache.name):
        found[cache.name] = found.get(cache.name, CacheStatistics()) + cache.statistics
    return found


@contextmanager
def kept_warm(settings: CacheConfig, warm: Callable[[], object]) -> Iterator[None]:
    """Read ahead now and then, from a thread of its own, as the settings ask for."""
    stop = threading.Event()

    def work() -> None:
        if settings.warm_up:
            _warm_once(warm)
        while settings.warm_up_seconds and not stop.wait(settings.warm_up_seconds):
            _warm_once(warm)

    thread = threading.Thread(target=work, name="cache-warmer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _warm_once(warm: Callable[[], object]) -> None:
    try:
        warm()
    except QuorumlabError as error:  # who needs the answer asks again, and is told then
        LOG.warning("nothing was read ahead: %s", error)


def _n_bytes(entry: _Entry) -> int:
    return sys.getsizeof(entry.data) + ENTRY_BYTES


def _extension(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        parts = [value.dtype.str, value.shape, value.tobytes()]
        return msgspec.msgpack.Ext(ARRAY, msgspec.msgpack.encode(parts))
    raise NotImplementedError(f"a {type(value).__name__} cannot be kept in a cache")


def _array(code: int, data: memoryview) -> Any:
    assert code == ARRAY
    dtype, shape, values = msgspec.msgpack.decode(data)
    return np.frombuffer(bytearray(values), dtype=dtype).reshape(shape)
