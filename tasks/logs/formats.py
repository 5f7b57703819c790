"""Lines of a log: for people, or an object each for machines; passwords in addresses are hidden."""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Literal

from tasks.logs.context import FIELDS

PASSWORD = re.compile(r"(://[^:/@\s\"]*):[^@/\s]+@")
"""In an address: `//name:password@host`."""


def hidden(text: str) -> str:
    """Return a text without the passwords in its addresses.

    >>> hidden("no answer from postgresql://me:se:cret@host/db")
    'no answer from postgresql://me:***@host/db'
    """
    return PASSWORD.sub(r"\1:***@", text)


class HumanFormatter(logging.Formatter):
    """A line of time, level, process, logger, message, and what it is about."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        """Times are UTC."""
        super().__init__("%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s%(about)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; one with a traceback has several."""
        parts = [f"{name}={value}" for name in FIELDS if (value := _of(record, name)) is not None]
        if count := _of(record, "left_out"):
            parts.append(f"left_out={count}")
        record.about = f" [{' '.join(parts)}]" if parts else ""
        return hidden(super().format(record))


def _of(record: logging.LogRecord, name: str) -> Any:
    return getattr(record, name, None)


def formatter_of(kind: Literal["human", "json"]) -> logging.Formatter:
    """Return what makes lines of records."""
    return HumanFormatter() if kind == "human" else _json_formatter()


def _json_formatter() -> logging.Formatter:
    """Return one that makes an object of each record; what a record is not about is null."""
    from pythonjsonlogger.json import JsonFormatter

    class HidingFormatter(JsonFormatter):
        def format(self, record: logging.LogRecord) -> str:
            if not _of(record, "left_out"):
                record.left_out = 0
            return hidden(super().format(record))

    return HidingFormatter(
        ("levelname", "name", "message", "process", *FIELDS, "left_out"),
        timestamp="time",
        rename_fields={
            "levelname": "level",
            "name": "logger",
            "process": "pid",
            "exc_info": "traceback",
        },
        reserved_attrs=KNOWN,
    )


KNOWN = [*logging.makeLogRecord({}).__dict__, "message", "asctime", "about", "told", "taskName"]
"""What a record has of itself; the rest is what whoever logs has added."""
