"""What MLflow's runs are to hold, worked out from the ledger's records alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim_core.comparison.report import Report
from sim_core.identity import content_hash
from sim_core.results import RESOURCE_METRICS, Interval, RunRecord
from tasks.mlflow_notes import LONGEST_NOTE, describe, describe_comparison

CURVES = {
    "steps/f1": "f1",
    "steps/precision": "precision",
    "steps/recall": "recall",
    "steps/mcc": "mcc",
    "steps/auroc": "auroc",
    "steps/benign_blocked_share": "benign_blocked_share",
    "steps/blacklist_coverage": "blacklist_coverage",
    "steps/messages_sent": "messages_sent",
    "steps/reputation_honest": "reputation_honest",
    "steps/reputation_dishonest": "reputation_dishonest",
    "steps/true_confirmations_total": "true_confirmations",
    "steps/false_confirmations_total": "false_confirmations",
}
"""A child's curves and the columns that they come from; names that end in `_total` are sums since
step 0. Their prefix keeps them apart from summaries, which MLflow's tables show."""
LONGEST_CURVE = 2_000
"""Points of a curve; of a longer run they are taken evenly (all steps are in steps.parquet)."""
LONGEST_PARAM = 500
DATA_CONTEXT = "traffic"
"""What MLflow shows that data files are used for."""
SUMMARY_STEP = 0
"""MLflow draws metrics that have no step but 0 as bars, side by side for the runs compared."""
PUBLISHED_STATES = {"finished": "FINISHED", "failed": "FAILED", "quarantined": "FAILED"}
"""States of runs that are published, and MLflow's status for them."""


class DataFile(NamedTuple):
    """A data file that a run reads, as MLflow knows data sets."""

    name: str
    digest: str
    """The first 32 digits of its SHA-256; MLflow keeps 36 characters."""

    @property
    def source(self) -> str:
        """Where it is from: its name alone, as folders differ from machine to machine."""
        return json.dumps({"uri": self.name})


class Point(NamedTuple):
    """A defined value of a metric at one step."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class Content:
    """All that one MLflow run is to hold, but for curves."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    summary: dict[str, float]
    start_ms: int
    """When the run was claimed first, as the ledger has it: origin of all timestamps."""
    end_ms: int
    status: str
    data: tuple[DataFile, ...] = ()
    """What it reads."""

    def all_tags(self) -> dict[str, str]:
        """Return the tags, among them one that says what the run holds once it is complete."""
        steady = {k: v for k, v in self.summary.items() if k not in RESOURCE_METRICS}
        held = [self.tags["quorumlab.state"], self.tags.get("quorumlab.ledger_head"), self.params]
        return {
            "mlflow.runName": self.name,
            "mlflow.source.name": "quorumlab",
            "mlflow.source.type": "LOCAL",
            **self.tags,
            "quorumlab.content": content_hash([held, steady])[:16],
        }


def summary_points(about: Content) -> list[Point]:
    """Return the summary as points of the run's start."""
    at = about.start_ms + SUMMARY_STEP
    return [Point(key, value, at, SUMMARY_STEP) for key, value in about.summary.items()]


def child_content(record: RunRecord, name: str, parent: str, verdict: str) -> Content:
    """Return what the child of a run holds; a run without a result has no summary.

    Quarantined runs have no metrics at all, so that no chart or group of MLflow counts them in.
    """
    start = round(record.claimed_at * 1000)
    tags = {
        "mlflow.parentRunId": parent,
        "quorumlab.kind": "run",
        "quorumlab.experiment": name,
        "quorumlab.run_key": record.run_id,
        "quorumlab.point": record.label,
        "quorumlab.replicate": str(record.replicate),
        "quorumlab.state": record.state,
        "quorumlab.ledger_head": record.ledger_head or "",
        "quorumlab.validation": verdict,
    }
    if record.error is not None:
        tags["quorumlab.error"] = record.error[:5000]
    params = {"point": record.label, "replicate": str(record.replicate)}
    summary = {"f1": record.metrics.get("f1"), **record.metrics}  # MLflow compares by the first
    return Content(
        name=f"{record.label} / {record.replicate}",
        tags=tags,
        params=params | run_params(record),
        summary=_defined(summary) if record.state == "finished" else {},
        start_ms=start,
        end_ms=start + round(record.wall_seconds * 1000),
        status=PUBLISHED_STATES[record.state],
        data=data_files(record),
    )


