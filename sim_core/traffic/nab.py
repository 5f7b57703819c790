"""Replay of telemetry of the Numenta Anomaly Benchmark (Ahmad et al., Neurocomputing 2017).

A stream per node, a flow per row in order of time: its features are the value and the `lags - 1` values
before it, in standard deviations of the stream's probationary period, which starts the detector and is
not replayed (numenta/NAB, "Numenta Anomaly Benchmark" scoring: the first 15 % of the rows, at most 750).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig, NabTraffic
from sim_core.datasets import NAB, STREAMS, find_files, kept_keys, require_digest, require_published
from sim_core.errors import DataError
from sim_core.randomness import Streams
from sim_core.traffic.base import TCP, Target
from sim_core.traffic.replay import Reference, Replay
from sim_core.traffic.scaling import SMALLEST_POOL, Recording
from sim_core.traffic.split import Lots, Queue
from sim_core.traffic.tables import read_table

WINDOWS = "labels/combined_windows.json"
LONGEST_PROBATION = 750
FIRST_ROW = 2
"""Line of the first row of a stream, below the header."""
BYTES = ("ec2_network_in_257a54", "ec2_network_in_5abac7", "iio_us-east-1_i-a2eb1cd9_NetworkIn")
"""Streams whose values are bytes."""
FAMILY = "anomaly"


class NabReplay(Replay):
    """Streams as they are: nothing is drawn."""

    note = "Replicates of NAB are alike: every node plays its stream as it is."


@dataclass(frozen=True)
class Stream:
    """One file."""

    path: Path
    timestamp: NDArray[np.int64]
    """Milliseconds since 1970 `[n_rows]`."""
    value: NDArray[np.float64]
    window: NDArray[np.int64]
    """Number of the anomaly window that a row lies in, -1 in none `[n_rows]`."""


def replay_nab(config: ModelConfig, streams: Streams) -> Replay:
    """Return the replay of the streams, number i modulo their count at node i.

    Raises:
        DataError: a file is missing or damaged, or a stream is too short for the steps.
    """
    settings, size = config.traffic, config.simulation
    assert isinstance(settings, NabTraffic)
    *paths, windows = nab_files(settings)
    played = [read_stream(path, windows) for path in paths[: size.nodes]]
    parts = [record_stream(stream, settings) for stream in played]
    ends = np.cumsum([len(part.label) for part in parts])
    lots = Lots.of(np.split(np.arange(ends[-1]), ends[:-1]))
    queue = Queue(lots, size, paths)
    references = [
        reference
        for stream, part, start in zip(played, parts, lots.start, strict=True)
        for reference in _windows(stream, part, int(start), size.flows_per_node)
    ]
    recording = _joined(parts)
    return NabReplay(
        config, streams, recording, queue, references=references, replicates_differ=False
    )


def nab_files(settings: NabTraffic) -> tuple[Path, ...]:
    """Return the paths of the streams, and that of the windows.

    Raises:
        DataError: no folder is named, or a file is not there.
    """
    names = [f"data/{STREAMS[name]}" for name in settings.files]
    return find_files(NAB, settings.path, [*names, WINDOWS])


def probation_rows(n_rows: int, share: float) -> int:
    """Return the length of the probationary period.

    >>> probation_rows(4_032, 0.15), probation_rows(10_000, 0.15)
    (604, 750)
    """
    return min(int(share * n_rows), LONGEST_PROBATION)


def read_stream(path: Path, windows: Path) -> Stream:
    """Return a stream with its windows.

    Raises:
        DataError: naming file, column and row of the first thing that is wrong.
    """
    table = read_table(path)
    timestamp, is_date = table.times("timestamp")
    if not is_date:
        raise table.refusal(0, "timestamp", "expected dates")
    value = table.numbers("value")
    key = "/".join(path.parts[-2:])
    require_published(path, NAB.file(f"data/{key}"))
    window = np.full(len(value), -1, dtype=np.int64)
    for number, (start, end) in enumerate(_read_windows(windows, key)):
        window[(timestamp >= start) & (timestamp <= end)] = number
    return Stream(path, timestamp, value, window)


def record_stream(stream: Stream, settings: NabTraffic) -> Recording:
    """Return a stream ready for replay.

    Raises:
        DataError: its probationary period is too short for the lags, or constant.
    """
    n_rows, lags = len(stream.value), settings.lags
    n_first = probation_rows(n_rows, settings.warmup_share)
    location, scale = stream.value[:n_first].mean(), stream.value[:n_first].std()
    number = np.arange(lags - 1, n_rows)
    pool = number[(number < n_first) & (stream.window[number] < 0)]
    if pool.size < SMALLEST_POOL or scale == 0:
        raise DataError(
            f"{stream.path}: the first {n_first} rows start detector and threshold; "
            f"traffic.lags={lags} leaves {pool.size} of them, at least {SMALLEST_POOL} that are not "
            "all alike are needed: set fewer lags or a larger traffic.warmup_share"
        )
    rest = np.arange(n_first, n_rows)
    standard = ((stream.value - location) / scale).astype(np.float32)
    n_bytes = stream.value if stream.path.stem in BYTES else np.zeros(n_rows)
    return Recording(
        path=stream.path,
        feature_names=("value", *(f"value_{k}_before" for k in range(1, lags))),
        families=(FAMILY,),
        values=standard[rest[:, None] - np.arange(lags)],
        label=(stream.window[rest] >= 0).astype(np.int16),
        owner=None,
        timestamp=stream.timestamp[rest],
        bytes_transferred=np.rint(n_bytes[rest]).astype(np.int64),
        protocol=np.full(rest.size, TCP, dtype=np.uint8),
        number=rest + FIRST_ROW,
        pool=standard[pool[:, None] - np.arange(lags)][None],
        pool_number=pool + FIRST_ROW,
    )


def _joined(parts: Sequence[Recording]) -> Recording:
    """Return several streams one after the other; short pools repeat rows, as evenly as can be."""
    n_pool = max(part.pool.shape[1] for part in parts)
    pools = [p.pool[:, np.arange(n_pool) * p.pool.shape[1] // n_pool] for p in parts]
    names = (
        "values",
        "label",
        "timestamp",
        "bytes_transferred",
        "protocol",
        "number",
        "pool_number",
    )
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return replace(parts[0], pool=np.concatenate(pools), **joined)


def _windows(stream: Stream, part: Recording, start: int, n_flows: int) -> list[Reference]:
    """Return the windows that are replayed as targets, with their rows (counted from `start`)."""
    window = stream.window[part.number - FIRST_ROW]
    found = []
    for k in np.unique(window[window >= 0]).tolist():
        rows = np.flatnonzero(window == k)
        first, last = int(rows[0]) // n_flows, int(rows[-1]) // n_flows
        target = Target(f"{stream.path.stem}_{k}", 1, first, last - first + 1)
        found.append((target, rows + start))
    return found


def _read_windows(path: Path, key: str) -> list[tuple[int, int]]:
    """Return start and end of each window of a stream, milliseconds since 1970.

    The file may hold more streams than are known here, as the one of the benchmark does.
    """
    import pandas as pd  # half a second and 60 MB that no other traffic needs

    published = NAB.file(WINDOWS)
    try:
        content = kept_keys(path.read_bytes(), published.keys)
        windows = json.loads(content)[key]
        dates = pd.to_datetime(np.ravel(windows), format="ISO8601", utc=True)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} has no anomaly windows of {key}: damaged? ({error})") from error
    require_digest(path, hashlib.sha256(content).hexdigest(), published)
    times = dates.as_unit("ms").astype("int64").to_numpy().reshape(-1, 2).tolist()
    return [(start, end) for start, end in times]
