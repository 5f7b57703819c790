"""What MLflow has, on pages: asked at most every half minute, and never in the way of what the ledger says."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deployments.dashboard.shell import formats, plain, table_of, workspace
from flows.dashboard.tracked import Tendencies, Tracked, tendencies, tracked

KEPT_SECONDS = 30


@st.cache_data(ttl=KEPT_SECONDS, show_spinner="asking MLflow")
def _tracked(folder: str, name: str) -> Tracked:
    return tracked(Path(folder), name)


@st.cache_data(ttl=KEPT_SECONDS, show_spinner="asking MLflow")
def _tendencies(folder: str, suite: str) -> Tendencies:
    return tendencies(Path(folder), suite)


def show_tracked(name: str) -> None:
    """Show what MLflow has of an experiment, and the ways there."""
    found = _tracked(str(workspace().folder), name)
    if found.trouble is not None:
        st.warning(
            f"What MLflow has of {plain(name)} is not known now: {plain(found.trouble)}",
            icon=":material/cloud_off:",
        )
        return
    if found.state is None:
        st.caption(f"MLflow has nothing of {plain(name)}.")
        return
    words = f"In MLflow: {plain(name)}, {plain(found.state)}, {found.n_runs:,} finished runs."
    if not found.links:
        st.caption(f"{words} Its pages are there while `quorumlab up` is.")
        return
    ways = ", ".join(f"[{text}]({address})" for text, address in found.links.items())
    st.markdown(f"{words} {ways}")


def show_tendencies(suite: str) -> None:
    """Show where the cases of a suite tend on this machine."""
    st.subheader("Where it tends")
    found = _tendencies(str(workspace().folder), suite)
    if found.trouble is not None:
        st.warning(
            f"MLflow's history is not known now; that of the files is shown: {plain(found.trouble)}",
            icon=":material/cloud_off:",
        )
    if found.table.empty:
        st.caption("Nothing of this suite was measured on this machine.")
        return
    whose = "MLflow's history" if found.source == "MLflow" else "the files of the workspace"
    words = (
        f"Suite {suite} on this machine over {whose}: first and newest medians, change, tendency"
    )
    table_of(
        found.table,
        words,
        key="tendencies",
        column_config=formats(change="percent", first="%.4g", newest="%.4g", p="%.2g"),
    )
    st.caption(
        f"Over {whose}, by the rule of `quorumlab benchmark --trend`: Theil and Sen's line, Kendall's "
        "test; five benchmarks at least."
    )
