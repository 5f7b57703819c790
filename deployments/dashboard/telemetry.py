"""What an experiment takes and what is wrong with it, on a page that follows it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from deployments.dashboard.shell import chart, clock, controls, plain, tiles, workspace
from flows.dashboard.charts import draw_lines
from flows.dashboard.telemetry import (
    RATE,
    live_issues,
    newest_figures,
    newest_time,
    resource_table,
)
from flows.dashboard.view import age_in_words

RAY = ("ray_nodes", "ray_cpus_in_use")
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
        columns = ["process_tree_cpu_percentage", "cpu_utilization_percentage"]
        _lines(frame, columns, "percent", "Processor time: the experiment's (100: one), all", "cpu")
    with right:
        columns = ["driver_rss_megabytes", "process_tree_rss_megabytes"]
        _lines(frame, columns, "megabytes", "Resident memory: the driver's, all processes", "rss")
    with left:
        _lines(frame, [RATE], "steps per minute", "Throughput: steps that were committed", "rate")
    with right:
        _lines(frame, RAY, "number", "Ray: nodes, and processors in use", "ray")


def _lines(frame: pd.DataFrame, columns: Sequence[str], up: str, words: str, key: str) -> None:
    known = [column for column in columns if column in frame and frame[column].notna().any()]
    if not known:
        return
    peak = "; ".join(
        f"{column.replace('_', ' ')} at most {frame[column].max():,.0f}" for column in known
    )
    chart(draw_lines(frame, "time (UTC)", known, up), f"{words}. {peak}.", key=key)
