"""A metric over two factors: means as numbers on colours that go from dark to light."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.comparison.wording import plain
from tasks.plots.canvas import LETTER, Canvas, NoPicture, Picture, room_for
from tasks.plots.factors import Factor, Spot, factors_of
from tasks.plots.style import is_light, mapped, short, words_of

MOST_LEVELS = 24
"""Values of a factor."""
FULL = 0.5
"""Share of the cells above which points form a grid."""
TOP, HIGH, LOW_WIDTH, MOST_WIDTH = 52.0, 36.0, 58.0, 96.0
"""Heights of the heads and of a cell, and widths of cells."""
LEVEL_LETTERS = 13

Cells = dict[tuple[int, int], Spot]


def draw_heat_map(metric: str, spots: Sequence[Spot], baseline: str = "") -> Picture | NoPicture:
    """Return the mean of a metric at each point, where exactly two factors vary.

    Args:
        metric: What is drawn.
        spots: All points.
        baseline: Label of the point whose cell has a frame.
    """
    factors = factors_of(spots)
    if len(factors) != 2:
        names = ", ".join(factor.name for factor in factors) or "none"
        return NoPicture(f"a map needs exactly two factors that vary (here: {names})")
    down, across = sorted(factors, key=lambda factor: len(factor.levels))
    cells = _cells(down, across, spots)
    size = len(down.levels) * len(across.levels)
    if len(across.levels) > MOST_LEVELS or len(cells) < len(spots) or len(cells) <= FULL * size:
        return NoPicture(f"the values of {down.name} and {across.name} form no grid")
    known = [mean for spot in spots if (mean := spot.mean(metric)) is not None]
    if not known:
        return NoPicture(f"{metric} is undefined at all points")
    counts = {spot.n(metric) for spot in spots}
    canvas, corner = _frame(metric, down, across)
    width = _width(across)
    for (row, column), spot in cells.items():
        place = corner + column * width, TOP + row * HIGH
        mean = spot.mean(metric)
        n = f"n = {spot.n(metric)}" if len(counts) > 1 else ""
        _draw_cell(canvas, place, width, mean, min(known), max(known), n)
    for (row, column), spot in cells.items():
        if spot.label == baseline:
            place = corner + column * width + 1, TOP + row * HIGH + 1
            canvas.rect(place, width - 4, HIGH - 4, "around")
    notes = [f"means of {counts.pop()} replicates"] if len(counts) == 1 else ["means"]
    notes += ["frame: the baseline"] if any(s.label == baseline for s in spots) else []
    notes += ["empty: no such point"] if len(cells) < size else []
    alternative = _describe(metric, down, across, cells)
    return Picture(
        f"map_{metric}",
        f"{words_of(metric).title} by {down.name} and {across.name}",
        alternative,
        canvas.as_svg(alternative),
        "; ".join(notes),
    )


def _cells(down: Factor, across: Factor, spots: Sequence[Spot]) -> Cells:
    return {
        (down.levels.index(a), across.levels.index(b)): spot
        for a, b, spot in zip(down.values, across.values, spots, strict=True)
    }


def _width(across: Factor) -> float:
    words = [short(across.word(level), LEVEL_LETTERS) for level in across.levels]
    return min(MOST_WIDTH, max(LOW_WIDTH, room_for(words) + 8))


def _frame(metric: str, down: Factor, across: Factor) -> tuple[Canvas, float]:
    """Return a canvas with the names of everything, and where cells begin."""
    rows = [short(down.word(level)) for level in down.levels]
    left = max(room_for(rows), LETTER * (len(short(down.name)) + 2)) + 10
    width = _width(across)
    title = words_of(metric).title
    canvas = Canvas(
        max(left + width * len(across.levels), 8 * len(title)), TOP + HIGH * len(rows) + 2
    )
    canvas.text((0, 8), title, "title")
    canvas.text((left, 28), f"{short(across.name)} →", "soft")
    canvas.text((left - 8, 44), f"{short(down.name)} ↓", "soft", "end")
    for index, level in enumerate(across.levels):
        word = short(across.word(level), LEVEL_LETTERS)
        canvas.text((left + width * (index + 0.5), 44), word, anchor="middle")
    for index, word in enumerate(rows):
        canvas.text((left - 8, TOP + HIGH * (index + 0.5)), word, anchor="end")
    return canvas, left


def _draw_cell(
    canvas: Canvas,
    place: tuple[float, float],
    width: float,
    mean: float | None,
    low: float,
    high: float,
    n: str,
) -> None:
    """Draw a value on its colour, or say that there is none."""
    x, y = place[0] + width / 2 - 1, place[1] + HIGH / 2 - 1
    if mean is None:
        canvas.rect(place, width - 2, HIGH - 2, "band")
        canvas.text((x, y), "undefined", "soft small", "middle")
        return
    colour = mapped((mean - low) / (high - low) if high > low else 0.5)
    canvas.rect(place, width - 2, HIGH - 2, "", colour)
    look = "on-light" if is_light(colour) else "on-dark"
    text = f"{mean:.3f}" if low >= 0 and 0.1 <= high <= 1 else three_digits(mean)
    canvas.text((x, y - (6 if n else 0)), text, f"bold {look}", "middle")
    if n:
        canvas.text((x, y + 9), n, f"small {look}", "middle")


def three_digits(value: float) -> str:
    """Return a value as its neighbours have it: with three digits, zeros as well.

    >>> three_digits(0.84), three_digits(5.0), three_digits(14287.2), three_digits(0.0)
    ('0.840', '5.00', '14,287', '0')
    """
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def _describe(metric: str, down: Factor, across: Factor, cells: Cells) -> str:
    told = "; ".join(
        f"{down.name} {down.word(down.levels[row])}, {across.name} "
        f"{across.word(across.levels[column])}: {plain(spot.mean(metric))}"
        for (row, column), spot in sorted(cells.items())
    )
    return f"Means of {metric} over {down.name} and {across.name}. {told}."
