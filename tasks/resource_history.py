"""What an experiment took while it was at work, command after command: a table in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim_core.workspace import write_whole
from tasks.live_history import left_behind, live_files, read_live
from tasks.sample_resources import ResourceSample
from tasks.write_results import parquet

if TYPE_CHECKING:
    import pandas as pd

FILE = "resources.parquet"
TIME, SECONDS = "time", "seconds"


def keep_history(folder: Path, samples: Sequence[ResourceSample]) -> pd.DataFrame:
    """Add the samples of a command to those of the commands before, and return all of them.

    Commands that were killed are among those before. Columns are `time` (UTC), `seconds` since the
    command's first sample, and each figure without `system/`. A table that cannot be read is begun
    anew: nothing depends on it.
    """
    path, left = folder / FILE, left_behind(folder)
    frame = _joined(
        [_kept(path), *(table_of(read_live(file).samples) for file in left), table_of(samples)]
    )
    write_whole(path, parquet(frame))
    for file in left:
        file.unlink(missing_ok=True)
    return frame


def seen_history(folder: Path) -> pd.DataFrame:
    """Return all samples of an experiment, those of commands that are at work now among them."""
    live = [table_of(read_live(file).samples) for file in live_files(folder)]
    return _joined([_kept(folder / FILE), *live])


def table_of(samples: Sequence[ResourceSample]) -> pd.DataFrame:
    """Return the samples of one command as a table."""
    import pandas as pd

    return pd.DataFrame(
        {
            TIME: pd.Timestamp(sample.timestamp_ms, unit="ms", tz="UTC"),
            SECONDS: (sample.timestamp_ms - samples[0].timestamp_ms) / 1e3,
            **{name.removeprefix("system/"): value for name, value in sample.values.items()},
        }
        for sample in samples
    )


def _kept(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):  # there is none, or it is damaged
        return pd.DataFrame()


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables below each other; what is in two of them, as after a kill, is there once."""
    import pandas as pd

    there = [frame for frame in frames if not frame.empty]
    if not there:
        return pd.DataFrame()
    joined = pd.concat(there, ignore_index=True)
    return joined.drop_duplicates(TIME, ignore_index=True).sort_values(TIME, ignore_index=True)
