"""What is wrong, and what to do about it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from deployments.dashboard.shell import (
    choose_experiment,
    experiments,
    live,
    plain,
    table_of,
    told,
    view,
    workspace,
)
from deployments.dashboard.telemetry import tell
from flows.dashboard.advice import Advice, advice_of, operation_table, read_summary
from flows.dashboard.progress import experiment_table


def show() -> None:
    """Show the page."""
    st.title("Advice")
    live(_advice)
    table = experiments()
    if table is None:
        return
    st.subheader("How long operations take")
    _operations(choose_experiment(table))


def _advice() -> None:
    answer = view().ask("experiments", experiment_table)
    if answer.trouble is not None and not view().is_empty:
        st.error(
            f"The ledger cannot be read now: {plain(answer.trouble)}", icon=":material/cloud_off:"
        )
    found = advice_of(workspace(), pd.DataFrame() if answer.value is None else answer.value)
    if not found and answer.trouble is None:
        st.success("Nothing is wrong with services and the latest experiments.")
    for each in found:
        _show(each)
    st.caption(
        "From the services of this workspace, the states of its experiments, and what their last "
        "commands have noted, those that are at work among them."
    )


def _show(each: Advice) -> None:
    tell(each.severity, f"{each.where}: {each.what}")
    st.text(f"What to do: {each.advice}")


def _operations(name: str) -> None:
    with told():
        found = operation_table(read_summary(workspace(), name))
        if found.empty:
            st.caption("Not measured yet: it is written when a command on this experiment ends.")
            return
        words = f"Operations of the last command on {name}: how often, how long, how many failed"
        table_of(found, words, key="operations")
