"""Entries as rows of the database, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, pack
from struct import error as StructError  # noqa: N812 - an exception
from typing import Any

import numpy as np

from sim_core.ledger.blocks import Block, Entries


def entry_columns(run: int, entries: Entries) -> list[list[Any]]:
    """Return the columns of the entries' rows: numbers, None for NaN, and bytes for arrays."""
    columns: list[list[Any]] = [[run] * len(entries)]
    for name in entries.dtype.names or ():
        values = entries[name]
        if values.ndim > 1:
            n_bytes = values.dtype.itemsize * values.shape[1]
            columns.append(np.ascontiguousarray(values).view(f"V{n_bytes}").reshape(-1).tolist())
        elif values.dtype.kind == "f":
            columns.append([None if v != v else v for v in values.tolist()])
        else:
            columns.append(values.tolist())
    return columns


def entry_rows(run: int, entries: Entries) -> Iterator[tuple[Any, ...]]:
    """Yield the database rows of entries."""
    return zip(*entry_columns(run, entries), strict=True)


class Packing:
    """Database rows of one kind, without their first column, as the bytes of its records."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        """Prepare for the records of this type."""
        self._names = dtype.names or ()
        fields = [dtype[name] for name in self._names]
        self._struct = Struct("<" + "".join(map(_code, fields)))
        self._blobs = [(k, f.itemsize) for k, f in enumerate(fields) if f.subdtype is not None]
        self._fields = fields

    def pack(self, row: Sequence[Any]) -> bytes:
        """Return the bytes of a row's record.

        Raises:
            ValueError: a value does not fit its field.
        """
        for k, size in self._blobs:  # a shorter one would be filled up
            if not isinstance(row[k], bytes) or len(row[k]) != size:
                raise ValueError(self._reason(row))
        try:
            return self._struct.pack(*[_NAN if value is None else value for value in row])
        except (StructError, OverflowError) as error:
            raise ValueError(self._reason(row)) from error

    def _reason(self, row: Sequence[Any]) -> str:
        """Return which of a row's values does not fit, and why."""
        for name, field, value in zip(self._names, self._fields, row, strict=True):
            if field.subdtype is not None:
                if not isinstance(value, bytes):
                    return f"{name} is {type(value).__name__}, expected bytes"
                if len(value) != field.itemsize:
                    return f"{name} has {len(value)} bytes, expected {field.itemsize}"
            elif field.kind != "f" and not isinstance(value, int):
                return f"{name} is not a whole number"
            elif not isinstance(value, int | float | None):
                return f"{name} is not a number"
            else:
                try:
                    pack("<" + _code(field), _NAN if value is None else value)
                except (StructError, OverflowError) as error:
                    return f"{name}: {error}"
        raise AssertionError(row)


_NAN = float("nan")
_CODES = {"u1": "B", "u4": "I", "i2": "h", "i8": "q", "f4": "f", "f8": "d"}


def _code(field: np.dtype[Any]) -> str:
    """Return how `struct` calls a field."""
    return f"{field.itemsize}s" if field.subdtype is not None else _CODES[field.str[1:]]


def entries_of(rows: Iterable[Sequence[Any]], dtype: np.dtype[np.void]) -> Entries:
    """Return entries from database rows without their first column: `entry_rows` undone.

    Raises:
        ValueError: a value does not fit its field.
    """
    return np.frombuffer(b"".join(map(Packing(dtype).pack, rows)), dtype=dtype)


def block_row(run: int, block: Block) -> tuple[Any, ...]:
    """Return the database row of a block."""
    return (run, block.step, block.previous, block.hash, *block.digests)
