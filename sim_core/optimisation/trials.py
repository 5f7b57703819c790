"""What the runs of a point say: means over replicates, constraints kept or not, or no result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim_core.metrics import Metrics
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.space import Row
from sim_core.results import Interval, RunRecord, interval


@dataclass(frozen=True)
class Trial:
    """A point that was tried."""

    number: int
    """From 1, in the order in which points were chosen."""
    label: str
    row: Row
    """Its values of the factors."""
    means: Mapping[str, Interval]
    """Per metric of the aim, over the replicates of the search; nothing where it failed."""
    values: tuple[float, ...] | None
    """Per goal the mean; None where it failed."""
    excess: tuple[float, ...] = ()
    """Per constraint by how much it is broken; 0 or less where it is kept."""
    reason: str | None = None
    """Why it failed."""

    @property
    def is_feasible(self) -> bool:
        """Whether it has a result that keeps all constraints."""
        return self.values is not None and all(part <= 0 for part in self.excess)


def trial_of(
    number: int, label: str, row: Row, records: Sequence[RunRecord], aim: Aim, replicates: int
) -> Trial:
    """Return what the runs of a point say.

    Args:
        number: Of the trial, from 1.
        label: Of the point.
        row: Its values of the factors.
        records: Runs of the point.
        aim: What is looked at.
        replicates: How many the search counts, from 0; those beyond are kept for the end.
    """
    mine = {r.replicate: r for r in records if r.replicate < replicates}
    reason = _failure([mine.get(replicate) for replicate in range(replicates)])
    found = [mine[replicate].metrics for replicate in range(replicates)] if not reason else []
    reason = reason or _undefined(found, aim)
    if reason is not None:
        return Trial(number, label, row, {}, None, reason=reason)
    means = {metric: interval([m[metric] for m in found]) for metric in aim.metrics}
    return Trial(
        number=number,
        label=label,
        row=row,
        means=means,
        values=tuple(_mean(means[goal.metric]) for goal in aim.goals),
        excess=tuple(c.excess(_mean(means[c.metric])) for c in aim.constraints),
    )


def _failure(records: Sequence[RunRecord | None]) -> str | None:
    """Return why there is no result; what validation quarantines later is told all the same."""
    without = [r for r in records if r is None or not r.metrics]
    if not without:
        return None
    error = next((r.error for r in without if r is not None and r.error), None)
    count = f"{len(without)} of {len(records)} runs without a result"
    return f"{count}: {error}" if error else count


def _undefined(found: Sequence[Metrics], aim: Aim) -> str | None:
    for metric in aim.metrics:
        missing = sum(metrics.get(metric) is None for metrics in found)
        if missing:
            return f"{metric} is undefined in {missing} of {len(found)} runs"
    return None


def _mean(found: Interval) -> float:
    assert found.mean is not None
    return found.mean


def values_of(trial: Trial, keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of a trial by the keys of the factors."""
    return dict(zip(keys, trial.row, strict=True))
