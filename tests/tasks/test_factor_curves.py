"""Curves over a factor: places are read back from the picture."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.results import interval
from tasks.plots import curves
from tasks.plots.canvas import NoPicture
from tasks.plots.factor_curves import draw_factor_curves
from tasks.plots.factors import Spot
from tests.tasks.test_report_plots import PIXEL, drawn, number, places, shapes, texts

SHARES = (0.0, 0.1, 0.2, 0.4)
RULES = ("majority", "bft")


def spot(values: dict[str, object], mean: float, metric: str = "f1") -> Spot:
    noise = np.array([-0.02, 0.0, 0.02])
    return Spot(str(values), values, {metric: interval(list(mean + noise))})


def grid(metric: str = "f1") -> list[Spot]:
    """Return points whose mean is .9 less the share, and half of it under the other rule."""
    return [
        spot({"adversary.share": share, "consensus": rule}, (0.9 - share) / (1 + index), metric)
        for share in reversed(SHARES)
        for index, rule in enumerate(RULES)
    ]


def test_means_and_intervals_are_where_the_numbers_are() -> None:
    spots = grid()
    picture = drawn(draw_factor_curves("f1", spots))
    found = list(shapes(picture, "}polyline"))
    assert len(found) == len(RULES)
    bottom, top = curves.TOP + curves.HEIGHT, curves.TOP
    every = [spot.intervals["f1"] for spot in spots]
    low, high = min(i.ci_low or 0 for i in every), min(max(i.ci_high or 0 for i in every), 1.0)
    free = curves.MARGIN * (high - low)
    for index, line in enumerate(found):
        expected = [
            bottom + (top - bottom) * (mean - low + free) / (high - low + 2 * free)
            for mean in ((0.9 - share) / (1 + index) for share in SHARES)
        ]
        assert [y for _, y in places(line)] == pytest.approx(expected, abs=PIXEL)
        across = np.diff([x for x, _ in places(line)])
        assert across == pytest.approx(np.diff(SHARES) * across[0] / 0.1, abs=3 * PIXEL)
    bars = [
        line
        for line in shapes(picture, "}line", "line")
        if number(line, "x1") == number(line, "x2")
    ]
    assert len(bars) == len(spots)
    half = (every[0].ci_high or 0) - (every[0].mean or 0)
    height = 2 * half * curves.HEIGHT / (high - low + 2 * free)
    lengths = [abs(number(bar, "y1") - number(bar, "y2")) for bar in bars]
    assert lengths == pytest.approx([height] * len(bars), abs=3 * PIXEL)


def test_names_of_curves_and_values_of_the_factor_are_written() -> None:
    picture = drawn(draw_factor_curves("f1", grid()))
    assert {"majority", "bft", "0", "0.1", "0.2", "0.4", "adversary.share"} <= set(texts(picture))
    assert "majority: 0.9 at 0, 0.8 at 0.1" in picture.alternative


def test_a_curve_that_belongs_to_a_number_says_of_what() -> None:
    spots = [
        spot({"consensus.committee": size, "adversary.share": share}, 0.9 - share)
        for size in (3, 5, 9)
        for share in (0.0, 0.2)
    ]
    picture = drawn(draw_factor_curves("f1", spots))
    assert {"adversary.share 0", "adversary.share 0.2", "consensus.committee"} <= set(
        texts(picture)
    )
    assert "adversary.share 0.2: 0.7 at 3, 0.7 at 5" in picture.alternative


def test_values_far_apart_are_on_a_logarithmic_axis() -> None:
    spots = [spot({"traffic.mixture_alpha": a}, 0.5 + a / 1e4) for a in (0.1, 1.0, 10.0, 1000.0)]
    picture = drawn(draw_factor_curves("f1", spots))
    (line,) = shapes(picture, "}polyline")
    steps = np.diff([x for x, _ in places(line)])
    assert steps == pytest.approx([steps[0], steps[0], 2 * steps[0]], abs=3 * PIXEL)
    assert "logarithmic" in picture.note


def test_a_point_without_a_value_is_no_part_of_its_curve() -> None:
    spots = grid()
    hole = Spot(spots[2].label, spots[2].values, {"f1": interval([None, None])})
    picture = drawn(draw_factor_curves("f1", [*spots[:2], hole, *spots[3:]]))
    first, second = (len(places(line)) for line in shapes(picture, "}polyline"))
    assert sorted((first, second)) == [3, 4]


@pytest.mark.parametrize(
    ("spots", "reason"),
    [
        ([spot({"consensus": rule}, 0.5) for rule in RULES], "one of three numbers"),
        ([spot({"a": 1, "b": 2.0 * i, "c": i % 2}, 0.5) for i in range(2)], "need one"),
        ([spot({"a": i % 3, "b": f"r{i // 3}"}, 0.5) for i in range(30)], "hide each other"),
        (
            [Spot(str(i), {"a": i}, {"f1": interval([None])}) for i in range(4)],
            "fewer than two values of a",
        ),
    ],
)
def test_what_is_no_curve_is_not_drawn(spots: list[Spot], reason: str) -> None:
    found = draw_factor_curves("f1", spots)
    assert isinstance(found, NoPicture)
    assert reason in found.reason
