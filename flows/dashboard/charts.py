"""Charts of the dashboard: colours that everybody can tell apart, on light pages and on dark ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from flows.dashboard.comparing import Map
from flows.dashboard.network import Network
from sim_core.comparison.telling import in_short
from sim_core.comparison.verdicts import Comparison, Verdict
from sim_core.comparison.wording import plain
from tasks.plots.effects import the_surest
from tasks.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    SKY,
    VERMILLION,
    mapped,
    short,
    words_of,
)

GREY = "#7f7f7f"
"""In place of black, which nobody sees on a dark page."""
COLOURS = tuple(GREY if index == BLACK else colour for index, colour in enumerate(PALETTE))
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "title": None}
HEIGHT = 340
ROW, FRAME = 34, 90
MOST_CURVES = 12
BEHAVIOURS = {
    "honest": (COLOURS[BLUE], "circle"),
    "lying": (COLOURS[VERMILLION], "diamond"),
    "down": (GREY, "x"),
    "not joined": (COLOURS[SKY], "circle-open"),
}
VERDICTS = {
    Verdict.BETTER: (COLOURS[GREEN], "circle"),
    Verdict.WORSE: (COLOURS[VERMILLION], "x"),
    Verdict.HIGHER: (COLOURS[BLUE], "triangle-right"),
    Verdict.LOWER: (COLOURS[BLUE], "triangle-left"),
    Verdict.TOO_FEW: (COLOURS[ORANGE], "diamond-open"),
}
EVENTS = {
    "proposed": (GREY, "star"),
    "supports it": (COLOURS[SKY], "triangle-up"),
    "votes accept": (COLOURS[BLUE], "circle"),
    "votes reject": (COLOURS[VERMILLION], "x"),
    "votes abstain": (COLOURS[ORANGE], "circle-open"),
    "confirmed": (COLOURS[GREEN], "star"),
    "rejected": (COLOURS[VERMILLION], "star"),
    "expired": (COLOURS[ORANGE], "star"),
}


def _figure(height: int, across: str, up: str, *, is_legend: bool = True) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        legend=LEGEND,
        showlegend=is_legend,
        hovermode="closest",
    )
    figure.update_xaxes(title=across, automargin=True)
    figure.update_yaxes(title=up, automargin=True)
    return figure


def draw_curves(table: pd.DataFrame, metric: str) -> go.Figure:
    """Return a metric over steps, a curve per point; of many points the first twelve."""
    labels = list(dict.fromkeys(table["label"]))[:MOST_CURVES]
    figure = _figure(HEIGHT + 22 * len(labels), "step", words_of(metric).axis)
    for index, label in enumerate(labels):
        mine = table[table["label"] == label]
        figure.add_scatter(
            x=mine["step"],
            y=mine[metric],
            mode="lines",
            name=short(label, 40),
            line={
                "color": COLOURS[index % len(COLOURS)],
                "dash": DASHES[(index // len(COLOURS) + index) % len(DASHES)],
            },
        )
    figure.update_layout(legend=LEGEND | {"orientation": "v"})
    return figure


def draw_lines(table: pd.DataFrame, x: str, columns: Sequence[str], up: str) -> go.Figure:
    """Return some columns of a table over another one."""
    figure = _figure(HEIGHT - 60, x, up, is_legend=len(columns) > 1)
    for index, column in enumerate(columns):
        figure.add_scatter(
            x=table[x],
            y=table[column],
            mode="lines" if len(table) > 1 else "markers",
            name=column.replace("_", " "),
            line={"color": COLOURS[index], "dash": DASHES[index % len(DASHES)]},
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_effects(comparisons: Sequence[Comparison]) -> go.Figure:
    """Return differences from the baseline with their intervals, the band that would not matter, verdicts."""
    rows = the_surest([c for c in comparisons if c.found.difference is not None])
    figure = _figure(FRAME + ROW * len(rows), "difference from the baseline", "", is_legend=False)
    size = max((c.smallest_effect or 0.0 for c in rows), default=0.0)
    if size:
        figure.add_vrect(x0=-size, x1=size, fillcolor=GREY, opacity=0.15, line_width=0)
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    names = [short(c.point, 34) for c in rows]
    for name, c in zip(names, rows, strict=True):
        colour, marker = VERDICTS.get(c.verdict, (GREY, "square-open"))
        found = c.found
        half = None if found.ci_high is None else found.ci_high - (found.difference or 0.0)
        figure.add_scatter(
            x=[found.difference],
            y=[name],
            mode="markers",
            marker={"color": colour, "symbol": marker, "size": 11},
            error_x=None if half is None else {"array": [half], "color": colour, "thickness": 2},
            hovertemplate=f"{c.amount}: {in_short(c)}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", type="category", categoryarray=names)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def draw_map(found: Map, metric: str) -> go.Figure:
    """Return means of a metric over two factors: numbers on colours from dark to light."""
    table = found.table
    values = table.to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scale = [[index / 10, mapped(index / 10)] for index in range(11)]
    figure = _figure(FRAME + 40 + 44 * len(table), found.across, found.down, is_legend=False)
    figure.add_heatmap(
        z=values,
        x=list(table.columns),
        y=list(table.index),
        colorscale=scale,
        zmin=low,
        zmax=high if high > low else low + 1,
        text=[["-" if value != value else plain(value) for value in row] for row in values],
        texttemplate="%{text}",
        textfont={"size": 14},
        showscale=False,
        hovertemplate="%{y}, %{x}: %{z}<extra></extra>",
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 8, "b": 8}, meta=metric)
    return figure


def draw_network(network: Network) -> go.Figure:
    """Return the topology: nodes by behaviour and colour, larger the more they block."""
    nodes = network.nodes
    figure = _figure(520, "", "")
    x, y = nodes["x"].to_numpy(), nodes["y"].to_numpy()
    ends = network.edges
    gaps = [None] * len(ends)
    figure.add_scatter(
        x=[v for trio in zip(x[ends[:, 0]], x[ends[:, 1]], gaps, strict=True) for v in trio],
        y=[v for trio in zip(y[ends[:, 0]], y[ends[:, 1]], gaps, strict=True) for v in trio],
        mode="lines",
        line={"color": GREY, "width": 0.7 if len(ends) < 500 else 0.3},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
    )
    for behaviour, (colour, marker) in BEHAVIOURS.items():
        mine = nodes[nodes["behaviour"] == behaviour]
        if mine.empty:
            continue
        figure.add_scatter(
            x=mine["x"],
            y=mine["y"],
            mode="markers+text" if len(nodes) <= 60 else "markers",
            text=mine["node"].astype(str),
            textposition="top center",
            name=f"{behaviour} ({len(mine)})",
            marker={
                "color": colour,
                "symbol": marker,
                "size": 10 + 3 * mine["blocks"].clip(upper=8),
                "opacity": 0.45 + 0.55 * mine["reputation"],
                "line": {"width": 0},
            },
            customdata=mine[["node", "activity", "reputation", "blocks"]],
            hovertemplate="node %{customdata[0]}, %{customdata[1]}<br>reputation %{customdata[2]}"
            "<br>blocks %{customdata[3]} signatures<extra></extra>",
        )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    return figure


def draw_life(events: pd.DataFrame) -> go.Figure:
    """Return a signature's life: what happened in which step, larger the more nodes did it."""
    figure = _figure(300, "step", "", is_legend=False)
    for event, (colour, marker) in EVENTS.items():
        mine = events[events["event"] == event]
        if mine.empty:
            continue
        figure.add_scatter(
            x=mine["step"],
            y=mine["event"],
            mode="markers+text",
            text=mine["nodes"].astype(str),
            textposition="middle right",
            marker={
                "color": colour,
                "symbol": marker,
                "size": 9 + 2 * mine["nodes"].clip(upper=10) ** 0.5,
            },
            customdata=mine["detail"],
            hovertemplate="step %{x}: %{y}<br>%{customdata}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(tickformat="d", dtick=_whole_steps(events["step"]))
    figure.update_layout(margin={"l": 8, "r": 24, "t": 8, "b": 8})
    return figure


def _whole_steps(steps: pd.Series[int]) -> int:
    """Return a distance between ticks that is whole, with ten ticks at most."""
    span = int(steps.max() - steps.min()) if len(steps) else 0
    return max(1, -(-span // 10))


def draw_trend(table: pd.DataFrame, unit: str) -> go.Figure:
    """Return medians of a benchmark over time, with the middle half of the samples."""
    figure = _figure(HEIGHT - 40, "", unit, is_legend=table["machine"].nunique() > 1)
    for index, (machine, mine) in enumerate(table.groupby("machine", sort=False)):
        colour = COLOURS[index % len(COLOURS)]
        figure.add_scatter(
            x=mine["at"],
            y=mine["median"],
            mode="lines+markers",
            name=short(str(machine), 40),
            line={"color": colour, "dash": DASHES[index % len(DASHES)]},
            marker={"symbol": MARKERS[index % len(MARKERS)], "size": 8},
            error_y={
                "array": mine["high"] - mine["median"],
                "arrayminus": mine["median"] - mine["low"],
                "color": colour,
            },
            customdata=mine[["commit", "n"]],
            hovertemplate="%{y} at %{x}<br>commit %{customdata[0]}, n = %{customdata[1]}"
            "<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure
