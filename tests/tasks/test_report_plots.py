"""What is drawn is where the numbers are: shapes are read back from the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim_core.comparison.report import Question, compare
from sim_core.comparison.verdicts import Comparison, SmallestEffect
from sim_core.results import interval
from tasks.plots import curves, effects, step_curves
from tasks.plots.canvas import NoPicture, Picture, Scale, ticks
from tasks.plots.curves import spread_out
from tasks.plots.effects import draw_effects, limits, the_surest
from tasks.plots.factors import Spot, factors_of
from tasks.plots.heat_map import draw_heat_map, three_digits
from tasks.plots.parallel import draw_parallel
from tasks.plots.step_curves import curve_of, draw_step_curves, the_clearest
from tasks.plots.style import DARK, LIGHT, VIRIDIS, is_light, mapped, style_rules
from tests.core.test_comparison_report import records

PIXEL = 0.11
"""Places are written with one digit."""


def drawn(found: Picture | NoPicture) -> Picture:
    assert isinstance(found, Picture), found
    return found


def shapes(picture: Picture, tag: str, look: str = "") -> Iterator[Element]:
    for element in ElementTree.fromstring(picture.svg).iter():
        looks = (element.get("class") or "").split()
        if element.tag.endswith(tag) and (not look or look in looks):
            yield element


def texts(picture: Picture) -> list[str]:
    return [element.text or "" for element in shapes(picture, "}text")]


def places(element: Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in (element.get("points") or "").split())
    return [(float(x), float(y)) for x, y in pairs]


def number(element: Element, name: str) -> float:
    return float(element.get(name) or "nan")


# --- differences --------------------------------------------------------------------------


def compared(seed: int, metric: str = "f1", n: int = 8) -> tuple[Comparison, ...]:
    """Return comparisons whose verdicts are of all kinds."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.6, 0.05, n)
    points = {
        "base": base,
        "up": base + rng.normal(0.1, 0.02, n),
        "down": base + rng.normal(-0.1, 0.02, n),
        "near": base + rng.normal(0.0, 0.002, n),
        "noisy": base + rng.normal(0.05, 0.3, n),
        "same": base,
    }
    runs = [run for label, values in points.items() for run in records(label, **{metric: values})]
    return compare(runs, list(points), Question(metrics=(metric,))).comparisons


@pytest.mark.parametrize("metric", ["f1", "missed", "rejections"])
def test_markers_and_intervals_are_where_the_numbers_are(metric: str) -> None:
    rows = compared(1, metric)
    assert len({c.verdict for c in rows}) == 5
    picture = drawn(draw_effects(rows))
    (frame, *_) = shapes(picture, "}rect", "paper")
    start = number(frame, "x")
    scale = Scale(*limits(rows), start, start + effects.PLOT)
    lines = iter(shapes(picture, "}line", "line"))
    bands = list(shapes(picture, "}rect", "band"))
    marks = [
        e for e in ElementTree.fromstring(picture.svg).iter() if "mark" in (e.get("class") or "")
    ]
    for comparison, band, mark in zip(rows, bands, marks, strict=True):
        found, size = comparison.found, comparison.smallest_effect
        assert found.difference is not None
        assert found.ci_low is not None
        assert found.ci_high is not None
        assert size is not None
        line = next(lines)
        assert number(line, "x1") == pytest.approx(scale.at(found.ci_low), abs=PIXEL)
        assert number(line, "x2") == pytest.approx(scale.at(found.ci_high), abs=PIXEL)
        assert (line.get("stroke-dasharray") is None) == comparison.is_finding
        x = [number(mark, "cx")] if mark.get("cx") else [place[0] for place in places(mark)]
        assert min(x) <= scale.at(found.difference) + PIXEL
        assert max(x) >= scale.at(found.difference) - PIXEL
        assert max(x) - min(x) < 15
        assert number(band, "x") == pytest.approx(scale.at(-size), abs=PIXEL)
        assert number(band, "width") == pytest.approx(scale.at(size) - scale.at(-size), abs=0.2)
    zeros = {number(line, "x1") for line in shapes(picture, "}line", "zero")}
    assert len(zeros) == 1
    assert zeros.pop() == pytest.approx(scale.at(0.0), abs=PIXEL)


