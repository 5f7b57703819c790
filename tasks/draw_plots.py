"""Plots of an experiment for its folder, its report and MLflow: curves over steps, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim_core.results import Interval, RunRecord
from sim_core.workspace import write_whole
from tasks.plots.step_means import CUMULATIVE, OF_ATTACKS, has_attacks, step_means
from tasks.plots.style import DASHES, PALETTE, short, words_of

if TYPE_CHECKING:  # matplotlib takes a second to import: only who draws pays for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
GREY = "#5f6368"
MOST_LABELS = 8
"""Curves that have a band and are named at their ends; more are named in a legend."""
MOST_CURVES = len(PALETTE) * len(DASHES)
"""Curves in one plot: no two look the same."""
MOST_ROWS = 60
"""Points in one plot of intervals."""
LONGEST_TICK = 6
"""Letters of a number on an axis; of longer ones there is room for two or three."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
MAIN_METRICS = (
    "precision",
    "recall",
    "f1",
    "auroc",
    "detection_delay_steps",
    "benign_blocked_share",
    "false_confirmations",
    "messages_sent",
)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        FileUnwritten: the disk is full or broken.
    """
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:])
    write_whole(path, picture.getvalue())


def draw_all(
    steps: pd.DataFrame,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    folder: Path,
) -> list[Path]:
    """Write the plots of an experiment into a folder and return their files.

    Args:
        steps: Frame of `sim_core.results.steps_frame`.
        records: Its runs; only finished ones are drawn.
        points: Intervals of each point, as `sim_core.results.point_intervals` gives them.
        folder: Where to write; made if need be.
    """
    finished = [record for record in records if record.state == "finished"]
    if not finished:
        return []
    steps = steps[steps["run_id"].isin([record.run_id for record in finished])]
    labels = {record.point_index: record.label for record in finished}
    named = {labels[index]: points[index] for index in sorted(labels)}
    return [
        draw_curves(steps, "f1", folder / "curve_f1.png"),
        draw_curves(steps, "true_confirmations", folder / "curve_true_confirmations.png"),
        draw_curves(steps, "false_confirmations", folder / "curve_false_confirmations.png"),
        draw_intervals(named, MAIN_METRICS, folder / "intervals.png", finished),
    ]


# --- curves over steps --------------------------------------------------------------------


def draw_curves(steps: pd.DataFrame, metric: str, path: Path) -> Path:
    """Draw a metric over steps, one curve with its 95 % interval for each point.

    Grey stretches are steps in which attacks are under way, where that is not always so.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        points = list(steps.groupby("label", sort=False))[:MOST_CURVES]
        shown = {str(label): step_means(rows, metric) for label, rows in points}
        figure = Figure(figsize=(8.2, max(4.4, 0.8 + 0.18 * len(shown))), dpi=DOTS_PER_INCH)
        axes = figure.subplots()
        is_shaded = _shade_attacks(axes, steps)
        for index, curve in enumerate(shown.values()):
            _draw_curve(axes, curve, index, has_band=len(shown) <= MOST_LABELS)
        _frame_curves(axes, steps, metric)
        _head_curves(axes, steps, metric, is_shaded=is_shaded)
        _name_curves(axes, shown)
        save_figure(figure, path)
    return path


def _shade_attacks(axes: Axes, steps: pd.DataFrame) -> bool:
    """Shade the steps with attack flows and return True, if some steps lack them in all points."""
    by_point = has_attacks(steps).groupby([steps["label"], steps["step"]]).any().unstack("label")
    under_way = by_point.any(axis=1)
    if by_point.nunique(axis=1).max() > 1 or under_way.all() or not under_way.any():
        return False
    changes = np.flatnonzero(np.diff(np.concatenate([[0], under_way.astype(int), [0]])))
    for start, end in changes.reshape(-1, 2):
        axes.axvspan(start - 0.5, end - 0.5, color="#f1f3f4", zorder=0, linewidth=0)
    return True


def _draw_curve(axes: Axes, curve: pd.DataFrame, index: int, *, has_band: bool) -> None:
    """Draw one curve; it is broken where values are missing for longer than usual."""
    known = curve.dropna(subset="mean")
    gaps = np.diff(known.index.to_numpy())
    usual = gaps.min() if len(gaps) else 1
    colour, dash = _look(index)
    for part in np.split(np.arange(len(known)), np.flatnonzero(gaps > usual) + 1):
        rows = known.iloc[part]
        marker = "o" if len(part) == 1 else None
        axes.plot(
            rows.index,
            rows["mean"],
            color=colour,
            linestyle=dash,
            linewidth=1.8,
            marker=marker,
            markersize=3,
        )
        if has_band:
            axes.fill_between(
                rows.index, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0
            )


def _look(index: int) -> tuple[str, Any]:
    """Return colour and line style of a point."""
    return PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)]


def _frame_curves(axes: Axes, steps: pd.DataFrame, metric: str) -> None:
    """Give axes and limits."""
    words = words_of(metric)
    axes.set_xlabel("step")
    axes.set_ylabel(words.axis + (" since step 0" if metric in CUMULATIVE else ""))
    axes.set_xlim(0, max(1, int(steps["step"].max())))
    if words.is_share:
        axes.set_ylim(*_within_shares(axes.get_ylim()))
    elif metric in CUMULATIVE:
        most = max(1.0, axes.get_ylim()[1])
        axes.set_ylim(-0.015 * most, most)


