"""Which runs are compared with which, and which are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim_core.comparison.differences import Values
from sim_core.metrics import Metrics
from sim_core.results import RunRecord

LARGEST = 1e100
"""No metric is as large; squares of what is larger overflow."""

Key = tuple[int, int]
"""Root seed and replicate: what says which random numbers a run has."""


@dataclass(frozen=True)
class Sample:
    """Values of a point and of its baseline, pair by pair or apart."""

    values: Values
    baseline: Values
    is_paired: bool
    n_undefined: int


@dataclass(frozen=True)
class LeftOut:
    """Runs that no comparison counts."""

    point: str
    n: int
    reason: str

    def __str__(self) -> str:
        return f"{self.point}: {self.n} {'run' if self.n == 1 else 'runs'} {self.reason}"


def finished_runs(records: Iterable[RunRecord]) -> dict[str, dict[Key, Metrics]]:
    """Return the metrics of finished runs, by label of their point, seed and replicate."""
    found: dict[str, dict[Key, Metrics]] = {}
    for record in records:
        if record.state == "finished":
            runs = found.setdefault(record.label, {})
            runs[record.seed, record.replicate] = record.metrics
    return found


def sample(runs: Mapping[Key, Metrics], baseline: Mapping[Key, Metrics], metric: str) -> Sample:
    """Return the values to compare: in pairs if any replicate has its like in the baseline.

    Runs of one seed and replicate share their random numbers, and runs of another seed or
    replicate are independent; so points without common replicates are two samples.
    """
    common = sorted(runs.keys() & baseline.keys())
    if common:
        pairs = [(runs[key].get(metric), baseline[key].get(metric)) for key in common]
        known = [(a, b) for a, b in pairs if _is_known(a) and _is_known(b)]
        both = np.array(known, dtype=np.float64).reshape(-1, 2)
        return Sample(both[:, 0], both[:, 1], True, len(pairs) - len(known))
    values, missing = _known(runs, metric)
    others, missing_there = _known(baseline, metric)
    return Sample(values, others, False, missing + missing_there)


def _known(runs: Mapping[Key, Metrics], metric: str) -> tuple[Values, int]:
    values = [runs[key].get(metric) for key in sorted(runs)]
    known = [value for value in values if _is_known(value)]
    return np.array(known, dtype=np.float64), len(values) - len(known)


def _is_known(value: float | None) -> bool:
    return value is not None and abs(value) < LARGEST


def left_out(records: Sequence[RunRecord], baseline: str) -> list[LeftOut]:
    """Return the runs that are not compared, and why, in order of points."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        if record.state != "finished":
            found.setdefault((record.label, record.state), []).append(record)
    gaps = [
        LeftOut(label, len(runs), _reason(state, runs)) for (label, state), runs in found.items()
    ]
    return gaps + _without_partner(finished_runs(records), baseline)


def _reason(state: str, runs: Sequence[RunRecord]) -> str:
    error = next((run.error for run in runs if run.error), None)
    word = state if state in ("failed", "quarantined") else f"not finished ({state})"
    return f"{word}: {error}" if error else word


def _without_partner(finished: Mapping[str, Mapping[Key, Metrics]], baseline: str) -> list[LeftOut]:
    """Return the finished runs whose like in the baseline has no result, and the other way round."""
    base = finished.get(baseline, {})
    found = []
    for label, runs in finished.items():
        common = len(runs.keys() & base.keys())
        if label == baseline or not common:
            continue
        reason = "without a finished run of the same replicate at {}"
        if len(runs) > common:
            found.append(LeftOut(label, len(runs) - common, reason.format(baseline)))
        if len(base) > common:
            found.append(LeftOut(baseline, len(base) - common, reason.format(label)))
    return found