def test_verdicts_differ_in_shape_and_not_in_colour_alone() -> None:
    shapes_of_findings = {(look.marker, look.is_filled) for look in effects.LOOKS.values()}
    assert len(shapes_of_findings) == len(effects.LOOKS)


def test_rows_that_are_undefined_stay_and_say_so() -> None:
    runs = [
        *records("a", f1=[0.5, 0.6, 0.7]),
        *records("b", f1=[None] * 3),
        *records("c", f1=[0.5, 0.7, 0.7]),
    ]
    rows = compare(runs, ["a", "b", "c"], Question(metrics=("f1",))).comparisons
    picture = drawn(draw_effects(rows))
    assert "undefined" in texts(picture)
    assert len(list(shapes(picture, "}polygon", "mark"))) == 1
    assert draw_effects(rows[:1]) == NoPicture(
        "f1: undefined in all replicates of the points or of the baseline"
    )


def test_a_band_that_dwarfs_the_intervals_does_not_set_the_scale() -> None:
    runs = [*records("a", f1=[0.5, 0.6, 0.7]), *records("b", f1=[0.501, 0.6, 0.7])]
    for size, is_seen in [(0.0005, True), (0.5, False)]:
        smallest = SmallestEffect(absolute={"f1": size})
        rows = compare(runs, ["a", "b"], Question(metrics=("f1",), smallest=smallest)).comparisons
        low, high = limits(rows)
        assert (low < -size and high > size) == is_seen
        assert low < 0 < high


def test_of_many_rows_the_surest_stay_in_their_order() -> None:
    rows = compared(2)
    kept = the_surest(rows, 2)
    assert [c.point for c in kept] == ["up", "down"]


# --- maps ---------------------------------------------------------------------------------


def spots(values: Sequence[Mapping[str, Any]], means: Sequence[float | None]) -> list[Spot]:
    return [
        Spot(f"p{i}", v, {"f1": interval([m, m] if m is not None else [])})
        for i, (v, m) in enumerate(zip(values, means, strict=True))
    ]


GRID = [{"share": s, "rule": r} for s in (0.2, 0.0, 0.1) for r in ("majority", "bft")]


def test_cells_have_the_numbers_of_their_points_and_colours_of_their_size() -> None:
    means = [0.2, 0.3, 0.6, 0.7, 0.4, 0.5]
    picture = drawn(draw_heat_map("f1", spots(GRID, means), "p2"))
    cells = [e for e in shapes(picture, "}rect") if e.get("fill")]
    by_place = {(number(e, "y"), number(e, "x")): e.get("fill") for e in cells}
    ys, xs = (sorted({place[i] for place in by_place}) for i in (0, 1))
    assert (len(ys), len(xs)) == (2, 3)
    written = {(number(e, "y"), number(e, "x")): e.text for e in shapes(picture, "}text", "bold")}
    for point, mean in zip(GRID, means, strict=True):
        column, row = (
            [0.0, 0.1, 0.2].index(point["share"]),
            ["majority", "bft"].index(point["rule"]),
        )
        assert by_place[ys[row], xs[column]] == mapped((mean - 0.2) / 0.5)
        inside = [
            text for (y, x), text in written.items()
            if 0 < y - ys[row] < 36 and 0 < x - xs[column] < xs[1] - xs[0]
        ]  # fmt: skip
        assert inside == [three_digits(mean)]
    assert len(list(shapes(picture, "}rect", "around"))) == 1
    assert picture.note == "means of 2 replicates; frame: the baseline"


