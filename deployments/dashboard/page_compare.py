"""Points compared with a baseline: verdicts, intervals, maps over two factors."""

from __future__ import annotations

import streamlit as st

from deployments.dashboard.shell import (
    chart,
    choose_metric,
    experiments,
    plain,
    read_line,
    shown,
    table_of,
    view,
    workspace,
)
from deployments.dashboard.tracked import show_tracked
from flows.dashboard.charts import draw_effects, draw_map
from flows.dashboard.comparing import (
    MOST_EXPERIMENTS,
    Compared,
    compare,
    comparison_table,
    point_table,
    two_factors,
)
from tasks.plots.style import words_of

MOST_SENTENCES = 20


def show() -> None:
    """Show the page."""
    st.title("Compare")
    table = experiments()
    if table is None:
        return
    names = [str(name) for name in table["experiment"]]
    chosen = st.multiselect(
        "Experiments", names, names[:1], max_selections=MOST_EXPERIMENTS, key="compared"
    )
    if not chosen:
        st.info("Choose at least one experiment.", icon=":material/info:")
        return
    found = _ask(chosen)
    if found is None:
        return
    _verdicts(found)
    metric = choose_metric(list(dict.fromkeys((*_main(found), *found.metrics))), "compare_metric")
    _intervals(found, metric)
    _map(found, metric)
    _downloads(chosen, found)
    for name in chosen:
        show_tracked(name)


def _ask(names: list[str]) -> Compared | None:
    """Return the comparison that the visitor asks for."""
    known = st.session_state.get(f"labels_{names}", [])
    left, middle, right = st.columns([4, 2, 2])
    baseline = left.selectbox(
        "Baseline", ["", *known], key="baseline", format_func=lambda label: label or "the first"
    )
    alpha = middle.number_input(
        "Level (alpha)", 0.0001, 0.5, 0.05, step=0.01, format="%.4f", key="alpha"
    )
    smallest = right.text_input(
        "Smallest effect", "", placeholder="5%, f1=2% or f1=0.01", key="smallest", max_chars=60
    )
    across = st.checkbox("Compare results of different versions of the model too", key="across")
    question = ("compare", tuple(names), baseline, alpha, smallest, across)
    answer = view().ask(
        question,
        lambda ledger: compare(
            ledger,
            names,
            baseline or None,
            alpha=alpha,
            smallest_effect=smallest,
            across_versions=across,
        ),
    )
    found = shown(answer)
    if found is not None and list(found.labels) != known:
        st.session_state[f"labels_{names}"] = list(found.labels)
        st.rerun()  # now that the points are known, the list of baselines has them
    if found is not None:
        read_line(answer)
    return found


def _main(found: Compared) -> list[str]:
    """Return the metrics that were compared; all others come after them."""
    if found.report is None:
        return []
    return list(dict.fromkeys(c.metric for c in found.report.comparisons))


def _verdicts(found: Compared) -> None:
    st.subheader("Verdicts")
    if found.report is None:
        st.caption("There is only one point: nothing to compare it with.")
        return
    for sentence in found.sentences[:MOST_SENTENCES]:
        st.markdown(f"- {plain(sentence)}")
    if len(found.sentences) > MOST_SENTENCES:
        st.caption(f"{len(found.sentences) - MOST_SENTENCES} more are in the table to download.")
    with st.expander("How to read this"):
        for note in found.notes:
            st.markdown(f"- {plain(note)}")


def _intervals(found: Compared, metric: str) -> None:
    st.subheader("Intervals")
    if found.report is not None:
        mine = [c for c in found.report.comparisons if c.metric == metric]
        if any(c.found.difference is not None for c in mine):
            words = (
                f"{words_of(metric).title}: differences from {found.report.baseline} with their "
                "intervals; the band is what would not matter."
            )
            chart(draw_effects(mine), words, key="effects")
            table_of(comparison_table(found.report, metric), words, key="comparison")
        elif mine:
            st.caption(f"{metric} is undefined in all replicates of the points or the baseline.")
        else:
            st.caption(f"{metric} is not among what was compared; means of all points:")
    table_of(point_table(found.spots, metric), f"Means of {metric} by point", key="means")


def _map(found: Compared, metric: str) -> None:
    st.subheader("Over two factors")
    drawn = two_factors(found.spots, metric)
    if isinstance(drawn, str):
        st.caption(drawn)
        return
    words = (
        f"{words_of(metric).title}: mean at each {drawn.down} and {drawn.across}; lighter is more."
    )
    chart(draw_map(drawn, metric), words, key="map")


def _downloads(names: list[str], found: Compared) -> None:
    with st.container(horizontal=True):
        if found.report is not None:
            st.download_button(
                "Download as CSV", found.csv, "comparison.csv", "text/csv", on_click="ignore"
            )
        for name in names:
            path = workspace().experiment(name) / "report.html"
            if path.is_file():
                st.download_button(
                    f"Download the report of {name}",
                    path.read_bytes(),
                    f"{name}.html",
                    "text/html",
                    on_click="ignore",
                )
