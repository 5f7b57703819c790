"""An experiment's results as files: summary.json, config.yaml, Parquet tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sim_core.bounded_queue import QueueCounts
from sim_core.comparison.report import Report
from sim_core.config import ExperimentConfig
from sim_core.operations import OperationFigures
from sim_core.results import Findings, Interval, RunRecord, runs_frame
from sim_core.stopping import stops_of
from sim_core.workspace import write_whole
from tasks.occupancy import Utilisation

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = {"number", "point_index", "config", "claimed_at", "published"}
SHOWN = [part.name for part in fields(RunRecord) if part.name not in HIDDEN]


def write_results(
    folder: Path,
    config: ExperimentConfig,
    findings: Findings,
    *,
    name: str,
    key: str,
    state: str,
    counts: dict[str, int],
    wall_seconds: float,
    environment: dict[str, Any],
    validation: dict[str, Any] | None,
    queues: Mapping[str, QueueCounts],
    adjustments: Sequence[Mapping[str, Any]],
    utilisation: Utilisation | None = None,
    operations: Mapping[str, OperationFigures] = MappingProxyType({}),
    issues: Sequence[Mapping[str, Any]] = (),
    comparison: Report | None = None,
) -> list[Path]:
    """Write the files of an experiment, each whole or not at all, and return them."""
    points = {p["label"]: p for p in findings.point_descriptions}
    stops = stops_of(findings.records, findings.labels, config.experiment.until)
    settings = {label: p["settings"] for label, p in points.items()}
    summary = {
        "experiment": name,
        "key": key,
        "state": state,
        "counts": counts,
        "wall_seconds": wall_seconds,
        "environment": environment,
        "validation": validation,
        "queues": _figures(queues),
        "adaptation": list(adjustments),
        "utilisation": asdict(utilisation) if utilisation else None,
        "operations": {operation: asdict(found) for operation, found in operations.items()},
        "issues": list(issues),
        "runs": [_run(record) for record in findings.records],
        "points": [
            {
                "label": label,
                "point": p["values"],
                "n": _n_runs(intervals),
                "metrics": _metrics(intervals),
                "until": asdict(stops[label]) if label in stops else None,
            }
            for (label, p), intervals in zip(points.items(), findings.points, strict=True)
        ],
        "comparisons": comparison.rows() if comparison else [],
    }
    resolved = {**config.model_dump(mode="json"), "points": settings}
    files: dict[str, str | bytes] = {
        "config.yaml": OmegaConf.to_yaml(OmegaConf.create(resolved)),
        "summary.json": json.dumps(summary, indent=2, allow_nan=False) + "\n",
    }
    if comparison is not None:
        compared = {"experiments": [name], **comparison.to_json()}
        files["comparison.json"] = json.dumps(compared, indent=2, allow_nan=False) + "\n"
    for file, content in files.items():
        write_whole(folder / file, content)
    return [folder / file for file in files]


def write_tables(folder: Path, findings: Findings) -> list[Path]:
    """Write the tables of runs and of steps, and return their files."""
    tables = {"runs.parquet": runs_frame(findings.records), "steps.parquet": findings.steps}
    for file, frame in tables.items():
        write_whole(folder / file, parquet(frame))
    return [folder / file for file in tables]


def renew_queues(folder: Path, queues: Mapping[str, QueueCounts]) -> None:
    """Write into summary.json what went through the queues until now."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text("utf-8")) | {"queues": _figures(queues)}
    write_whole(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _figures(queues: Mapping[str, QueueCounts]) -> dict[str, dict[str, int]]:
    return {name: asdict(counts) for name, counts in queues.items()}


def _run(record: RunRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in SHOWN}


def _n_runs(intervals: dict[str, Interval]) -> int:
    return max((found.n for found in intervals.values()), default=0)


def _metrics(intervals: dict[str, Interval]) -> dict[str, dict[str, Any]]:
    return {name: asdict(found) for name, found in intervals.items()}


def parquet(frame: pd.DataFrame) -> bytes:
    """Return a table as a file of Parquet."""
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
