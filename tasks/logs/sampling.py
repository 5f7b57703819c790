"""Of many records of the same message, the first and then some."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from sim_core.config import SampleConfig

Kind = tuple[str, int, str]
"""Logger, level, and message before anything is put into it."""


class SamplingFilter(logging.Filter):
    """Lets the first `first` and then every `every`-th record of a message through."""

    def __init__(self, settings: SampleConfig) -> None:
        """Begin to count; each process does so for itself."""
        super().__init__()
        self._settings = settings
        self._seen: Counter[Kind] = Counter()
        self._left_out: Counter[Kind] = Counter()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written; one after others that were not says how many."""
        if record.levelno >= logging.WARNING:
            return True
        kind = (record.name, record.levelno, str(record.msg))
        with self._lock:
            self._seen[kind] += 1
            beyond = self._seen[kind] - self._settings.first
            if beyond > 0 and beyond % self._settings.every:
                self._left_out[kind] += 1
                return False
            record.left_out = self._left_out.pop(kind, 0)
        return True

    def rest(self) -> list[logging.LogRecord]:
        """Return a record for each message of which some were left out since the last, and forget them."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
        records = []
        for (name, level, message), count in left_out.items():
            values = (count, message)
            told = "at last, %d more were left out of: %s"
            record = logging.LogRecord(name, level, __file__, 0, told, values, None)
            record.left_out = count
            records.append(record)
        return records
