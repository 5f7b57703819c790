"""Prefect's server on pages: whether it is there, its password, and forms of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from pydantic import BaseModel

from deployments.dashboard.shell import told, workspace
from flows.dashboard.start import (
    HOW_TO_START,
    Question,
    Server,
    Started,
    checked,
    numbers_in,
    questions,
    server_address,
)
from flows.prefect_password import FILE
from sim_core.errors import QuorumlabError, Unavailable

STARTED = "started"


def log_in() -> Server | None:
    """Return the server, once the visitor has said its password; else say what is missing."""
    with told():
        address = server_address(workspace().folder)
        if address is None:
            st.warning(
                f"No Prefect server of this workspace is there: nothing can be started from here. "
                f"{HOW_TO_START}.",
                icon=":material/cloud_off:",
            )
            return None
        password = st.text_input(
            "Prefect's password",
            type="password",
            key="prefect_password",
            help=f"It is in {workspace().folder / FILE}. It is kept for this visit alone.",
            persist_state="session",
        )
        if not password:
            st.caption("Looking is free; whoever starts something must say what Prefect asks for.")
            return None
        server = Server(address, password)
        _say_who_works(server.workers())
        return server
    return None


def _say_who_works(workers: Sequence[str]) -> None:
    if workers:
        st.caption(f"Workers that are ready: {', '.join(workers)}.")
    else:
        st.warning(
            f"No worker is there: what is started waits until one comes. {HOW_TO_START}.",
            icon=":material/hourglass_empty:",
        )


def show_form(form: type[BaseModel], server: Server, deployment: str) -> None:
    """Show the form of a deployment, and start what is asked for."""
    asked = questions(form)
    with st.form(f"form_{deployment}"):
        columns = st.columns(2)
        given = {q.name: _widget(q, columns[i % 2]) for i, q in enumerate(asked)}
        is_sent = st.form_submit_button("Start", type="primary")
    if not is_sent:
        return
    with told():
        values = {
            q.name: numbers_in(given[q.name], q) if q.kind == "numbers" else given[q.name]
            for q in asked
        }
        started = server.start(deployment, checked(form, values))
        st.session_state.setdefault(STARTED, []).insert(0, started)


def _widget(question: Question, place: Any) -> Any:
    title, key, words = question.title, f"form_{question.name}", question.limits or None
    match question.kind:
        case "choice":
            options = [*question.options] if question.default else ["", *question.options]
            return place.selectbox(title, options, key=key, format_func=lambda v: v or "default")
        case "choices":
            return place.multiselect(title, question.options, key=key)
        case "number":
            like = float if isinstance(question.default, float) else int
            low, high = like(question.low or 0), like(min(question.high or 0, 2**53 - 1))
            return place.number_input(
                title, low, high, question.default, key=key, help=words, placeholder="default"
            )
        case "numbers":
            return place.text_input(title, key=key, help=words, placeholder=words, max_chars=400)
        case _:
            return place.text_input(title, key=key, help=words, placeholder=words, max_chars=64)


def show_started(server: Server) -> None:
    """Show what this visitor has started, and what became of it."""
    started: list[Started] = st.session_state.get(STARTED, [])
    for each in started:
        try:
            state = server.state(each)
        except Unavailable as error:
            state = f"unknown ({error})"
        except QuorumlabError as error:
            state = f"unknown: {error}"
        st.markdown(f"**{each.name}**: {state}. [Its page in Prefect]({each.page})")
