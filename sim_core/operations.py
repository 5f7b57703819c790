"""How often each operation happens, how long it takes, and how often it fails: one place for all of them.

Percentiles come from a sketch with a relative error of at most 1 % (Masson, Rim & Lee: DDSketch,
VLDB 2019), which needs the same memory after a million operations as after a thousand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

RELATIVE_ERROR = 0.01
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class OperationFigures:
    """What is known of one operation; times in seconds, None where none has ended."""

    count: int
    """Those that have ended, failed ones too."""
    errors: int
    in_flight: int
    seconds: float
    """Of all together."""
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    maximum: float | None


class Operations:
    """Counts and times operations by name, from any thread.

    >>> operations = Operations()
    >>> operations.record("ledger.read", 0.2, n=3)
    >>> operations.record("ledger.read", 0.6, failed=True)
    >>> found = operations.figures()["ledger.read"]
    >>> found.count, found.errors, round(found.mean, 3), round(found.p50, 2)
    (4, 1, 0.3, 0.2)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Know of no operation yet; `clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._series: dict[str, _Series] = {}

    def record(self, name: str, seconds: float, *, n: int = 1, failed: bool = False) -> None:
        """Note that an operation took so long, or that `n` of them took so long each."""
        with self._lock:
            self._of(name).add(seconds, n, failed=failed)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what happens in the block, which has failed where it raises an error."""
        began = self._clock()
        with self._lock:
            self._of(name).in_flight += 1
        failed = False
        try:
            yield
        except Exception:
            failed = True
            raise
        finally:
            with self._lock:
                series = self._of(name)
                series.in_flight -= 1
                series.add(self._clock() - began, 1, failed=failed)

    def figures(self) -> dict[str, OperationFigures]:
        """Return what is known by now, in the order of names."""
        with self._lock:
            return {name: series.figures() for name, series in sorted(self._series.items())}

    def _of(self, name: str) -> _Series:
        found = self._series.get(name)
        if found is None:
            found = self._series[name] = _Series()
        return found


class _Series:
    """The times of one operation."""

    def __init__(self) -> None:
        from ddsketch import DDSketch  # 20 ms that commands without operations do without

        self.in_flight = self.errors = self.count = 0
        self.seconds = self.maximum = 0.0
        self._sketch = DDSketch(RELATIVE_ERROR)

    def add(self, seconds: float, n: int, *, failed: bool) -> None:
        self.count += n
        self.errors += n * failed
        self.seconds += seconds * n
        self.maximum = max(self.maximum, seconds)
        self._sketch.add(seconds, n)

    def figures(self) -> OperationFigures:
        if not self.count:
            return OperationFigures(0, 0, self.in_flight, 0.0, None, None, None, None, None)
        found = [self._sketch.get_quantile_value(quantile) or 0.0 for quantile in QUANTILES]
        p50, p95, p99 = (min(float(value), self.maximum) for value in found)
        return OperationFigures(
            count=self.count,
            errors=self.errors,
            in_flight=self.in_flight,
            seconds=self.seconds,
            mean=self.seconds / self.count,
            p50=p50,
            p95=p95,
            p99=p99,
            maximum=self.maximum,
        )
