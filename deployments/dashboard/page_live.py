"""An experiment at work: progress, throughput, resources, states, curves."""

from __future__ import annotations

import time
from collections import deque

import streamlit as st

from deployments.dashboard.shell import (
    chart,
    choose_experiment,
    controls,
    experiments,
    live,
    page_number,
    read_line,
    shown,
    table_of,
    tiles,
    view,
    workspace,
)
from deployments.dashboard.telemetry import show_issues, show_resources
from flows.dashboard.advice import machine_now
from flows.dashboard.charts import draw_curves
from flows.dashboard.progress import (
    PAGE,
    Curves,
    Progress,
    curves,
    progress_of,
    rate_per_minute,
    run_table,
)
from sim_core.ledger.blocks import METRIC_COUNTS, METRIC_VALUES
from tasks.plots.style import words_of

FIRST_METRICS = ("immunity_share", "blacklist_coverage", "true_confirmations", "tp", "fp")
METRICS = tuple(dict.fromkeys((*FIRST_METRICS, *METRIC_VALUES, *METRIC_COUNTS)))
RECENT_SECONDS = 60.0
"""Over which throughput is taken."""


def show() -> None:
    """Show the page."""
    st.title("Live")
    table = experiments()
    if table is None:
        return
    name = choose_experiment(table)
    live(lambda: _progress(name))
    live(lambda: show_issues(name))
    metric = str(st.selectbox("Metric over steps", METRICS, key="live_metric"))
    live(lambda: _curves(name, metric))
    live(lambda: show_resources(name))
    st.subheader("Runs")
    live(lambda: _runs(name))
    _report(name)


def _progress(name: str) -> None:
    answer = view().ask(("progress", name), lambda ledger: progress_of(ledger, name))
    found = shown(answer)
    if found is None:
        return
    machine = machine_now(workspace().folder)
    n_runs = sum(found.runs.values())
    others = ", ".join(f"{n} {state}" for state, n in found.runs.items() if state != "finished")
    tiles(
        ("State", found.state, ""),
        ("Steps done", f"{found.share:.0%}", f"{found.steps:,} of {found.horizon:,}"),
        ("Steps per minute", *_rate(name, found, is_stale=answer.is_stale)),
        ("Runs finished", f"{found.runs.get('finished', 0):,}", others or f"of {n_runs:,}"),
        ("Nodes up", *_nodes(found)),
        ("Voted on now" if found.state == "running" else "Undecided", *_pending(found)),
        ("Processors", f"{machine.cpu_percent:.0f} %", "this machine, all programs"),
        ("Memory", f"{machine.memory_percent:.0f} %", f"{machine.memory_mb:,.0f} MB in use"),
    )
    st.progress(min(found.share, 1.0), text=f"{found.steps:,} of {found.horizon:,} steps")
    read_line(answer)


def _rate(name: str, found: Progress, *, is_stale: bool) -> tuple[str, str]:
    """Return steps per minute as this page has seen them, or why that is unknown."""
    looks: deque[tuple[float, int]] = st.session_state.setdefault(f"looks_{name}", deque())
    if found.state not in ("running", "planned"):
        looks.clear()
        return "-", "nobody is at work"
    if is_stale:
        return "-", "the ledger cannot be read"
    now = time.time()
    looks.append((now, found.steps))
    while len(looks) > 2 and now - looks[0][0] > RECENT_SECONDS:
        looks.popleft()
    rate = rate_per_minute(list(looks))
    if rate is None:
        return "-", "one look so far"
    return f"{rate:,.0f}", f"last {now - looks[0][0]:.0f} s"


def _nodes(found: Progress) -> tuple[str, str]:
    if found.nodes_up is None:
        return "-", "no step yet"
    failed = found.nodes - found.nodes_up
    return f"{found.nodes_up:,}", f"of {found.nodes:,} in all runs; {failed:,} failed"


def _pending(found: Progress) -> tuple[str, str]:
    return ("-", "no step yet") if found.pending is None else (f"{found.pending:,}", "proposals")


def _curves(name: str, metric: str) -> None:
    points = controls().points
    question = ("curves", name, metric, points)
    answer = view().ask(question, lambda ledger: curves(ledger, name, [metric], points))
    found = shown(answer)
    if found is None:
        return
    if found.table.empty:
        st.info("No run has a step yet.", icon=":material/info:")
    elif found.table[metric].isna().all():
        st.info(
            f"{words_of(metric).title} has no value in any step so far: some metrics begin with the "
            "first attack or the first signature. Choose another one above.",
            icon=":material/info:",
        )
    else:
        drawn = found.table.dropna(subset=[metric])
        chart(draw_curves(drawn, metric), _words(found, metric), key="curves")
    read_line(answer)


def _words(found: Curves, metric: str) -> str:
    """Return what the curves show, and what they leave out."""
    last = found.table.dropna(subset=[metric]).groupby("label").tail(1)
    newest = "; ".join(
        f"{row.label}: {getattr(row, metric):.3g} at step {row.step}"
        for row in last.head(6).itertuples()
    )
    every = f", one step in {found.every}" if found.every > 1 else ""
    some = "" if found.runs == found.all_runs else f" of {found.all_runs:,} that have begun"
    return f"{words_of(metric).title}: means over {found.runs:,} runs{some}{every}. {newest}."


def _runs(name: str) -> None:
    answer = view().ask(("progress", name), lambda ledger: progress_of(ledger, name))
    counts = {} if answer.value is None else answer.value.runs
    words = [f"all ({sum(counts.values()):,})", *(f"{s} ({n:,})" for s, n in counts.items())]
    chosen = st.radio("State", words, horizontal=True, key="runs_state")
    state = "" if chosen is None or chosen.startswith("all (") else chosen.rpartition(" (")[0]
    n = counts.get(state, 0) if state else sum(counts.values())
    page = page_number(n, PAGE, "runs_page")
    question = ("runs", name, state, page)
    rows = shown(
        view().ask(question, lambda ledger: run_table(ledger, name, state=state, page=page))
    )
    if rows is None or rows.empty:
        st.caption("No runs.")
        return
    if (rows["why"] == "").all():
        rows = rows.drop(columns="why")
    table_of(rows, f"Runs of {name}: point, replicate, state, steps", key="runs")


def _report(name: str) -> None:
    path = workspace().experiment(name) / "report.html"
    if path.is_file():
        st.download_button(
            "Download the report", path.read_bytes(), f"{name}.html", "text/html", on_click="ignore"
        )
    else:
        st.caption("There is no report yet: it is written when an experiment ends.")
