"""A canvas for SVG: shapes, text, scales. Everything that is written on it is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tasks.plots.style import printable, style_rules

LETTER = 6.9
"""Width of a letter of 12 px, a little more than the mean."""
EDGE = 8
"""Free space around a picture."""
NARROW = 336
"""Width to which a picture may shrink; what is wider is moved sideways on narrower screens."""
BROAD = 700
"""Width from which a picture has a row of a page to itself."""
Place = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """A plot as a page shows it."""

    name: str
    """Of its file, without a suffix."""
    title: str
    alternative: str
    """What it shows, for those who do not see it."""
    svg: str
    """An element that takes its colours from `style_rules`."""
    note: str = ""
    """What is to be known about it, such as what was left out."""

    def as_file(self) -> str:
        """Return it as a file that needs nothing else."""
        head, _, rest = self.svg.partition(">")
        return (
            f'<?xml version="1.0" encoding="utf-8"?>\n{head}>\n<style>{style_rules()}</style>'
            f'\n<rect class="paper" x="-{EDGE}" y="-{EDGE}" width="100%" height="100%"/>{rest}\n'
        )


@dataclass(frozen=True)
class NoPicture:
    """A plot that there is no sense in drawing."""

    reason: str


class Canvas:
    """Shapes on a rectangle; lengths are in pixels, y grows downwards."""

    def __init__(self, width: float, height: float) -> None:
        """Nothing is drawn yet."""
        self.width, self.height = math.ceil(width), math.ceil(height)
        self._parts: list[str] = []

    def line(self, start: Place, end: Place, look: str, dash: str = "none") -> None:
        """Draw a line."""
        (x, y), (x2, y2) = start, end
        self._parts.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{look}"'
            f"{_dash(dash)}/>"
        )

    def path(self, places: Iterable[Place], look: str, dash: str = "none") -> None:
        """Draw a line through places."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self._parts.append(f'<polyline points="{points}" class="{look}"{_dash(dash)}/>')

    def area(self, places: Iterable[Place], look: str) -> None:
        """Fill what is between places."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self._parts.append(f'<polygon points="{points}" class="{look}"/>')

    def rect(self, corner: Place, width: float, height: float, look: str, fill: str = "") -> None:
        """Draw a rectangle, in the colour of its look or another."""
        colour = f' fill="{fill}"' if fill else ""
        self._parts.append(
            f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" class="{look}"{colour}/>'
        )

    def text(self, place: Place, text: str, look: str = "", anchor: str = "start") -> None:
        """Write a line, centred vertically on its place."""
        self._parts.append(
            f'<text x="{place[0]:.1f}" y="{place[1] + 4:.1f}" class="{look}" '
            f'text-anchor="{anchor}">{escape(printable(text))}</text>'
        )

    def mark(self, place: Place, shape: str, look: str) -> None:
        """Draw a marker: circle, dot, cross, square, diamond, left, right or bar."""
        x, y = place
        if shape in ROUND:
            radius = ROUND[shape]
            self._parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="mark {look}"/>'
            )
            return
        self.area(((x + dx, y + dy) for dx, dy in SHAPES[shape]), f"mark {look}")

    def as_svg(self, alternative: str) -> str:
        """Return the picture as an element with a text alternative."""
        width, height = self.width + 2 * EDGE, self.height + 2 * EDGE
        look = "plot broad" if width > BROAD else "plot wide" if width > NARROW else "plot"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{look}" width="{width}" '
            f'height="{height}" viewBox="-{EDGE} -{EDGE} {width} {height}" role="img" '
            f'aria-label="{escape(printable(alternative))}">' + "".join(self._parts) + "</svg>"
        )


ROUND = {"circle": 5, "dot": 3}
"""Radius of round markers."""
SHAPES: dict[str, Sequence[Place]] = {
    "square": ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
    "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    "left": ((-7, 0), (4, -6), (4, 6)),
    "right": ((7, 0), (-4, -6), (-4, 6)),
    "bar": ((-1, -6), (1, -6), (1, 6), (-1, 6)),
    "cross": (
        (-6, -3.5), (-3.5, -6), (0, -2.5), (3.5, -6), (6, -3.5), (2.5, 0),
        (6, 3.5), (3.5, 6), (0, 2.5), (-3.5, 6), (-6, 3.5), (-2.5, 0),
    ),
}  # fmt: skip
"""Corners of markers around their place."""


def _dash(dash: str) -> str:
    return "" if dash == "none" else f' stroke-dasharray="{dash}"'


def room_for(texts: Iterable[str]) -> float:
    """Return the width of the longest of some texts."""
    return LETTER * max(map(len, texts), default=0)


@dataclass(frozen=True)
class Scale:
    """Where values are on a canvas."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value; where all are the same, the middle.

        >>> Scale(0.0, 10.0, 100.0, 200.0).at(2.5), Scale(1.0, 1.0, 0.0, 10.0).at(1.0)
        (125.0, 5.0)
        """
        if self.low == self.high:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Return round values between two, with what is written there.

    >>> ticks(-0.023, 0.041, 5)
    [(-0.02, '-0.02'), (0.0, '0'), (0.02, '0.02'), (0.04, '0.04')]
    >>> [text for _, text in ticks(0, 14287, 5)], ticks(2.0, 2.0)
    (['0', '5,000', '10,000'], [(2.0, '2')])
    """
    if not high > low:
        return [(low, f"{low:,.4g}")]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((m * size for m in (1, 2, 5) if m * size >= rough), 10 * size)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(index * step, _tick(index * step, step)) for index in range(first, last + 1)]


def _tick(value: float, step: float) -> str:
    if value == 0:
        return "0"
    if not 1e-6 < step < 1e9:
        return f"{value:.3g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
