"""Under which conditions two sets of figures were measured: machines, their pace, settings, cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flows.benchmarks.files import Report
from flows.benchmarks.machine import differing

WORTH_A_NOTE = 0.05
LARGEST_PACE_CHANGE = 0.3
"""Of the machine: beyond it, how much longer samples take does not follow from its pace any more."""


def judges_times(before: Report, now: Report) -> bool:
    """Return whether the machine is near enough to what it was for times to say something."""
    return abs(pace_change(before, now)) <= LARGEST_PACE_CHANGE


def notes_of(before: Report, now: Report, few: Sequence[str]) -> Iterator[str]:
    """Yield what a reader of a comparison has to know.

    Args:
        before: The baseline.
        now: What is judged.
        few: Cases of too few samples.
    """
    if others := differing(before.machine, now.machine):
        yield f"the machines differ ({'; '.join(others)}): times may differ for that alone; ratios (x) hold"
    if slower := _slower_machine(pace_change(before, now)):
        yield slower
    keys = ("workers", "agents", "steps", "cache_mb", "runs")
    for key in keys:
        one, two = before.settings.get(key), now.settings.get(key)
        if before.settings and now.settings and one != two:
            yield f"measured with other settings: {key} {one} and {two}"
    old, new = ({row.name for row in report.results} for report in (before, now))
    if missing := sorted(old ^ new):
        yield f"on one side only, not compared: {', '.join(missing)}"
    if few:
        yield f"so few samples that no difference could be shown: {', '.join(few)}; raise --repeat"


def _slower_machine(change: float) -> str | None:
    """Return in words by how much the machine's own pace has changed; None where by little."""
    if abs(change) < WORTH_A_NOTE:
        return None
    told = f"the machine itself was {abs(change):.0%} ".replace("%", " %")
    told += f"{'slower' if change > 0 else 'faster'} than for the baseline"
    if abs(change) > LARGEST_PACE_CHANGE:
        told += ": times are not judged, only ratios; measure again when it is as quiet"
    return told


def pace_change(before: Report, now: Report) -> float:
    """Return by which share the machine itself has become slower; 0 where that is not known."""
    paces = [[x for row in report.results for x in row.pace_ms] for report in (before, now)]
    if not all(paces):
        return 0.0
    was, is_now = (float(np.median(pace)) for pace in paces)
    return is_now / was - 1 if was > 0 else 0.0
