"""Curves in a frame: a mean and its interval over something, a curve for each of a few names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.plots.canvas import LETTER, Canvas, Place, Scale, ticks
from tasks.plots.style import DASHED, PALETTE, short, words_of

WIDTH, HEIGHT, TOP, LEFT = 420.0, 210.0, 30.0, 58.0
BELOW = 44.0
MARGIN = 0.03
"""Share of the values' range that stays free above and below."""

Curve = NDArray[np.float64]
"""[n_places, 4]: place on the horizontal axis, mean, low, high; the last two may be NaN."""


@dataclass(frozen=True)
class Frame:
    """A canvas with axes, and where values are on it."""

    canvas: Canvas
    across: Scale
    up: Scale

    def at(self, across: float, up: float) -> Place:
        """Return where a value is; what lies outside is at the edge."""
        return self.across.at(across), self.up.at(min(max(up, self.up.low), self.up.high))


def canvas_for(names: Sequence[str]) -> Canvas:
    """Return a canvas with room for a frame and for the names of its curves."""
    right = LETTER * max(len(short(name)) for name in names) + 26
    return Canvas(LEFT + WIDTH + right, TOP + HEIGHT + BELOW)


def draw_frame(
    canvas: Canvas,
    metric: str,
    curves: Mapping[str, Curve],
    *,
    is_sum: bool = False,
    from_zero: bool = False,
    margin: float = 0.0,
) -> Frame:
    """Draw title, grid and vertical axis of a metric.

    Args:
        canvas: Where.
        metric: What the curves show.
        curves: What has to fit in.
        is_sum: Whether values are sums since step 0.
        from_zero: Whether the vertical axis begins at zero, as that of sums does.
        margin: Share of the horizontal range that stays free left and right.
    """
    every = np.concatenate(list(curves.values()))
    low, high = float(np.nanmin(every[:, 1:])), float(np.nanmax(every[:, 1:]))
    if words_of(metric).is_share:
        low, high = max(low, 0.0), min(high, 1.0)
    elif is_sum or from_zero:
        low = 0.0
    if low == high:
        low, high = low - 0.5, high + 0.5
    free = MARGIN * (high - low)
    first, last = float(every[:, 0].min()), float(every[:, 0].max())
    side = margin * (last - first)
    frame = Frame(
        canvas,
        Scale(first - side, last + side, LEFT, LEFT + WIDTH),
        Scale(low - free, high + free, TOP + HEIGHT, TOP),
    )
    sums = " since step 0" if is_sum else ""
    canvas.text((0, 8), f"{words_of(metric).title}{sums}", "title")
    for value, text in ticks(frame.up.low, frame.up.high):
        canvas.line((LEFT, frame.up.at(value)), (LEFT + WIDTH, frame.up.at(value)), "grid")
        canvas.text((LEFT - 6, frame.up.at(value)), text, "soft", "end")
    return frame


def draw_across(frame: Frame, places: Sequence[tuple[float, str]], title: str) -> None:
    """Draw the horizontal axis: words at places, as far as they do not touch each other."""
    bottom = TOP + HEIGHT
    free = -np.inf
    for value, text in places:
        x = frame.across.at(value)
        frame.canvas.line((x, bottom), (x, bottom + 4), "axis")
        half = (len(text) + 1) * LETTER / 2
        if x - half >= free:
            frame.canvas.text((x, bottom + 14), text, "soft", "middle")
            free = x + half
    frame.canvas.line((LEFT, bottom), (LEFT + WIDTH, bottom), "axis")
    frame.canvas.text((LEFT + WIDTH / 2, bottom + 32), title, "soft", "middle")


def draw_names(frame: Frame, curves: Mapping[str, Curve]) -> None:
    """Write each curve's name near its end, with a piece of its line."""
    ends = [frame.at(0, float(curve[-1, 1]))[1] for curve in curves.values()]
    for index, (name, y) in enumerate(
        zip(curves, spread_out(ends, 15, TOP, TOP + HEIGHT), strict=True)
    ):
        x = LEFT + WIDTH + 6
        frame.canvas.line((x, y), (x + 16, y), f"line s{colour_of(index)}", dash_of(index))
        frame.canvas.text((x + 20, y), short(name))


def colour_of(index: int) -> int:
    """Return the number of a curve's colour."""
    return index % len(PALETTE)


def dash_of(index: int) -> str:
    """Return how a curve is dashed."""
    return DASHED[index % len(DASHED)]


def spread_out(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Return places in the same order, at least so far apart, between two ends if there is room.

    >>> spread_out([50.0, 50.0, 10.0], 15, 0.0, 60.0), spread_out([60.0, 60.0], 15, 0.0, 60.0)
    ([45.0, 60.0, 10.0], [45.0, 60.0])
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    found = list(places)
    for before, index in pairwise(order):
        found[index] = max(found[index], found[before] + least)
    limit = high
    for index in reversed(order):
        found[index] = max(min(found[index], limit), low)
        limit = found[index] - least
    return found
