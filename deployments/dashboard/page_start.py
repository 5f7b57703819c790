"""A study is started, through the deployment `sweep` and within its limits."""

from __future__ import annotations

import streamlit as st

from deployments.dashboard.prefect import STARTED, log_in, show_form, show_started
from deployments.dashboard.shell import live
from flows.dashboard.start import SWEEP, SweepForm


def show() -> None:
    """Show the page."""
    st.title("Start")
    st.caption(
        "Every replicate of every combination of the lists. What is left empty stays as the study, the "
        "profile, or the defaults have it. The same settings again reuse what is there."
    )
    server = log_in()
    if server is None:
        return
    show_form(SweepForm, server, SWEEP)
    if st.session_state.get(STARTED):
        st.subheader("Started from here")
        live(lambda: show_started(server))
        st.caption("How far it is: page Live, as soon as a worker has begun.")
