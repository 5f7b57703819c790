"""What an experiment took while it was at work, command after command: a table in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim_core.workspace import write_whole
from tasks.sample_resources import ResourceSample
from tasks.write_results import parquet

if TYPE_CHECKING:
    import pandas as pd

FILE = "resources.parquet"
TIME, SECONDS = "time", "seconds"


def keep_history(folder: Path, samples: Sequence[ResourceSample]) -> pd.DataFrame:
    """Add the samples of a command to those of the commands before, and return all of them.

    Columns are `time` (UTC), `seconds` since the command's first sample, and each figure without
    `system/`. A table that cannot be read is begun anew: nothing depends on it.
    """
    import pandas as pd

    first = samples[0].timestamp_ms
    rows = [
        {
            TIME: pd.Timestamp(sample.timestamp_ms, unit="ms", tz="UTC"),
            SECONDS: (sample.timestamp_ms - first) / 1e3,
            **{name.removeprefix("system/"): value for name, value in sample.values.items()},
        }
        for sample in samples
    ]
    frame = pd.DataFrame(rows)
    path = folder / FILE
    if path.exists():
        try:
            frame = pd.concat([pd.read_parquet(path), frame], ignore_index=True)
        except (OSError, ValueError):
            path.unlink()
    write_whole(path, parquet(frame))
    return frame
