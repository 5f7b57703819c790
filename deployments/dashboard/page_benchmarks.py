"""Benchmarks of this machine over time, which have become worse, and a new one."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from deployments.dashboard.prefect import STARTED, log_in, show_form, show_started
from deployments.dashboard.shell import chart, formats, live, table_of, workspace
from deployments.dashboard.tracked import show_tendencies
from flows.benchmarks.history import FOLDER
from flows.dashboard.benchmarks import changes, read_benchmarks
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
        _changes()
        _trend(found.table)
    _run()


def _changes() -> None:
    st.subheader("The newest against those before")
    frame = changes(workspace().folder)
    if frame.empty:
        st.caption("Each suite was measured once on each machine: there is nothing before it.")
        return
    regressed = frame[frame["regression"]]["name"].tolist()
    if regressed:
        st.warning(f"Regressed: {', '.join(regressed)}", icon=":material/trending_down:")
    else:
        st.success("No case has regressed.")
    table_of(
        frame,
        "Cases: median before, median now, change, p, verdict",
        key="changes",
        column_config=formats(change="percent", now="%.4g", before="%.4g", p="%.2g"),
    )
    st.caption(
        "By the rule of `quorumlab benchmark`: Mann-Whitney, also at the same pace of the machine, after "
        "Holm over the suite's cases; a regression is worse by more than 20 % as well."
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
    show_tendencies(suite)


def _run() -> None:
    st.subheader("Run a benchmark")
    server = log_in()
    if server is not None:
        show_form(BenchmarkForm, server, BENCHMARK)
        if st.session_state.get(STARTED):
            live(lambda: show_started(server))
