"""Labelled rows: what the columns of a table mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import TableColumns
from sim_core.errors import DataError
from sim_core.traffic.base import ICMP, TCP, UDP
from sim_core.traffic.tables import Table, read_table

PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
LARGEST_PROTOCOL = 255
MOST_FAMILIES = 1_000


@dataclass(frozen=True)
class Symbols:
    """A symbolic column."""

    name: str
    code: NDArray[np.int64]
    """Index into `values` `[n_rows]`."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """A labelled table as arrays, in the order of time."""

    path: Path
    numeric: tuple[str, ...]
    """Names of the numeric columns."""
    values: NDArray[np.float64]
    """Numeric columns `[n_rows, n_numeric]`."""
    symbolic: tuple[Symbols, ...]
    label: NDArray[np.int16]
    """0 benign, k >= 1 attack family k `[n_rows]`."""
    families: tuple[str, ...]
    owner: NDArray[np.int64] | None
    """Number of the distinct id that a row belongs to `[n_rows]`, for split `column`."""
    timestamp: NDArray[np.int64] | None
    """Milliseconds since 1970, where the file has dates `[n_rows]`."""
    bytes_transferred: NDArray[np.int64]
    protocol: NDArray[np.uint8]
    """IANA protocol number; TCP where the file names none."""
    number: NDArray[np.int64]
    """Row in the file, as messages count: lines of a text, from 1 `[n_rows]`."""

    def take(self, index: NDArray[Any]) -> Rows:
        """Return some of the rows, in the order of `index`."""
        return replace(
            self,
            values=self.values[index],
            symbolic=tuple(replace(s, code=s.code[index]) for s in self.symbolic),
            label=self.label[index],
            owner=None if self.owner is None else self.owner[index],
            timestamp=None if self.timestamp is None else self.timestamp[index],
            bytes_transferred=self.bytes_transferred[index],
            protocol=self.protocol[index],
            number=self.number[index],
        )


def read_rows(
    path: Path,
    columns: TableColumns,
    *,
    names: tuple[str, ...] | None = None,
    families: Mapping[str, str] | None = None,
) -> Rows:
    """Return the labelled rows of a file, sorted by time (rows of one time stay in order).

    Args:
        path: CSV, Parquet or npz file.
        columns: Which columns mean what.
        names: Names of the columns of a text file that has no header.
        families: Family of each attack label that may occur; without it each label is its own.

    Raises:
        DataError: naming file, column and row of the first thing that is wrong.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error
    known = None if families is None else tuple(families.items())
    return _read(path, status.st_mtime_ns, status.st_size, columns, names, known)


@lru_cache(maxsize=8)
def _read(
    path: Path,
    modified: int,
    size: int,
    columns: TableColumns,
    names: tuple[str, ...] | None,
    families: tuple[tuple[str, str], ...] | None,
) -> Rows:
    """Read a file; modification time and size are there for the cache to notice changes."""
    del modified, size
    return rows_of(read_table(path, names), columns, dict(families) if families else None)


def rows_of(table: Table, columns: TableColumns, families: Mapping[str, str] | None) -> Rows:
    """Return the labelled rows of a table (see `read_rows`)."""
    label, family_names = _labels(table, columns, families)
    numeric = columns.numeric if columns.numeric is not None else _numeric_names(table, columns)
    if not numeric and not columns.symbolic:
        raise DataError(f"{table.path}: no column is numeric: name some in traffic.columns")
    values = [table.numbers(name) for name in numeric]
    symbolic = tuple(Symbols(name, *table.categories(name)) for name in columns.symbolic)
    n_rows = table.n_rows
    order, timestamp = np.arange(n_rows), None
    if columns.time is not None:
        time, is_date = table.times(columns.time)
        order = np.argsort(time, kind="stable")
        timestamp = time.astype(np.int64) if is_date else None
    rows = Rows(
        path=table.path,
        numeric=tuple(numeric),
        values=np.column_stack(values) if values else np.zeros((n_rows, 0)),
        symbolic=symbolic,
        label=label,
        families=family_names,
        owner=None if columns.node is None else table.categories(columns.node)[0],
        timestamp=timestamp,
        bytes_transferred=_bytes(table, columns.bytes_transferred),
        protocol=_protocols(table, columns.protocol),
        number=np.arange(n_rows) + table.first_row,
    )
    return rows.take(order)


def _labels(
    table: Table, columns: TableColumns, families: Mapping[str, str] | None
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    code, found = table.categories(columns.label)
    if families is None:
        names = tuple(name for name in found if name not in columns.benign)
        if len(names) == len(found):
            raise DataError(
                f"{table.path}, column {columns.label}: no row has a benign label "
                f"(traffic.columns.benign: {', '.join(columns.benign)}); its labels: "
                f"{', '.join(found[:12])}"
            )
        if len(names) > MOST_FAMILIES:
            raise DataError(
                f"{table.path}, column {columns.label}: {len(names)} kinds of attacks, at most "
                f"{MOST_FAMILIES}: is it the column of the labels?"
            )
        family_of = {name: name for name in names}
    else:
        names, family_of = tuple(dict.fromkeys(families.values())), dict(families)
    number = {name: k for k, name in enumerate(names, 1)}
    numbers = np.zeros(len(found), dtype=np.int16)
    for k, name in enumerate(found):
        if name in columns.benign:
            continue
        if name not in family_of:
            row = int(np.flatnonzero(code == k)[0])
            raise table.refusal(row, columns.label, f"unknown value {name!r}")
        numbers[k] = number[family_of[name]]
    return numbers[code], names


def _numeric_names(table: Table, columns: TableColumns) -> tuple[str, ...]:
    """Return the columns that hold numbers and have no other meaning."""
    taken = {columns.label, columns.node, columns.time, *columns.symbolic, *columns.ignore}
    return tuple(n for n in table.names if n not in taken and table.is_numeric(n))


def _bytes(table: Table, name: str | None) -> NDArray[np.int64]:
    if name is None:
        return np.zeros(table.n_rows, dtype=np.int64)
    numbers = table.numbers(name)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= 2.0**63))
    if wrong.size:
        row = int(wrong[0])
        raise table.refusal(row, name, f"{numbers[row]:g} is no number of bytes")
    return np.rint(numbers).astype(np.int64)


def _protocols(table: Table, name: str | None) -> NDArray[np.uint8]:
    if name is None:
        return np.full(table.n_rows, TCP, dtype=np.uint8)
    code, found = table.categories(name)
    numbers = np.zeros(len(found), dtype=np.uint8)
    for k, text in enumerate(found):
        number = PROTOCOLS.get(text.lower(), int(text) if text.isdecimal() else -1)
        if not 0 <= number <= LARGEST_PROTOCOL:
            row = int(np.flatnonzero(code == k)[0])
            raise table.refusal(
                row, name, f"unknown value {text!r}: expected tcp, udp, icmp or an IANA number"
            )
        numbers[k] = number
    return numbers[code]
