"""Differences from the baseline in one metric, with their intervals and verdicts (forest plot)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sim_core.comparison.directions import Direction, direction_of
from sim_core.comparison.telling import in_short
from sim_core.comparison.verdicts import Comparison, Verdict
from sim_core.comparison.wording import plain
from tasks.plots.canvas import Canvas, NoPicture, Picture, Scale, room_for, ticks
from tasks.plots.style import BLACK, BLUE, GREEN, ORANGE, VERMILLION, short, words_of

MOST_ROWS = 40
"""Points in one picture."""
WIDEST_BAND = 4.0
"""Times the reach of the intervals: a larger smallest effect does not set the scale."""
MARGIN = 0.06
ROW, TOP, BOTTOM, PLOT = 24.0, 34.0, 46.0, 250.0
"""Heights of a row, of the title and of the axis, and the width of what is between labels."""


class Look(NamedTuple):
    """How a verdict is drawn."""

    marker: str
    colour: int
    is_filled: bool


LOOKS = {
    Verdict.BETTER: Look("circle", GREEN, True),
    Verdict.WORSE: Look("cross", VERMILLION, True),
    Verdict.HIGHER: Look("right", BLUE, True),
    Verdict.LOWER: Look("left", BLUE, True),
    Verdict.NO_DIFFERENCE: Look("square", BLACK, False),
    Verdict.TOO_FEW: Look("diamond", ORANGE, False),
    Verdict.EQUAL: Look("bar", BLACK, True),
}
"""Filled: a difference is shown."""


def draw_effects(comparisons: Sequence[Comparison]) -> Picture | NoPicture:
    """Return the differences of all points from the baseline in one metric.

    Args:
        comparisons: Of one metric, a point each; of many the surest are drawn.
    """
    metric, baseline = comparisons[0].metric, comparisons[0].baseline
    if all(c.found.difference is None for c in comparisons):
        return NoPicture(f"{metric}: undefined in all replicates of the points or of the baseline")
    rows = the_surest(comparisons)
    labels, verdicts = [short(c.point) for c in rows], [in_short(c) for c in rows]
    left = room_for(labels) + 10
    canvas = Canvas(left + PLOT + 14 + room_for(verdicts), TOP + ROW * len(rows) + BOTTOM)
    scale = Scale(*limits(rows), left, left + PLOT)
    _draw_frame(canvas, scale, metric, baseline, len(rows))
    for index, (comparison, label, verdict) in enumerate(zip(rows, labels, verdicts, strict=True)):
        y = TOP + ROW * (index + 0.5)
        canvas.text((left - 8, y), label, anchor="end")
        _draw_row(canvas, scale, y, comparison)
        look = "bold" if comparison.is_finding else "soft"
        canvas.text((left + PLOT + 10, y), verdict, look)
    few = (
        f"the {len(rows)} surest of {len(comparisons)} points"
        if len(rows) < len(comparisons)
        else ""
    )
    alternative = describe(metric, baseline, rows)
    title = words_of(metric).title
    return Picture(f"effects_{metric}", title, alternative, canvas.as_svg(alternative), few)


def the_surest(comparisons: Sequence[Comparison], most: int = MOST_ROWS) -> list[Comparison]:
    """Return at most so many comparisons, in their order: those with the smallest p."""

    def doubt(index: int) -> tuple[float, float]:
        found = comparisons[index]
        known = [2.0 if p is None else p for p in (found.p_adjusted, found.found.p)]
        return known[0], known[1]

    return [comparisons[i] for i in sorted(sorted(range(len(comparisons)), key=doubt)[:most])]


def limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return the ends of the axis: all intervals, 0, and the band, unless it dwarfs them."""
    known = [
        value
        for c in comparisons
        for value in (c.found.difference, c.found.ci_low, c.found.ci_high)
        if value is not None
    ]
    low, high = min([0.0, *known]), max([0.0, *known])
    reach = max(-low, high)
    band = max((c.smallest_effect or 0.0 for c in comparisons), default=0.0)
    if reach == 0 or band <= WIDEST_BAND * reach:
        low, high = min(low, -band), max(high, band)
    if low == high:
        return -1.0, 1.0
    margin = MARGIN * (high - low)
    return low - margin, high + margin


def _draw_frame(canvas: Canvas, scale: Scale, metric: str, baseline: str, n_rows: int) -> None:
    """Draw title, grid and axis."""
    bottom = TOP + ROW * n_rows
    canvas.text((0, 12), words_of(metric).title, "title")
    canvas.rect((scale.start, TOP), PLOT, bottom - TOP, "paper")
    for value, text in ticks(scale.low, scale.high, 4):
        canvas.line((scale.at(value), TOP), (scale.at(value), bottom), "grid")
        canvas.text((scale.at(value), bottom + 12), text, "soft", "middle")
    better = {Direction.HIGHER: " (better →)", Direction.LOWER: " (← better)"}
    words = f"difference from {short(baseline)}{better.get(direction_of(metric), '')}"
    canvas.text(((scale.start + scale.end) / 2, bottom + 32), words, "soft", "middle")


def _draw_row(canvas: Canvas, scale: Scale, y: float, comparison: Comparison) -> None:
    """Draw what would not matter as a band, the interval as a line, the verdict as a marker."""
    found, smallest = comparison.found, comparison.smallest_effect
    if smallest is not None:
        low, high = (scale.at(min(max(x, scale.low), scale.high)) for x in (-smallest, smallest))
        canvas.rect((low, y - ROW / 2), high - low, ROW, "band")
    zero = scale.at(0.0)
    canvas.line((zero, y - ROW / 2), (zero, y + ROW / 2), "zero")
    look = LOOKS.get(comparison.verdict)
    if look is None or found.difference is None:
        return
    stroke = f"s{look.colour}"
    if found.ci_low is not None and found.ci_high is not None:
        dash = "none" if comparison.is_finding else "5 3"
        ends = (scale.at(found.ci_low), y), (scale.at(found.ci_high), y)
        canvas.line(*ends, f"line {stroke}", dash)
    fill = f"f{look.colour}" if look.is_filled else "paper"
    canvas.mark((scale.at(found.difference), y), look.marker, f"{stroke} {fill}")


def describe(metric: str, baseline: str, rows: Sequence[Comparison]) -> str:
    """Return what the picture shows in words."""
    told = "; ".join(f"{c.point}: {c.amount}, {in_short(c)}" for c in rows)
    size = max((c.smallest_effect or 0.0 for c in rows), default=0.0)
    band = f" A band marks what would not matter, up to ±{plain(size)}." if size else ""
    return f"Differences from {baseline} in {metric}. {told}.{band}"
