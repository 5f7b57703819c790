"""The dashboard of a workspace; `quorumlab dashboard` and `quorumlab up` serve it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deployments.dashboard import (
    page_advice,
    page_benchmarks,
    page_compare,
    page_ledger,
    page_live,
    page_network,
    page_start,
)
from deployments.dashboard.shell import show_controls

PAGES = (
    st.Page(
        page_live.show, title="Live", icon=":material/monitoring:", url_path="live", default=True
    ),
    st.Page(page_network.show, title="Network", icon=":material/hub:", url_path="network"),
    st.Page(page_ledger.show, title="Ledger", icon=":material/link:", url_path="ledger"),
    st.Page(page_compare.show, title="Compare", icon=":material/balance:", url_path="compare"),
    st.Page(
        page_benchmarks.show, title="Benchmarks", icon=":material/speed:", url_path="benchmarks"
    ),
    st.Page(page_advice.show, title="Advice", icon=":material/lightbulb:", url_path="advice"),
    st.Page(page_start.show, title="Start", icon=":material/play_arrow:", url_path="start"),
)

ICON = Path(__file__).with_name("icon.svg")  # Streamlit's own ones come from a server of Google's

# What is only being read again is not made pale meanwhile: pages say in words what is old.
READABLE = (
    "<style>[data-testid=stElementContainer][data-stale=true] {opacity: 1 !important}</style>"
)

st.set_page_config(page_title="quorumlab", page_icon=ICON, layout="wide")
st.html(READABLE)
chosen = st.navigation(PAGES)
show_controls()
chosen.run()
