"""Benchmark files: what `quorumlab benchmark` writes, and reads again to compare."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sim_core.config import describe_validation
from sim_core.errors import ConfigurationError, DataError
from sim_core.workspace import write_whole

Finite = Annotated[float, Field(allow_inf_nan=False)]
LARGEST_FILE = 64 << 20
"""Bytes; a file with a hundred cases of a thousand samples has four million."""
RATE_UNITS = ("/s", "/min")
OF_SIZE = ("MB", "bytes", "B")
"""Units of what is not slow but large."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=False)


class Row(_Part):
    """The samples of one case, as far as comparing needs them."""

    name: str = Field(min_length=1, max_length=200)
    unit: str = Field(max_length=50)
    samples: tuple[Finite, ...] = ()
    pace_ms: tuple[Finite, ...] = ()
    """Of the machine around each sample; files of earlier versions have none."""
    ratio_samples: dict[str, tuple[Finite, ...]] = {}
    """By the other case's name; files of earlier versions have none."""
    yardstick: bool = False

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith(RATE_UNITS)

    @property
    def paced(self) -> tuple[float, ...]:
        """The samples as they would be on a machine of pace 1 ms; none where its pace is not known.

        What is no time, such as memory, does not depend on the pace.
        """
        if len(self.pace_ms) != len(self.samples) or min(self.pace_ms, default=0) <= 0:
            return ()
        pairs = zip(self.samples, self.pace_ms, strict=True)
        if self.is_rate:
            return tuple(value * pace for value, pace in pairs)
        if self.unit in OF_SIZE:
            return self.samples
        return tuple(value / pace for value, pace in pairs)


class Report(_Part):
    """A benchmark file."""

    suite: str
    commit: str | None = None
    at: str | None = None
    machine: dict[str, Any]
    settings: dict[str, Any] = {}
    results: tuple[Row, ...]

    @property
    def label(self) -> str:
        """What it is called in a comparison.

        >>> Report(suite="step", commit="0f4ea13" + 33 * "0", machine={}, results=()).label
        '0f4ea130'
        """
        return (self.commit or "no commit")[:8]


def read_report(path: Path) -> Report:
    """Return what a benchmark file says.

    Raises:
        DataError: it is missing, no JSON, or no benchmark file.
    """
    again = "write it with `quorumlab benchmark --output FILE.json`"
    if path.suffix == ".csv":
        raise DataError(
            f"{path}: CSV does not say which machine and suite; take the .json: {again}"
        )
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(
                f"{path}: larger than {LARGEST_FILE >> 20} MB, which no benchmark file is"
            )
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; {again}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); {again}") from error
    try:
        report = Report.model_validate(content)
    except ValidationError as error:
        reason = describe_validation(error).removeprefix("invalid configuration: ")
        raise DataError(f"{path}: is no benchmark file: {reason}; {again}") from error
    if not any(row.samples for row in report.results):
        raise DataError(f"{path}: holds no samples; {again}")
    return report


def check_output(path: Path | None) -> None:
    """Check the name of a file to write, before anything is measured.

    Raises:
        ConfigurationError: it ends neither in .json nor in .csv.
    """
    if path is not None and path.suffix not in (".json", ".csv"):
        raise ConfigurationError(f"--output {path}: the name must end in .json or .csv")


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON, or as CSV with a row per sample.

    Raises:
        ConfigurationError: the name ends otherwise.
    """
    heads = ("suite", "name", "unit", "iteration", "value")
    rows = (
        (report["suite"], result["name"], result["unit"], index, value)
        for result in report["results"]
        for index, value in enumerate(result["samples"])
    )
    write_table(report, heads, rows, path)


def write_table(
    document: Mapping[str, Any], heads: Sequence[str], rows: Iterable[Sequence[Any]], path: Path
) -> None:
    """Write a document as JSON, or its rows as CSV, as the name of the file says.

    Raises:
        ConfigurationError: it ends otherwise.
    """
    check_output(path)
    if path.suffix == ".json":
        write_whole(path, json.dumps(document, indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(heads)
    writer.writerows(rows)
    write_whole(path, text.getvalue())
