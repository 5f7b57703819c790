"""Benchmarks of this machine over time, which have become worse, and a new one."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import streamlit as st

from deployments.dashboard.prefect import STARTED, log_in, show_form, show_started
from deployments.dashboard.shell import chart, live, table_of, workspace
from flows.dashboard.benchmarks import FOLDER, changes, read_benchmarks
from flows.dashboard.charts import draw_trend
from flows.dashboard.start import BENCHMARK, BenchmarkForm


def show() -> None:
    """Show the page."""
    st.title("Benchmarks")
    found = read_benchmarks(workspace().folder)
    for name in found.unreadable:
        st.warning(f"Not a benchmark file: {name}", icon=":material/warning:")
    if found.table.empty:
        st.info(
            f"No benchmark has been kept in `{workspace().folder / FOLDER}` yet. The form below makes "
            "one, the deployment nightly-benchmark one every night, and "
            "`quorumlab benchmark --output FILE.json` one by hand.",
            icon=":material/info:",
        )
    else:
        _changes(found.table)
        _trend(found.table)
    _run()


def _changes(table: pd.DataFrame) -> None:
    st.subheader("The newest against those before")
    rows = [asdict(change) for change in changes(table)]
    if not rows:
        st.caption("Each case was measured once on each machine: there is nothing before it.")
        return
    slower = [row["name"] for row in rows if row["verdict"] == "slower"]
    if slower:
        st.warning(f"Slower than before: {', '.join(slower)}", icon=":material/trending_down:")
    else:
        st.success("No case is slower than before.")
    frame = pd.DataFrame(rows)
    table_of(
        frame,
        "Cases: newest median, median before, change, verdict",
        key="changes",
        column_config={
            "change": st.column_config.NumberColumn(format="percent"),
            "newest": st.column_config.NumberColumn(format="%.4g"),
            "before": st.column_config.NumberColumn(format="%.4g"),
            "p": st.column_config.NumberColumn(format="%.2g"),
        },
    )
    st.caption(
        "Slower or faster: the median changed by over 10 %, and p < 0.01 (Mann-Whitney, all samples "
        "before, same machine); five samples are needed on each side. p is of one case: of many "
        "cases some fall below 0.01 by chance."
    )


def _trend(table: pd.DataFrame) -> None:
    st.subheader("Trend")
    left, right = st.columns(2)
    suites = sorted(table["suite"].unique())
    suite = left.selectbox("Suite", suites, key="suite")
    mine = table[table["suite"] == suite]
    name = right.selectbox("Case", sorted(mine["name"].unique()), key="case")
    case = mine[mine["name"] == name]
    unit = str(case["unit"].iloc[-1])
    newest = case.iloc[-1]
    words = (
        f"{name}: medians with the middle half of the samples. Newest: {newest['median']:.4g} {unit}, "
        f"commit {newest['commit']}, n = {newest['n']}."
    )
    chart(draw_trend(case, unit), words, key="trend")
    columns = ["at", "median", "low", "high", "n", "commit", "machine"]
    table_of(case[columns].iloc[::-1], words, key="trend_table")


def _run() -> None:
    st.subheader("Run a benchmark")
    server = log_in()
    if server is not None:
        show_form(BenchmarkForm, server, BENCHMARK)
        if st.session_state.get(STARTED):
            live(lambda: show_started(server))
