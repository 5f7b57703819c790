"""Which pictures a report shows, in which order, and why others are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim_core.comparison.report import Report
from sim_core.results import MAIN_METRICS
from tasks.plots.canvas import NoPicture, Picture
from tasks.plots.effects import draw_effects
from tasks.plots.factor_curves import draw_factor_curves
from tasks.plots.factors import Spot
from tasks.plots.heat_map import draw_heat_map
from tasks.plots.parallel import draw_parallel
from tasks.plots.step_curves import HAVE_CURVES, draw_step_curves, the_clearest

if TYPE_CHECKING:
    import pandas as pd

StepsOf = Callable[[Sequence[str]], "pd.DataFrame"]
"""Returns the steps of finished runs of some points, as `sim_core.results.steps_frame` does."""
MOST_MAPS = 4
MOST_CURVES = 3
LEGEND = (
    "Marker: difference of the means; line: its interval. Filled and solid, a difference is shown: "
    "● better, ✖ worse, ▶ higher, ◀ lower. Hollow and dashed, none is: □ none that matters, ◇ too "
    "few replicates to tell. The shaded band is too small to matter."
)


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind, with what is to be said of them."""

    anchor: str
    title: str
    texts: tuple[str, ...]
    pictures: tuple[Picture, ...]


def galleries(spots: Sequence[Spot], report: Report | None, steps_of: StepsOf) -> list[Gallery]:
    """Return all pictures of a report.

    Args:
        spots: The points.
        report: What distinguishes them; None where nothing was compared.
        steps_of: Where curves come from.
    """
    metrics = ranked_metrics(spots, report)
    found = [_effects(report)] if report is not None and report.comparisons else []
    found.append(_factors(spots, metrics, report.baseline if report else ""))
    found.append(_courses(spots, metrics, report, steps_of))
    return [gallery for gallery in found if gallery.pictures or gallery.texts]


def ranked_metrics(spots: Sequence[Spot], report: Report | None) -> list[str]:
    """Return what pictures are about: what shows a difference the surest first, then the others."""
    if report is None or not report.comparisons:
        return [m for m in MAIN_METRICS if any(spot.mean(m) is not None for spot in spots)]
    names = [c.metric for c in (*report.findings, *report.comparisons)]
    return list(dict.fromkeys(names))


def _effects(report: Report) -> Gallery:
    metrics = dict.fromkeys(c.metric for c in report.comparisons)
    parts = [[c for c in report.comparisons if c.metric == metric] for metric in metrics]
    pictures, reasons = _sorted_out(map(draw_effects, parts))
    title = f"Differences from {report.baseline}"
    return Gallery("effects", title, (LEGEND, *reasons) if pictures else reasons, pictures)


def _factors(spots: Sequence[Spot], metrics: Sequence[str], baseline: str) -> Gallery:
    """Return curves over a number, maps of two factors, and where there are more factors lines."""
    shown = metrics[:MOST_MAPS]
    curves, no_curves = _sorted_out(draw_factor_curves(metric, spots) for metric in shown)
    maps, no_maps = _sorted_out(draw_heat_map(metric, spots, baseline) for metric in shown)
    if curves or maps:
        return Gallery("factors", "Factors", no_maps if maps else no_curves, (*curves, *maps))
    lines, no_lines = _sorted_out([draw_parallel(metrics, spots, baseline)])
    if lines:
        return Gallery("factors", "Factors", (), lines)
    reasons = "; ".join(dict.fromkeys(no_curves + no_maps + no_lines))
    return Gallery("factors", "Factors", (f"Nothing is drawn over factors: {reasons}.",), ())


def _courses(
    spots: Sequence[Spot], metrics: Sequence[str], report: Report | None, steps_of: StepsOf
) -> Gallery:
    """Return curves over steps of a few metrics, the surest differences first."""
    shown = [metric for metric in metrics if metric in HAVE_CURVES][:MOST_CURVES]
    labels = [spot.label for spot in spots if any(i.n for i in spot.intervals.values())]
    if not shown or not labels:
        what = "no run is finished" if not labels else f"{', '.join(metrics)} have none"
        return Gallery("courses", "Over steps", (f"No curves: {what}.",), ())
    comparisons = report.comparisons if report else ()
    clearest = the_clearest(labels, comparisons, report.baseline if report else labels[0])
    steps = steps_of(clearest)
    drawn = (draw_step_curves(metric, steps, clearest, len(labels)) for metric in shown)
    pictures, reasons = _sorted_out(drawn)
    rest = [label for label in labels if label not in clearest]
    texts = [*reasons]
    if rest:
        names = ", ".join(rest[:30]) + (f" and {len(rest) - 30} more" if len(rest) > 30 else "")
        texts.append(f"Without a curve, as they would hide each other: {names}.")
    return Gallery("courses", "Over steps", tuple(texts), pictures)


def _sorted_out(
    drawn: Iterable[Picture | NoPicture],
) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """Return the pictures, and the reasons why there are no others, each once."""
    pictures: list[Picture] = []
    reasons: dict[str, None] = {}
    for found in drawn:
        if isinstance(found, Picture):
            pictures.append(found)
        else:
            reasons[found.reason] = None
    return tuple(pictures), tuple(reasons)
