"""Rows made ready for replay: warm-up pool apart, features encoded and standardised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config.traffic import ReplayTraffic
from sim_core.errors import DataError
from sim_core.randomness import Streams
from sim_core.traffic.rows import Rows, Symbols

SMALLEST_POOL = 8
"""Benign rows that a detector and its threshold need to start at least."""


@dataclass(frozen=True)
class Recording:
    """Rows that are replayed, in the order of time, and the benign ones that everything starts from."""

    path: Path
    """File that the rows come from, for messages."""
    feature_names: tuple[str, ...]
    families: tuple[str, ...]
    values: NDArray[np.float32]
    """Features in standard deviations of the pool `[n_rows, n_features]`."""
    label: NDArray[np.int16]
    owner: NDArray[np.int64] | None
    timestamp: NDArray[np.int64] | None
    """Milliseconds since 1970, where the file has dates `[n_rows]`."""
    bytes_transferred: NDArray[np.int64]
    protocol: NDArray[np.uint8]
    number: NDArray[np.int64]
    """Row in the file, as messages count: lines of a text, from 1 `[n_rows]`."""
    pool: NDArray[np.float32]
    """Benign rows that start detector and threshold `[n_pools, n_warmup, n_features]`; node i has
    pool i modulo their number."""
    pool_number: NDArray[np.int64]
    """Rows of the pool in their file `[n_warmup]`."""


def prepare(
    rows: Rows, warmup: Rows | None, settings: ReplayTraffic, streams: Streams
) -> Recording:
    """Return `rows` as a recording whose pool is the benign rows of `warmup`, or some of its own.

    Rows of the pool are not replayed. Columns that are constant in it are dropped.

    Raises:
        DataError: too few benign rows for a pool, all columns constant, or values out of range.
    """
    if warmup is None:
        taken = _own_pool(rows, settings, streams)
        pool = rows.take(taken)
        is_left = np.ones(len(rows.label), dtype=np.bool_)
        is_left[taken] = False
        rows = rows.take(np.flatnonzero(is_left))
        if settings.attack_share != 1 and (rows.label > 0).all():
            raise DataError(
                f"{rows.path}: no benign row is left to replay: set a smaller traffic.warmup_share"
            )
    else:
        pool = warmup.take(np.flatnonzero(warmup.label == 0))
        if pool.numeric != rows.numeric:
            raise DataError(f"{pool.path} has other numeric columns than {rows.path}")
    if len(pool.label) < SMALLEST_POOL:
        raise DataError(
            f"{pool.path}: {len(pool.label)} benign rows start detector and threshold, at least "
            f"{SMALLEST_POOL} are needed: set a larger traffic.warmup_share or another file"
        )
    categories = _categories(pool, settings)
    names = (*pool.numeric, *(f"{column}={value}" for column, value in categories))
    reference = _encode(pool, settings, categories)
    varying = np.flatnonzero(reference.max(axis=0) > reference.min(axis=0))
    if varying.size == 0:
        raise DataError(f"{pool.path}: every column is constant in its benign rows")
    location, scale = reference.mean(axis=0)[varying], reference.std(axis=0)[varying]
    features = tuple(names[k] for k in varying)
    encoded = _encode(rows, settings, categories)
    return Recording(
        path=rows.path,
        feature_names=features,
        families=rows.families,
        values=standardise(rows, features, encoded[:, varying], location, scale),
        label=rows.label,
        owner=rows.owner,
        timestamp=rows.timestamp,
        bytes_transferred=rows.bytes_transferred,
        protocol=rows.protocol,
        number=rows.number,
        pool=standardise(pool, features, reference[:, varying], location, scale)[None],
        pool_number=pool.number,
    )


def standardise(
    rows: Rows,
    names: tuple[str, ...],
    values: NDArray[np.float64],
    location: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return `(values - location) / scale` as float32.

    Raises:
        DataError: a value is too large for that.
    """
    with np.errstate(over="ignore"):
        standard: NDArray[np.float32] = ((values - location) / scale).astype(np.float32)
    wrong = np.argwhere(~np.isfinite(standard))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{rows.path}, row {rows.number[row]}, column {names[column]}: "
            f"{values[row, column]:g} is beyond what can be scaled by benign rows"
        )
    return standard


def _own_pool(rows: Rows, settings: ReplayTraffic, streams: Streams) -> NDArray[np.int64]:
    """Return the benign rows that become the pool: the first ones in time, or drawn."""
    benign = np.flatnonzero(rows.label == 0)
    if settings.order == "random":
        benign = benign[streams.generator("partition").permutation(benign.size)]
    return benign[: max(1, round(settings.warmup_share * benign.size))]


def _categories(pool: Rows, settings: ReplayTraffic) -> tuple[tuple[str, str], ...]:
    """Return column and value of each symbol that the pool has, where symbols are wanted."""
    if settings.symbolic == "drop":
        return ()
    return tuple((s.name, s.values[k]) for s in pool.symbolic for k in np.unique(s.code))


def _encode(
    rows: Rows, settings: ReplayTraffic, categories: tuple[tuple[str, str], ...]
) -> NDArray[np.float64]:
    """Return the transformed numeric columns, then a 0/1 column for each category.

    A symbol that the pool does not have is 0 in all of them.
    """
    values = rows.values
    if settings.transform == "log1p":
        wrong = np.argwhere(values <= -1)
        if len(wrong):
            row, column = wrong[0]
            raise DataError(
                f"{rows.path}, row {rows.number[row]}, column {rows.numeric[column]}: "
                f"{values[row, column]:g} has no log1p: set traffic.transform=none"
            )
        values = np.log1p(values)
    symbols = {s.name: s for s in rows.symbolic}
    encoded = [_is_category(symbols[name], value) for name, value in categories]
    return np.column_stack([values, *encoded]) if encoded else values


def _is_category(symbols: Symbols, value: str) -> NDArray[Any]:
    if value not in symbols.values:
        return np.zeros(symbols.code.shape)
    return np.where(symbols.code == symbols.values.index(value), 1.0, 0.0)
