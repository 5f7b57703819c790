"""What an experiment took of processors and memory while it was at work, over time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tasks.plots.canvas import Picture, ticks
from tasks.plots.curves import (
    Curve,
    canvas_for,
    colour_of,
    dash_of,
    draw_across,
    draw_frame,
    draw_names,
)
from tasks.plots.style import words_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Samples that make a curve."""
MOST_PLACES = 300


def draw_resources(history: pd.DataFrame) -> list[Picture]:
    """Return the pictures of the last command's resources; none of one that was over at once.

    Args:
        history: Frame of `tasks.resource_history.keep_history`.
    """
    begun = np.flatnonzero(history["seconds"].to_numpy() == 0)
    last = history.iloc[begun[-1] :]
    if len(last) < FEWEST:
        return []
    n_cpus = os.cpu_count() or 1
    seconds = last["seconds"].to_numpy(dtype=np.float64)
    processors = {
        "this experiment": last["process_tree_cpu_percentage"].to_numpy() / n_cpus,
        "other programs": last["other_programs_cpu_percentage"].to_numpy(),
    }
    memory = {
        "driver": last["driver_rss_megabytes"].to_numpy(),
        "workers": last["workers_rss_megabytes"].to_numpy(),
    }
    return [
        _draw("processors_percent", seconds, processors),
        _draw("memory_megabytes", seconds, memory),
    ]


def _draw(name: str, seconds: np.ndarray, values: Mapping[str, np.ndarray]) -> Picture:
    curves = {what: _curve(seconds, found) for what, found in values.items()}
    canvas = canvas_for(list(curves))
    frame = draw_frame(canvas, name, curves, from_zero=True)
    draw_across(frame, ticks(frame.across.low, frame.across.high, 6), "seconds")
    for index, curve in enumerate(curves.values()):
        places = [frame.at(row[0], row[1]) for row in curve]
        canvas.path(places, f"line s{colour_of(index)}", dash_of(index))
    draw_names(frame, curves)
    peaks = "; ".join(f"{what}: at most {np.nanmax(c[:, 1]):,.0f}" for what, c in curves.items())
    alternative = f"{words_of(name).title} over {seconds[-1]:,.0f} s. {peaks}."
    return Picture(
        f"resources_{name.split('_')[0]}",
        words_of(name).title,
        alternative,
        canvas.as_svg(alternative),
        peaks,
    )


def _curve(seconds: np.ndarray, values: np.ndarray) -> Curve:
    known = np.isfinite(values)
    stride = -(-int(known.sum()) // MOST_PLACES) or 1
    at, found = seconds[known][::stride], values[known][::stride]
    if not len(at):
        at, found = seconds[:1], np.zeros(1)
    return np.column_stack([at, found, found, found])