def test_cells_say_how_many_replicates_where_that_differs_and_what_is_undefined() -> None:
    found = spots(GRID, [0.2, 0.3, 0.6, 0.7, None, 0.5])
    picture = drawn(draw_heat_map("f1", found))
    assert "undefined" in texts(picture)
    assert texts(picture).count("n = 2") == 5


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([{"a": 1}, {"a": 2}], "exactly two factors that vary (here: a)"),
        ([{}, {}], "(here: none)"),
        ([{"a": i, "b": i} for i in range(4)], "form no grid"),
        ([{"a": i % 2, "b": i % 3, "c": i % 5} for i in range(30)], "(here: a, b, c)"),
    ],
)
def test_what_is_no_map_says_why(values: list[dict[str, Any]], reason: str) -> None:
    found = draw_heat_map("f1", spots(values, [0.5] * len(values)))
    assert isinstance(found, NoPicture)
    assert reason in found.reason


def test_equal_and_undefined_metrics_have_a_map_or_a_reason() -> None:
    assert texts(drawn(draw_heat_map("f1", spots(GRID, [0.5] * 6)))).count("0.500") == 6
    assert draw_heat_map("f1", spots(GRID, [None] * 6)) == NoPicture(
        "f1 is undefined at all points"
    )


def test_factors_that_follow_from_others_are_no_factors() -> None:
    values = [
        {"adversary": a, **({"adversary.share": 0.2} if a != "none" else {}), "nodes": n}
        for a in ("none", "flipper")
        for n in (10, 20)
    ]
    assert [f.name for f in factors_of(spots(values, [0.5] * 4))] == ["adversary", "nodes"]
    unique = [{"x": i, "y": (i * 7) % 5} for i in range(5)]
    assert [f.name for f in factors_of(spots(unique, [0.5] * 5))] == ["x", "y"]


# --- lines over factors -------------------------------------------------------------------


def test_lines_cross_axes_at_their_values_and_end_at_the_metric() -> None:
    values = [{"x": i, "y": (i * 7) % 13, "kind": "abc"[i % 3]} for i in range(13)]
    means = [i / 13 for i in range(13)]
    picture = drawn(draw_parallel(["f1"], spots(values, means), "p3"))
    lines = {tuple(places(e)): e for e in shapes(picture, "}polyline")}
    assert len(lines) == 13
    bottom = max(y for line in lines for _, y in line)
    top = min(y for line in lines for _, y in line)
    for value, mean in zip(values, means, strict=True):
        heights = [value["x"] / 12, value["y"] / 12, "abc".index(value["kind"]) / 2, mean * 13 / 12]
        expected = [bottom + h * (top - bottom) for h in heights]
        assert any([y for _, y in line] == pytest.approx(expected, abs=PIXEL) for line in lines), (
            value
        )
    dashed = [line for line, e in lines.items() if e.get("stroke-dasharray")]
    assert len(dashed) == 1
    assert "dashed: the baseline" in picture.note


def test_few_factors_of_few_points_and_undefined_metrics_have_no_lines() -> None:
    few = spots([{"x": 1}, {"x": 2}], [0.1, 0.2])
    many = spots([{"x": i, "y": -i} for i in range(20)], [None] * 20)
    for found in (draw_parallel(["f1"], few), draw_parallel(["f1"], many)):
        assert isinstance(found, NoPicture)


# --- curves -------------------------------------------------------------------------------


def steps_of(points: int, replicates: int, n_steps: int = 20) -> pd.DataFrame:
    frames = []
    for point in range(points):
        for replicate in range(replicates):
            rng = np.random.default_rng([point, replicate])
            frames.append(
                pd.DataFrame(
                    {
                        "run_id": f"{point}-{replicate}",
                        "label": f"p{point}",
                        "step": np.arange(n_steps),
                        "honest_tp": 1,
                        "honest_fn": 0,
                        "f1": rng.uniform(0.4, 0.8, n_steps),
                        "messages_sent": rng.integers(0, 9, n_steps),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def test_curves_are_means_with_t_intervals_and_their_lines_lie_there() -> None:
    steps = steps_of(2, 5)
    curve = curve_of(steps[steps["label"] == "p1"], "f1")
    values = steps[(steps["label"] == "p1") & (steps["step"] == 7)]["f1"]
    expected = interval(values.tolist())
    assert tuple(curve[7]) == pytest.approx((7, expected.mean, expected.ci_low, expected.ci_high))
    picture = drawn(draw_step_curves("f1", steps, ["p0", "p1"], 2))
    line = list(shapes(picture, "}polyline"))[1]
    heights = [y for _, y in places(line)]
    slope, _ = np.polyfit(curve[:, 1], heights, 1)
    assert np.corrcoef(curve[:, 1], heights)[0, 1] == pytest.approx(-1, abs=1e-4)
    (band,) = shapes(picture, "}polygon", "f1")
    edges = [y for _, y in places(band)]
    low, high = edges[:20], edges[:19:-1]
    half = (np.array(low) - np.array(high)) / 2
    inside = (curve[:, 2] > 0.3) & (curve[:, 3] < 0.95)
    assert half[inside] == pytest.approx(-slope * (curve[:, 3] - curve[:, 1])[inside], abs=0.6)


def test_counts_are_summed_since_the_first_step() -> None:
    steps = steps_of(1, 3)
    totals = steps.groupby("run_id")["messages_sent"].sum()
    assert curve_of(steps, "messages_sent")[-1, 1] == pytest.approx(totals.mean())


def test_of_many_points_those_are_drawn_that_differ_the_surest() -> None:
    labels = [f"p{i}" for i in range(20)]
    runs = [
        run
        for i, label in enumerate(labels)
        for run in records(label, f1=0.5 + (0.2 if i > 13 else 0.0) + np.random.default_rng(i).normal(0, 0.01, 6))
    ]  # fmt: skip
    report = compare(runs, labels, Question(metrics=("f1",)))
    chosen = the_clearest(labels, report.comparisons, "p0")
    assert len(chosen) == step_curves.MOST_CURVES
    assert {"p0", *labels[14:]} <= set(chosen)
    assert chosen == sorted(chosen, key=labels.index)


def test_curves_without_values_say_why() -> None:
    steps = steps_of(1, 2)
    assert draw_step_curves("auroc", steps, ["p0"], 1) == NoPicture(
        "auroc is a figure of whole runs, without a value for each step"
    )
    steps["f1"] = np.nan
    assert isinstance(draw_step_curves("f1", steps, ["p0"], 1), NoPicture)


def test_long_runs_are_thinned_with_both_ends() -> None:
    picture = drawn(draw_step_curves("f1", steps_of(1, 2, 5000), ["p0"], 1))
    (line,) = shapes(picture, "}polyline")
    assert step_curves.MOST_PLACES / 2 < len(places(line)) <= step_curves.MOST_PLACES + 1
    ends = [places(line)[index][0] for index in (0, -1)]
    assert ends == pytest.approx([curves.LEFT, curves.LEFT + curves.WIDTH])


def test_curves_are_broken_where_values_are_missing_and_only_there() -> None:
    steps = steps_of(1, 2, 900)
    steps["honest_tp"] = np.where((steps["step"] > 300) & (steps["step"] < 400), 0, 1)
    picture = drawn(draw_step_curves("f1", steps, ["p0"], 1))
    first, second = shapes(picture, "}polyline")
    assert max(x for x, _ in places(first)) < min(x for x, _ in places(second)) - 30
    assert "steps without attacks are left out" in picture.note
    every_fourth = steps[steps["step"] % 4 == 0]
    whole = drawn(draw_step_curves("messages_sent", every_fourth, ["p0"], 1))
    assert len(list(shapes(whole, "}polyline"))) == 1
    assert len(picture.svg) < 20_000


# --- anything -----------------------------------------------------------------------------

ANY_VALUE = st.one_of(st.none(), st.floats(-1e120, 1e120), st.floats(0, 1), st.just(0.5))
ANY_SETTING = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), st.text(max_size=40)
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60),
            st.dictionaries(st.sampled_from(["a", "b.c", "b", "<d>"]), ANY_SETTING),
            st.lists(ANY_VALUE, min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda point: point[0],
    )
)
def test_whatever_points_are_called_and_measure_is_a_picture_or_a_reason(
    points: list[tuple[str, dict[str, Any], list[float | None]]],
) -> None:
    runs = [run for label, _, values in points for run in records(label, f1=values)]
    found = [Spot(label, where, {"f1": interval(v)}) for label, where, v in points]
    rows = compare(runs, [label for label, *_ in points], Question(metrics=("f1",))).comparisons
    pictures = [draw_heat_map("f1", found, points[0][0]), draw_parallel(["f1"], found)]
    pictures += [draw_effects(rows)] if rows else []
    for picture in pictures:
        if isinstance(picture, Picture):
            ElementTree.fromstring(picture.as_file().encode())
            assert "nan" not in picture.svg.partition(">")[2].replace(">nan", "")
        else:
            assert picture.reason