def parent_content(
    name: str,
    key: str,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    verdict: str,
    comparison: Report | None = None,
) -> Content:
    """Return what the parent holds: common parameters, means and intervals of points, counts."""
    labels = {record.point_index: record.label for record in records}
    summary: dict[str, float | None] = {}
    for index, label in sorted(labels.items()):
        for metric, found in points[index].items():
            if metric in RESOURCE_METRICS:
                continue
            summary[f"{label}/{metric}"] = found.mean
            summary[f"{label}/{metric}_ci_low"] = found.ci_low
            summary[f"{label}/{metric}_ci_high"] = found.ci_high
    states = [record.state for record in records]
    counts = {s: states.count(s) for s in PUBLISHED_STATES} | {"planned": len(states)}
    bad = counts["failed"] + counts["quarantined"]
    waiting = len(states) - bad - counts["finished"]
    state = "interrupted" if waiting else "failed" if bad else "finished"
    note = describe(key, records, points, verdict)
    tags = {
        "quorumlab.kind": "experiment",
        "quorumlab.experiment": name,
        "quorumlab.key": key,
        "quorumlab.state": state,
        "quorumlab.validation": verdict,
        "mlflow.note.content": note + describe_comparison(comparison, LONGEST_NOTE - len(note)),
    }
    claimed = [record for record in records if record.claimed_at]
    return Content(
        name=name,
        tags=tags,
        params=common_params(records),
        summary=_defined(summary | {f"runs/{s}": float(n) for s, n in counts.items()}),
        start_ms=round(1000 * min((r.claimed_at for r in claimed), default=0)),
        end_ms=round(1000 * max((r.claimed_at + r.wall_seconds for r in claimed), default=0)),
        status={"interrupted": "KILLED", "failed": "FAILED", "finished": "FINISHED"}[state],
        data=tuple(sorted({file for record in records for file in data_files(record)})),
    )


def data_files(record: RunRecord) -> tuple[DataFile, ...]:
    """Return the data files that a run reads; none where its traffic is made up."""
    return tuple(DataFile(name, sha256[:32]) for name, sha256 in record.config.get("data", ()))


def run_params(record: RunRecord) -> dict[str, str]:
    """Return a run's configuration with seed and steps, as parameters."""
    simulation = {**record.config["simulation"], "steps": record.horizon}
    return flat_params({**record.config, "simulation": simulation, "seed": record.seed})


def common_params(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return the parameters that all points have in common, their names and their replicates."""
    first = {record.point_index: record for record in reversed(records)}
    all_params = [run_params(record) for record in first.values()]
    common = {
        key: value
        for key, value in (all_params[0] if all_params else {}).items()
        if all(params.get(key) == value for params in all_params)
    }
    labels = ", ".join(first[index].label for index in sorted(first))
    replicates = len({record.replicate for record in records})
    return common | {"points": shorten(labels), "replicates": str(replicates)}


def _defined(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that are defined: MLflow would show others as 0 or 1.8e308."""
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}


def flat_params(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as MLflow's parameters, with dots between levels; without None.

    >>> flat_params({"detector": {"kind": "zscore", "learn": True}, "x": None, "n": 3})
    {'detector': 'zscore', 'detector.learn': 'true', 'n': '3'}
    """
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = prefix if key == "kind" else f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            flat |= flat_params(value, name)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[re.sub(r"[^\w\-. :/]", "_", name)] = shorten(text)
    return flat


def shorten(text: str) -> str:
    """Return a text of at most LONGEST_PARAM characters; different texts stay different.

    >>> len(shorten("x" * 900)), shorten("short")
    (500, 'short')
    """
    if len(text) <= LONGEST_PARAM:
        return text
    end = f"… sha256:{content_hash(text)[:12]}"
    return text[: LONGEST_PARAM - len(end)] + end


def curve_points(columns: Mapping[str, NDArray[Any]], start_ms: int) -> list[Point]:
    """Return the points of all curves of one run, each at its start plus the step.

    Args:
        columns: `step` and the columns of CURVES, one value per step, ascending.
        start_ms: When the run began.
    """
    steps = columns["step"]
    points: list[Point] = []
    for name, column in CURVES.items():
        values = columns[column].astype(np.float64)
        if name.endswith("_total"):
            values = np.cumsum(values)
        places = np.flatnonzero(np.isfinite(values))
        if len(places) > LONGEST_CURVE:
            places = places[np.linspace(0, len(places) - 1, LONGEST_CURVE).astype(int)]
        pairs = zip(steps[places].tolist(), values[places].tolist(), strict=True)
        points += [Point(name, value, start_ms + step, step) for step, value in pairs]
    return points
