"""A metric over a factor that is a number: means with intervals, a curve per value of another factor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tasks.plots.canvas import NoPicture, Picture
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
from tasks.plots.factors import Factor, Spot, factors_of
from tasks.plots.style import short, words_of

MOST_CURVES = 8
LOGARITHMIC = 100.0
"""Ratio of the largest to the smallest value from which on the axis is logarithmic."""
SIDE = 0.03
"""Share of the axis that stays free at both ends."""
WHISKER = 3.0


def draw_factor_curves(metric: str, spots: Sequence[Spot]) -> Picture | NoPicture:
    """Return a metric over the factor with the most numbers, a curve per value of the other factor.

    Args:
        metric: What is drawn.
        spots: All points.
    """
    factors = factors_of(spots)
    numbers = [f for f in factors if f.is_number and len(f.levels) > 2]
    if not numbers or len(factors) > 2:
        return NoPicture(
            "curves over a factor need one of three numbers or more, and at most one other factor"
        )
    across = max(numbers, key=lambda factor: len(factor.levels))
    other = next((factor for factor in factors if factor is not across), None)
    names = other.levels if other is not None else (None,)
    if len(names) > MOST_CURVES:
        return NoPicture(
            f"{len(names)} values of {other.name if other else ''} would hide each other"
        )
    is_log = _is_logarithmic(across)
    every = {
        _name(metric, other, level): _curve(metric, spots, across, other, level, is_log=is_log)
        for level in names
    }
    curves = {name: curve for name, curve in every.items() if len(curve)}
    if not curves or max(map(len, curves.values())) < 2:
        return NoPicture(f"{metric} is defined at fewer than two values of {across.name}")
    canvas = canvas_for(list(curves))
    frame = draw_frame(canvas, metric, curves, margin=SIDE)
    places = [(_place(level, is_log=is_log), across.word(level)) for level in across.levels]
    draw_across(frame, places, across.name)
    for index, curve in enumerate(curves.values()):
        _draw_curve(frame, curve, index, len(curves))
    draw_names(frame, curves)
    notes = ["mean and 95 % interval over replicates"]
    notes += ["logarithmic axis"] if is_log else []
    empty = [name for name in every if name not in curves]
    notes += [f"undefined: {', '.join(map(short, empty))}"] if empty else []
    alternative = _describe(metric, across, curves, is_log=is_log)
    title = f"{words_of(metric).title} over {across.name}"
    svg = canvas.as_svg(alternative)
    return Picture(f"over_{metric}", title, alternative, svg, "; ".join(notes))


def _is_logarithmic(factor: Factor) -> bool:
    low, high = factor.levels[0], factor.levels[-1]
    return bool(low > 0 and high / low >= LOGARITHMIC)


def _place(level: float, *, is_log: bool) -> float:
    return math.log10(level) if is_log else float(level)


def _name(metric: str, other: Factor | None, level: object) -> str:
    """Return what a curve is called: a value, and of what where it is but a number."""
    if other is None:
        return metric
    word = other.word(level)
    return f"{other.name} {word}" if other.is_number else word


def _curve(
    metric: str,
    spots: Sequence[Spot],
    across: Factor,
    other: Factor | None,
    level: object,
    *,
    is_log: bool,
) -> Curve:
    """Return the means at one value of the other factor, in order of the axis."""
    rows = []
    for index, spot in enumerate(spots):
        mean = spot.mean(metric)
        if mean is None or (other is not None and other.values[index] != level):
            continue
        found = spot.intervals[metric]
        low = math.nan if found.ci_low is None else found.ci_low
        high = math.nan if found.ci_high is None else found.ci_high
        rows.append((_place(across.values[index], is_log=is_log), mean, low, high))
    return np.array(sorted(rows), dtype=np.float64).reshape(-1, 4)


def _draw_curve(frame: Frame, curve: Curve, index: int, n_curves: int) -> None:
    """Draw a line with a marker and a bar at each mean, beside those of the other curves."""
    shift = 3.0 * (index - (n_curves - 1) / 2)
    look = f"line s{colour_of(index)}"
    means = [(x + shift, y) for x, y in (frame.at(row[0], row[1]) for row in curve)]
    frame.canvas.path(means, look, dash_of(index))
    for (x, y), row in zip(means, curve, strict=True):
        if np.isfinite(row[2:]).all():
            ends = [frame.at(row[0], value)[1] for value in row[2:]]
            frame.canvas.line((x, ends[0]), (x, ends[1]), look)
            for end in ends:
                frame.canvas.line((x - WHISKER, end), (x + WHISKER, end), look)
        frame.canvas.mark((x, y), "dot", f"s{colour_of(index)} f{colour_of(index)}")


def _describe(metric: str, across: Factor, curves: dict[str, Curve], *, is_log: bool) -> str:
    def at(place: float) -> str:
        return f"{10**place if is_log else place:.3g}"

    told = "; ".join(
        f"{name}: " + ", ".join(f"{mean:.3g} at {at(place)}" for place, mean, _, _ in curve)
        for name, curve in curves.items()
    )
    return f"{metric} over {across.name}. {told}."
