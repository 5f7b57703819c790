"""A metric over the steps of runs: a mean with its interval for each of a few points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim_core.comparison.pairing import LARGEST
from sim_core.comparison.verdicts import Comparison
from tasks.plots.canvas import NoPicture, Picture, ticks
from tasks.plots.curves import (
    Curve,
    Frame,
    canvas_for,
    colour_of,
    dash_of,
    draw_across,
    draw_frame,
    draw_names,
)
from tasks.plots.step_means import CUMULATIVE, OF_ATTACKS, step_means
from tasks.plots.style import short, words_of

if TYPE_CHECKING:
    import pandas as pd

HAVE_CURVES = (
    "f1", "recall", "precision", "auroc", "immunity_share", "true_confirmations",
    "false_confirmations", "benign_blocked_share", "messages_sent", "mcc",
)  # fmt: skip
MOST_CURVES = 8
MOST_PLACES = 300
"""Steps of a curve that are drawn."""


def the_clearest(
    labels: Sequence[str], comparisons: Sequence[Comparison], baseline: str
) -> list[str]:
    """Return at most eight points: the baseline and those that differ from it the surest.

    Without comparisons, the first.
    """
    if len(labels) <= MOST_CURVES:
        return list(labels)
    surest: dict[str, float] = {}
    for comparison in comparisons:
        p = comparison.p_adjusted
        doubt = 2.0 if p is None else p
        surest[comparison.point] = min(doubt, surest.get(comparison.point, 3.0))
    ranks = {baseline: -1.0} | surest
    chosen = sorted(labels, key=lambda label: ranks.get(label, 3.0))[:MOST_CURVES]
    return [label for label in labels if label in chosen]


def curve_of(rows: pd.DataFrame, metric: str) -> Curve:
    """Return mean and t interval of a metric over the replicates of one point, per step.

    Undefined values are left out: a step where no replicate has one is no part of the curve.
    """
    table = step_means(rows, metric)
    table = table[table["mean"].abs() < LARGEST]
    steps = table.index.to_numpy(dtype=np.float64)
    return np.column_stack([steps, table.to_numpy(dtype=np.float64)])


def draw_step_curves(
    metric: str, steps: pd.DataFrame, labels: Sequence[str], n_points: int
) -> Picture | NoPicture:
    """Return a metric over steps, a curve with its 95 % band for each of some points.

    Args:
        metric: A column of `steps`.
        steps: Frame of `sim_core.results.steps_frame`, of finished runs.
        labels: Points to draw, in order.
        n_points: How many there are; those that are not drawn are counted below the picture.
    """
    if metric not in steps:
        return NoPicture(f"{metric} is a figure of whole runs, without a value for each step")
    all_curves = {label: curve_of(steps[steps["label"] == label], metric) for label in labels}
    curves = {label: curve for label, curve in all_curves.items() if len(curve)}
    if not curves or max(len(curve) for curve in curves.values()) < 2:
        return NoPicture(f"{metric} is defined at fewer than two steps: there is no curve")
    canvas = canvas_for(list(curves))
    frame = draw_frame(canvas, metric, curves, is_sum=metric in CUMULATIVE)
    draw_across(frame, ticks(frame.across.low, frame.across.high, 6), "step")
    for index, curve in enumerate(curves.values()):
        _draw_curve(frame, curve, index)
    draw_names(frame, curves)
    notes = [_counted(steps, curves)]
    if metric in OF_ATTACKS:
        notes.append("steps without attacks are left out")
    if n_points > len(labels):
        notes.append(f"{n_points - len(labels)} of {n_points} points are left out")
    empty = [label for label in all_curves if label not in curves]
    notes += [f"undefined: {', '.join(map(short, empty))}"] if empty else []
    title = f"{words_of(metric).title} over steps"
    alternative = _describe(metric, curves)
    svg = canvas.as_svg(alternative)
    return Picture(f"steps_{metric}", title, alternative, svg, "; ".join(notes))


def _parts(curve: Curve) -> list[Curve]:
    """Return a curve in parts without gaps, of at most some hundred places together.

    A gap is where values are missing for longer than usual; each part keeps both of its ends.
    """
    gaps = np.diff(curve[:, 0])
    usual = gaps.min() if len(gaps) else 1.0
    stride = -(-len(curve) // MOST_PLACES)
    parts = np.split(curve, np.flatnonzero(gaps > usual) + 1)
    return [np.concatenate([part[:-1:stride], part[-1:]]) for part in parts]


def _draw_curve(frame: Frame, curve: Curve, index: int) -> None:
    """Draw a band and a line, broken where values are missing for longer than usual."""
    colour = colour_of(index)
    for part in _parts(curve):
        places = [frame.at(step, mean) for step, mean, _, _ in part]
        known = part[np.isfinite(part[:, 2])]
        if len(known) > 1:
            edge = [frame.at(row[0], row[2]) for row in known]
            edge += [frame.at(row[0], row[3]) for row in known[::-1]]
            frame.canvas.area(edge, f"spread f{colour}")
        if len(places) == 1:
            (x, y), look = places[0], f"line s{colour}"
            frame.canvas.line((x - 1.5, y), (x + 1.5, y), look)
        else:
            frame.canvas.path(places, f"line s{colour}", dash_of(index))


def _counted(steps: pd.DataFrame, curves: dict[str, Curve]) -> str:
    counts = {int(steps[steps["label"] == label]["run_id"].nunique()) for label in curves}
    if counts == {1}:
        return "one replicate each"
    many = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"mean and 95 % interval over {many} replicates"


def _describe(metric: str, curves: dict[str, Curve]) -> str:
    told = "; ".join(
        f"{label}: {curve[0, 1]:.3g} at step {curve[0, 0]:.0f}, {curve[-1, 1]:.3g} at step "
        f"{curve[-1, 0]:.0f}"
        for label, curve in curves.items()
    )
    return f"{metric} over steps. {told}."