# --- scales and colours -------------------------------------------------------------------


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_are_round_between_the_ends_and_few(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    assert len(found) <= 6
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert all(low - slack <= value <= high + slack for value, _ in found)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_names_beside_curves_do_not_touch_and_keep_their_order(heights: list[float]) -> None:
    found = spread_out(heights, 15.0, 0.0, 100.0)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    gaps = [found[b] - found[a] for a, b in pairwise(order)]
    assert all(gap >= 15 - 1e-6 for gap in gaps)
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in found)


def luminance(colour: str) -> float:
    parts = [part / 255 for part in bytes.fromhex(colour[1:])]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(first: str, second: str) -> float:
    light, dark = sorted([luminance(first), luminance(second)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_are_readable_on_their_page(colours: dict[str, str]) -> None:
    assert contrast(colours["ink"], colours["paper"]) > 7
    assert contrast(colours["grey"], colours["paper"]) > 4.5
    assert contrast(colours["ink"], colours["band"]) > 7
    for index in range(6):
        assert contrast(colours[f"c{index}"], colours["paper"]) > 2
    assert set(LIGHT) == set(DARK)


def test_numbers_are_readable_on_every_colour_of_a_map() -> None:
    colours = [mapped(i / 100) for i in range(101)]
    for colour in colours:
        assert contrast(colour, "#000000" if is_light(colour) else "#ffffff") > 4.5
    greys = [luminance(colour) for colour in colours]
    assert greys == sorted(greys)


def test_colours_of_maps_are_those_of_viridis() -> None:
    import matplotlib as mpl

    viridis = mpl.colormaps["viridis"]
    for index in range(len(VIRIDIS)):
        found = [part / 255 for part in bytes.fromhex(VIRIDIS[index])]
        assert found == pytest.approx(viridis(index / (len(VIRIDIS) - 1))[:3], abs=0.012)


def test_every_look_that_is_drawn_has_a_rule() -> None:
    pictures = [
        drawn(draw_effects(compared(1))),
        drawn(draw_heat_map("f1", spots(GRID, [0.1, 0.2, 0.3, 0.4, None, 0.6]), "p0")),
        drawn(draw_parallel(["f1"], spots([{"x": i, "y": -i} for i in range(20)], [i / 20 for i in range(20)]))),
        drawn(draw_step_curves("f1", steps_of(8, 2), [f"p{i}" for i in range(8)], 8)),
    ]  # fmt: skip
    rules = style_rules()
    looks = {
        look
        for picture in pictures
        for element in ElementTree.fromstring(picture.svg).iter()
        for look in (element.get("class") or "").split()
    }
    assert [look for look in looks - {"plot", "wide", "broad"} if f".{look}" not in rules] == []
