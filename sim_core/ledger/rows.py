"""Entries as rows of the database, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def entries_of(rows: Sequence[Sequence[Any]], dtype: np.dtype[np.void]) -> Entries:
    """Return entries from database rows without their first column: `entry_rows` undone.

    Raises:
        ValueError: a value does not fit its field.
    """
    entries = np.zeros(len(rows), dtype=dtype)
    for name, values in zip(dtype.names or (), zip(*rows, strict=True), strict=False):
        field, types = dtype[name], set(map(type, values))
        if field.subdtype is not None:
            entries[name] = _arrays(name, values, field)
            continue
        if field.kind != "f" and not types <= {int}:
            raise ValueError(f"{name} is not a whole number")
        numbers = [np.nan if v is None else v for v in values] if type(None) in types else values
        try:
            entries[name] = numbers
        except (OverflowError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from error
    return entries


def _arrays(name: str, values: Sequence[Any], field: np.dtype[Any]) -> NDArray[Any]:
    """Return the arrays whose bytes these are `[n, ...]`."""
    for value in values:
        if not isinstance(value, bytes):
            raise ValueError(f"{name} is {type(value).__name__}, expected bytes")
        if len(value) != field.itemsize:
            raise ValueError(f"{name} has {len(value)} bytes, expected {field.itemsize}")
    return np.frombuffer(b"".join(values), dtype=field.base).reshape(len(values), *field.shape)


def block_row(run: int, block: Block) -> tuple[Any, ...]:
    """Return the database row of a block."""
    return (run, block.step, block.previous, block.hash, *block.digests)
