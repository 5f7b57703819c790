"""What an experiment takes and what is wrong with it, on a page that follows it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pandas as pd
import streamlit as st

from deployments.dashboard.shell import chart, clock, controls, plain, tiles, workspace
from flows.dashboard.charts import draw_lines
from flows.dashboard.telemetry import (
    OURS,
    RATE,
    live_issues,
    newest_figures,
    newest_time,
    resource_table,
)
from flows.dashboard.view import age_in_words

PROCESSORS = {OURS: "this experiment", "cpu_utilization_percentage": "all programs"}
MEMORY = {"driver_rss_megabytes": "its driver", "process_tree_rss_megabytes": "all its processes"}
RAY = {"ray_nodes": "nodes", "ray_cpus_in_use": "processors in use"}
NOTHING = pd.Series(dtype=float)
ICONS = {
    "critical": ":material/error:",
    "high": ":material/error:",
    "medium": ":material/warning:",
    "low": ":material/info:",
}


def show_issues(name: str) -> None:
    """Show what was found to be wrong so far; nothing where nothing was."""
    for found in live_issues(workspace().experiment(name)):
        what = f"{name}: {found.issue.text}"
        tell(found.issue.severity, f"{what} (found at {found.at:%H:%M:%S} UTC)")
        st.text(f"What to do: {found.issue.advice}")


def tell(severity: str, what: str) -> None:
    """Show something that is wrong."""
    place = {"critical": st.error, "high": st.error, "medium": st.warning}.get(severity, st.info)
    place(f"**{severity}**, {plain(what)}", icon=ICONS.get(severity))


def show_resources(name: str) -> None:
    """Show the newest figures, and their course."""
    st.subheader("Resources")
    frame = resource_table(workspace().experiment(name), controls().points)
    if frame.empty:
        st.caption(
            "No samples of this experiment: nothing has been executed since they are kept, or with "
            "monitoring.enabled=false. What this machine does now stands above."
        )
        return
    tiles(*newest_figures(frame))
    at = newest_time(frame)
    st.caption(f"Newest sample: {age_in_words(time.time() - at)}, at {clock(at)}")
    frame = frame.assign(**{"time (UTC)": frame["time"].dt.tz_localize(None)})
    left, right = st.columns(2)
    with left:
        _lines(frame, PROCESSORS, "percent of all", "Processor time", "cpu")
    with right:
        _lines(frame, MEMORY, "megabytes", "Resident memory", "rss")
    with left:
        words = "Throughput: steps that were committed"
        _lines(frame, {RATE: "steps per minute"}, "steps per minute", words, "rate")
    with right:
        _lines(frame, RAY, "number", "Ray", "ray")


def _lines(frame: pd.DataFrame, names: Mapping[str, str], up: str, words: str, key: str) -> None:
    """Draw the columns of a table that have values, under these names."""
    known = [name for column, name in names.items() if frame.get(column, NOTHING).notna().any()]
    if not known:
        return
    named = frame.rename(columns=names)
    peak = "; ".join(f"{name} at most {named[name].max():,.0f}" for name in known)
    chart(draw_lines(named, "time (UTC)", known, up), f"{words}: {peak}.", key=key)
