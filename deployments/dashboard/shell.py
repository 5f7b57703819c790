"""What all pages share: the workspace, the controls, tiles, charts, and how an answer is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from flows.dashboard.progress import FEWEST_POINTS, MOST_POINTS, experiment_table
from flows.dashboard.view import Answer, LedgerView, age_in_words
from flows.environment import workspace_folder
from sim_core.errors import QuorumlabError
from sim_core.workspace import Workspace

T = TypeVar("T")
SLOWEST_SECONDS = 30
MARKUP = "\\`*_{}[]<>#|~$:"
GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(9.4rem,1fr));gap:.6rem;margin:0;padding:0"
TILE = "border:1px solid rgba(128,128,128,.4);border-radius:.5rem;padding:.6rem .8rem"
SMALL = "margin:0;font-size:.85rem;opacity:.8;font-weight:400;overflow-wrap:anywhere"
FIGURE = "margin:.1rem 0;font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere"
"""Colours are the page's own, light or dark."""
EXPERIMENT = "experiment"
"""Of the address: which experiment pages show."""


@dataclass(frozen=True)
class Controls:
    """What the visitor has chosen for all pages."""

    every_seconds: int
    """0: nothing is read again by itself."""
    points: int


def view() -> LedgerView:
    """Return the ledger of the workspace, one for all visitors."""
    return _view(str(workspace_folder()))


@st.cache_resource(show_spinner=False)
def _view(folder: str) -> LedgerView:
    return LedgerView(Path(folder))


def workspace() -> Workspace:
    """Return the workspace that is shown."""
    return view().workspace


def controls() -> Controls:
    """Return what was chosen in the sidebar."""
    state = st.session_state
    return Controls(int(state.get("every", 5)), int(state.get("points", 1_000)))


def show_controls() -> None:
    """Show the controls that all pages have."""
    with st.sidebar:
        st.slider(
            "Refresh every … seconds (0: off)",
            0,
            SLOWEST_SECONDS,
            5,
            key="every",
            help="How often live parts are read again.",
        )
        st.number_input(
            "Points per chart, at most",
            FEWEST_POINTS,
            MOST_POINTS,
            1_000,
            step=100,
            key="points",
            help="Rows of the ledger that a chart reads: from 100 to 10,000.",
        )
        if st.button("Clear caches", help="Read everything anew.", width="stretch"):
            n = view().forget()
            st.cache_data.clear()
            st.cache_resource.clear()
            st.toast(f"{n} kept answers dropped")
        st.caption(f"Workspace `{workspace().folder}`. Nothing is written to it from here.")


def live(body: Callable[[], None]) -> None:
    """Show a part of a page, and again whenever the chosen time has passed."""
    seconds = controls().every_seconds
    st.fragment(body, run_every=float(seconds) if seconds else None)()


def formats(**by_column: str) -> dict[str, Any]:
    """Return how the numbers of a table are written, by column."""
    return {name: st.column_config.NumberColumn(format=how) for name, how in by_column.items()}


def shown(answer: Answer[T]) -> T | None:
    """Return what there is to show, after saying what is wrong with it."""
    if answer.trouble is not None and answer.value is None:
        st.error(f"This cannot be shown: {plain(answer.trouble)}", icon=":material/error:")
    elif answer.trouble is not None and answer.read_at is not None:
        age = age_in_words(time.time() - answer.read_at)
        st.warning(
            f"Stale: read {age}, at {clock(answer.read_at)}. It cannot be read now: "
            f"{plain(answer.trouble)}",
            icon=":material/history:",
        )
    return answer.value


def read_line(answer: Answer[Any]) -> None:
    """Say of which time what is shown is."""
    if answer.read_at is not None:
        word = "Stale, of" if answer.is_stale else "Read at"
        st.caption(f"{word} {clock(answer.read_at)}")


def clock(seconds: float) -> str:
    """Return a time of day, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")


@contextmanager
def told() -> Iterator[None]:
    """Show an error of ours in words, in place of what the block would have shown."""
    try:
        yield
    except QuorumlabError as error:
        st.error(plain(str(error)), icon=":material/error:")


def experiments() -> pd.DataFrame | None:
    """Return the table of experiments; where there is none, say what to do, and return None."""
    if view().is_empty:
        st.info(
            "No experiment has been run in this workspace yet. Run one, and it shows up here:\n\n"
            "`quorumlab run +study=quickstart`",
            icon=":material/info:",
        )
        return None
    table = shown(view().ask("experiments", experiment_table))
    if table is not None and table.empty:
        st.info("The ledger of this workspace holds no experiment.", icon=":material/info:")
        return None
    return table


def choose_experiment(table: pd.DataFrame) -> str:
    """Return the experiment that the visitor has chosen, the latest at first."""
    names = [str(name) for name in table["experiment"]]
    chosen = st.selectbox("Experiment", names, key=EXPERIMENT, bind="query-params")
    return str(chosen)


def tiles(*found: tuple[str, str, str]) -> None:
    """Show figures side by side, or below each other where there is no room.

    Args:
        found: Title, figure, and what there is to say about it, such as why it is unknown.
    """
    cells = "".join(
        f"<div style='{TILE}'><dt style='{SMALL}'>{escape(title)}</dt>"
        f"<dd style='{FIGURE}'>{escape(figure)}</dd><dd style='{SMALL}'>{escape(note)}</dd></div>"
        for title, figure, note in found
    )
    st.html(f"<dl style='{GRID}'>{cells}</dl>")


def plain(text: str) -> str:
    """Return a text as Markdown that shows just that: names and messages are no markup."""
    return "".join(f"\\{letter}" if letter in MARKUP else letter for letter in text)


def chart(figure: Any, words: str, *, key: str) -> None:
    """Show a chart, and below it what it shows in words."""
    st.plotly_chart(
        figure, key=key, alt=words, config={"displaylogo": False, "displayModeBar": False}
    )
    st.caption(plain(words))


def table_of(frame: pd.DataFrame, words: str, *, key: str, **options: Any) -> None:
    """Show a table that can be sorted, searched and downloaded."""
    st.dataframe(frame, hide_index=True, key=key, alt=words, **options)


def page_number(n: int, size: int, key: str) -> int:
    """Return which page of so many rows is wanted, from 0."""
    pages = max(1, -(-n // size))
    return int(st.pagination(pages, key=key)) - 1 if pages > 1 else 0


def choose_metric(names: Sequence[str], key: str) -> str:
    """Return a metric that the visitor has chosen."""
    return str(st.selectbox("Metric", list(names), key=key))
