"""Many factors at once: a line per point over an axis per factor (Inselberg 1985)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sim_core.comparison.wording import plain
from tasks.plots.canvas import Canvas, NoPicture, Picture, Scale
from tasks.plots.factors import Factor, Spot, factors_of
from tasks.plots.style import SHADES, short, words_of

FEWEST_FACTORS = 3
MANY_POINTS = 12
"""Points from which on fewer factors are worth it, too."""
MOST_LINES = 1_000
MANY_LINES = 300
"""Lines from which on each is thinner."""
MOST_FACTORS = 7
MOST_METRICS = 2
MOST_LEVELS = 12
"""Words on an axis."""
WIDTH, TOP, HEIGHT, LEFT = 118.0, 66.0, 240.0, 60.0
NAME_LETTERS = 15


@dataclass(frozen=True)
class Axis:
    """A vertical axis: a name, its words, and where each line crosses it."""

    name: str
    words: list[tuple[float, str]]
    heights: list[float]


def draw_parallel(
    metrics: Sequence[str], spots: Sequence[Spot], baseline: str = ""
) -> Picture | NoPicture:
    """Return all points as lines over factors and metrics, coloured by the first metric.

    Args:
        metrics: What is drawn; those without values are left out.
        spots: All points.
        baseline: Label of the point whose line is dashed and thick.
    """
    factors = factors_of(spots)
    if not factors or (len(factors) < FEWEST_FACTORS and len(spots) <= MANY_POINTS):
        few = f"{FEWEST_FACTORS} factors that vary, or more than {MANY_POINTS} points"
        return NoPicture(f"lines over factors need {few}")
    shown = [m for m in metrics if any(s.mean(m) is not None for s in spots)][:MOST_METRICS]
    if not shown:
        return NoPicture("no metric is defined at any point")
    drawn = [spot for spot in spots if all(spot.mean(metric) is not None for metric in shown)]
    undefined, drawn = len(spots) - len(drawn), drawn[:MOST_LINES]
    if not drawn:
        return NoPicture(f"no point has values of both {' and '.join(shown)}")
    named = {factor.name: factor for factor in factors_of(drawn)}
    used = list(named.values())[:MOST_FACTORS]
    axes = [_factor_axis(factor) for factor in used] + [_metric_axis(m, drawn) for m in shown]
    canvas = Canvas(2 * LEFT + WIDTH * (len(axes) - 1), TOP + HEIGHT + 18)
    title = f"{words_of(shown[0]).title} over all factors"
    canvas.text((0, 8), title, "title")
    _draw_lines(canvas, axes, drawn, shown[0], baseline)
    for index, axis in enumerate(axes):
        _draw_axis(canvas, index, axis, is_metric=index >= len(used))
    notes = [f"a line per point, coloured by {shown[0]}: low is dark, high is light"]
    notes += ["dashed: the baseline"] if any(s.label == baseline for s in drawn) else []
    notes += [f"{undefined} points are undefined"] if undefined else []
    rest = len(spots) - undefined - len(drawn)
    notes += [f"the first {len(drawn)} points, {rest} more are left out"] if rest else []
    left_out = list(named)[MOST_FACTORS:]
    notes += [f"factors left out: {', '.join(map(short, left_out))}"] if left_out else []
    alternative = _describe(shown, drawn, used)
    svg = canvas.as_svg(alternative)
    return Picture(f"factors_{shown[0]}", title, alternative, svg, "; ".join(notes))


def _factor_axis(factor: Factor) -> Axis:
    levels = factor.levels
    if factor.is_number:
        scale = Scale(levels[0], levels[-1], TOP + HEIGHT, TOP)
        few: Sequence[Any] = levels if len(levels) <= 6 else (levels[0], levels[-1])
        words = [(scale.at(level), factor.word(level)) for level in few]
        return Axis(factor.name, words, [scale.at(value) for value in factor.values])
    scale = Scale(0, max(len(levels) - 1, 1), TOP + HEIGHT, TOP)
    places = {level: scale.at(index) for index, level in enumerate(levels)}
    named = list(places.items())
    if len(named) > MOST_LEVELS:
        named = [named[0], named[-1]]
    words = [(place, short(factor.word(level), NAME_LETTERS)) for level, place in named]
    return Axis(factor.name, words, [places[value] for value in factor.values])


def _metric_axis(metric: str, spots: Sequence[Spot]) -> Axis:
    values = [mean for spot in spots if (mean := spot.mean(metric)) is not None]
    scale = Scale(min(values), max(values), TOP + HEIGHT, TOP)
    ends = dict.fromkeys((min(values), max(values)))
    return Axis(metric, [(scale.at(v), plain(v)) for v in ends], [scale.at(v) for v in values])


def _draw_lines(
    canvas: Canvas, axes: Sequence[Axis], spots: Sequence[Spot], metric: str, baseline: str
) -> None:
    """Draw a line per point, the baseline last and above all others."""
    values = [spot.mean(metric) or 0.0 for spot in spots]
    weight = "hair" if len(spots) > MANY_LINES else "thin"
    shade = Scale(min(values), max(values), 0, SHADES - 1)
    order = sorted(range(len(spots)), key=lambda i: (spots[i].label == baseline, values[i]))
    for index in order:
        places = [(LEFT + WIDTH * i, axis.heights[index]) for i, axis in enumerate(axes)]
        is_baseline = spots[index].label == baseline
        look = "line s6" if is_baseline else f"{weight} v{round(shade.at(values[index]))}"
        canvas.path(places, look, "6 3" if is_baseline else "none")


def _draw_axis(canvas: Canvas, index: int, axis: Axis, *, is_metric: bool) -> None:
    """Draw an axis with its name, at one of two heights so that neighbours do not touch."""
    x = LEFT + WIDTH * index
    canvas.line((x, TOP), (x, TOP + HEIGHT), "axis")
    look = "bold" if is_metric else ""
    canvas.text((x, TOP - (20 if index % 2 else 36)), short(axis.name, 24), look, "middle")
    heights = sorted(axis.words)
    for (place, word), after in [*pairwise(heights), (heights[-1], (float("inf"), ""))]:
        if after[0] - place >= 13 or (place, word) in (heights[0], heights[-1]):
            canvas.line((x - 3, place), (x + 3, place), "axis")
            canvas.text((x + 6, place), word, "soft small halo")


def _describe(metrics: Sequence[str], spots: Sequence[Spot], factors: Sequence[Factor]) -> str:
    names = ", ".join(factor.name for factor in factors)
    ends = [
        f"{metric} goes from {plain(min(values))} to {plain(max(values))}"
        for metric in metrics
        if (values := [mean for spot in spots if (mean := spot.mean(metric)) is not None])
    ]
    return f"{len(spots)} points over the factors {names}: {', '.join(ends)}."