def _within_shares(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of an axis, cut where an interval reaches beyond what a share can be."""
    return max(limits[0], -0.02), min(limits[1], 1.02)


def _head_curves(axes: Axes, steps: pd.DataFrame, metric: str, *, is_shaded: bool) -> None:
    """Write the title, and below it what is seen."""
    replicates = steps.groupby("label")["run_id"].nunique()
    fewest, most = int(replicates.min()), int(replicates.max())
    count = str(most) if fewest == most else f"{fewest} to {most}"
    seen = [f"mean and 95 % t interval over {count} replicates" if most > 1 else "one replicate"]
    if len(replicates) > MOST_LABELS:
        seen = [f"mean over {count} replicates"]
    if len(replicates) > MOST_CURVES:
        seen.append(f"the first {MOST_CURVES} of {len(replicates)} points")
    if is_shaded:
        only = " (other steps left out)" if metric in OF_ATTACKS else ""
        seen.append(f"shaded: attacks under way{only}")
    axes.set_title(f"{words_of(metric).title} over steps", pad=22)
    axes.text(0, 1.025, "; ".join(seen), transform=axes.transAxes, color=GREY, fontsize=9)


def _name_curves(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    """Write each curve's name at its end, or in a legend beside the plot if there are many."""
    from matplotlib.lines import Line2D

    ends = {
        label: float(curve["mean"].dropna().iloc[-1])
        for label, curve in curves.items()
        if curve["mean"].notna().any()
    }
    looks = {label: _look(index) for index, label in enumerate(curves)}
    if len(curves) > MOST_LABELS:
        lines = [Line2D([], [], color=c, linestyle=d, linewidth=1.8) for c, d in looks.values()]
        axes.legend(
            lines, map(short, looks), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8
        )
        return
    low, high = axes.get_ylim()
    heights = spread_out([(value - low) / (high - low) for value in ends.values()], least=0.055)
    for label, height in zip(ends, heights, strict=True):
        text = axes.text(1.012, height, short(label), transform=axes.transAxes, va="center")
        text.set(color=looks[label][0], fontweight="bold")


def spread_out(places: Sequence[float], least: float) -> list[float]:
    """Return places between 0 and 1 in the same order, at least `least` apart, near the given ones.

    >>> [round(p, 3) for p in spread_out([0.5, 0.5, 0.1], 0.1)]
    [0.45, 0.55, 0.1]
    >>> [round(p, 3) for p in spread_out([1.0, 1.0], 0.1)]
    [0.9, 1.0]
    """
    from scipy.optimize import isotonic_regression

    if not places:
        return []
    given = np.array(places, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    shifts = least * np.arange(len(given))  # without them, apart means in order
    fitted = np.clip(isotonic_regression(given[order] - shifts).x, 0, 1 - shifts[-1]) + shifts
    result = np.empty_like(given)
    result[order] = fitted
    return [float(place) for place in result]


# --- intervals of points ------------------------------------------------------------------


def draw_intervals(
    points: Mapping[str, Mapping[str, Interval]],
    metrics: Sequence[str],
    path: Path,
    records: Sequence[RunRecord] = (),
) -> Path:
    """Draw mean and 95 % interval of each point, a panel for each metric that has values.

    Args:
        points: Intervals by point and metric.
        metrics: What to draw, in this order.
        path: The file to write.
        records: Runs whose single values are drawn as faint dots.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [m for m in metrics if any(_mean(p, m) is not None for p in points.values())]
    columns = min(4, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    listed = dict(list(points.items())[:MOST_ROWS])
    height = 1.15 + 0.3 * len(listed)
    width = 2.9 * columns + 0.085 * max(map(len, map(short, listed)), default=0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height * rows + 0.5), dpi=DOTS_PER_INCH)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel, metric in zip(panels, shown, strict=False):
            _draw_panel(panel, listed, metric, records)
        for panel in panels[len(shown) :]:
            panel.set_visible(False)
        few = f"; the first {MOST_ROWS} of {len(points)} points" if len(points) > MOST_ROWS else ""
        dots = ", every replicate (dots)" if records else ""
        figure.suptitle(
            f"Points compared: mean and 95 % t interval{dots}{few}",
            x=0.01,
            ha="left",
            fontweight="bold",
        )
        save_figure(figure, path)
    return path


def _mean(point: Mapping[str, Interval], metric: str) -> float | None:
    found = point.get(metric)
    return None if found is None else found.mean


def _draw_panel(
    axes: Axes,
    points: Mapping[str, Mapping[str, Interval]],
    metric: str,
    records: Sequence[RunRecord],
) -> None:
    """Draw one metric: a row for each point, the first at the top."""
    for row, (label, point) in enumerate(points.items()):
        values = [r.metrics.get(metric) for r in records if r.label == label]
        _draw_row(axes, row, point.get(metric), [value for value in values if value is not None])
    words = words_of(metric)
    axes.set_title(words.title, fontsize=10)
    axes.set_xlabel(words.axis, fontsize=9)
    axes.set_yticks(range(len(points)), [short(label) for label in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    if words.is_share:
        axes.set_xlim(*_within_shares(axes.get_xlim()))
    axes.ticklabel_format(axis="x", useOffset=False)  # 0.9998, not 2e-4 and "+9.996e-1" aside
    axes.locator_params(axis="x", nbins=4)
    told = axes.xaxis.get_major_formatter().format_ticks(list(axes.get_xticks()))
    if max(map(len, told), default=0) > LONGEST_TICK:
        axes.locator_params(axis="x", nbins=2)


def _draw_row(axes: Axes, row: int, found: Interval | None, values: Sequence[float]) -> None:
    """Draw a point's mean and interval, and below them the single values."""
    colour, _ = _look(row)
    below = [row + 0.22] * len(values)
    axes.scatter(values, below, color=colour, alpha=0.35, s=12, linewidths=0)
    if found is None or found.mean is None:
        return
    axes.plot([found.mean], [row], "o", color=colour, markersize=6.5)
    if found.ci_low is not None and found.ci_high is not None:
        axes.hlines(row, found.ci_low, found.ci_high, color=colour, linewidth=2.2)
