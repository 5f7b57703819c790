"""Replay of any labelled table."""

from __future__ import annotations

from pathlib import Path

from sim_core.config import ModelConfig, TableColumns, TableTraffic
from sim_core.errors import DataError
from sim_core.randomness import Streams
from sim_core.traffic.replay import Replay, replay_rows
from sim_core.traffic.rows import read_rows

NPZ_COLUMNS = TableColumns(label="y")


def replay_table(config: ModelConfig, streams: Streams) -> Replay:
    """Return the replay of the table that `traffic.path` names.

    Raises:
        DataError: a file is missing or damaged, or the columns are not those that are asked for.
    """
    settings = config.traffic
    assert isinstance(settings, TableTraffic)
    path, *others = table_files(settings)
    columns = settings.columns
    if columns is None:
        if path.suffix.lower() != ".npz":
            raise DataError(
                f"{path}: which column has the labels? Set traffic.columns.label (only npz files "
                "can do without: X and y)"
            )
        columns = NPZ_COLUMNS
    warmup = read_rows(others[0], columns) if others else None
    return replay_rows(config, settings, streams, read_rows(path, columns), warmup)


def table_files(settings: TableTraffic) -> tuple[Path, ...]:
    """Return the path of the replayed file, then that of the warm-up file if there is one.

    Raises:
        DataError: no file is named, or it is not there.
    """
    if settings.path is None:
        raise DataError("traffic=table needs a file: set traffic.path=FILE (CSV, Parquet or npz)")
    named = {"traffic.path": settings.path, "traffic.warmup_path": settings.warmup_path}
    paths = []
    for key, name in named.items():
        if name is None:
            continue
        path = Path(name).expanduser()
        if not path.is_file():
            raise DataError(f"data file not found: {path.absolute()}. Set {key} to a file")
        paths.append(path)
    return tuple(paths)
