"""The network of a run at any step: who is what, how far nodes are trusted, who blocks what."""

from __future__ import annotations

from functools import partial

import streamlit as st

from deployments.dashboard.shell import (
    chart,
    choose_experiment,
    experiments,
    shown,
    table_of,
    tiles,
    told,
    view,
)
from flows.dashboard.charts import draw_network
from flows.dashboard.entries import find_runs, run_row
from flows.dashboard.network import Network, Replayer, look, replayer_of
from sim_core.errors import UserError

MOST_REPLAYERS = 8
PLAYED, NEXT = "played", "played_next"
"""Which run goes on by itself, and the step that it shows next."""
STEP_DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0)
LEGEND = (
    "Colour and shape say how a node behaves, size how many signatures it blocks, and the fainter it "
    "is, the less it is trusted."
)
ACTIVITY = (
    "**active**: it proposed, supported or voted in this step. **idle**: up, and did none of it. "
    "**anomalous**: its mean reputation is below 0.5. **failed**: down."
)


def show() -> None:
    """Show the page."""
    st.title("Network")
    table = experiments()
    if table is None:
        return
    name = choose_experiment(table)
    key = _choose_run(name)
    if key is None:
        return
    run = shown(view().ask(("run", key), lambda ledger: run_row(ledger, key)))
    if run is None:
        return
    if not run.steps:
        st.info("This run has no step yet.", icon=":material/info:")
        return
    if run.steps == 1:
        st.caption("This run has one step so far.")
        _show_step(name, key, 0)
        return
    delay = _choose_pace(key, run.steps)
    body = partial(_step_through, name, key, run.steps)
    st.fragment(body, run_every=delay if is_played(key) else None)()


def is_played(key: str) -> bool:
    """Return whether a run goes on by itself."""
    return bool(st.session_state.get(PLAYED) == key)


def _choose_pace(key: str, steps: int) -> float:
    """Show what lets a run go on by itself; return the seconds that each step is shown."""
    button, pace = st.columns([1, 3], vertical_alignment="bottom")
    word, icon = ("Pause", "pause") if is_played(key) else ("Play", "play_arrow")
    button.button(
        word,
        icon=f":material/{icon}:",
        key="play",
        on_click=_play_or_pause,
        args=(key, steps),
        width="stretch",
    )
    return float(
        pace.select_slider(
            "Delay of a step",
            STEP_DELAYS,
            1.0,
            format_func="{:g} s".format,
            key="step_delay",
            help="How long each step is shown.",
        )
    )


def _play_or_pause(key: str, steps: int) -> None:
    if is_played(key):
        _rest_at(key, max(0, st.session_state[NEXT] - 1))
        return
    slider, start = _slider_at_rest(key, steps)
    chosen = st.session_state.get(slider, start)
    st.session_state[PLAYED], st.session_state[NEXT] = key, 0 if chosen >= steps - 1 else chosen


def _rest_at(key: str, step: int) -> None:
    """Let a run no longer go on by itself: a new slider begins at this step."""
    st.session_state[PLAYED] = None
    turn, _ = st.session_state.get(_place(key), (0, 0))
    st.session_state[_place(key)] = turn + 1, step


def _slider_at_rest(key: str, steps: int) -> tuple[str, int]:
    """Return which slider a run has that does not go on by itself, and where it begins."""
    turn, start = st.session_state.get(_place(key), (0, steps - 1))
    return f"{_place(key)}_{turn}", start


def _step_through(name: str, key: str, steps: int) -> None:
    # A slider is moved by a new one that begins elsewhere: a slow browser loses a value that is sent
    # to one it has if the page is sent again at once, and shows the least instead.
    if not is_played(key):
        slider, start = _slider_at_rest(key, steps)
        _show_step(name, key, int(st.slider("Step", 0, steps - 1, start, key=slider)))
        return
    step = st.session_state[NEXT]
    if step >= steps:
        _rest_at(key, steps - 1)
        st.rerun()
    st.slider("Step", 0, steps - 1, step, key=f"{_place(key)}_played_{step}", disabled=True)
    _show_step(name, key, step)
    st.session_state[NEXT] = step + 1


def _place(key: str) -> str:
    return f"step_{key[:12]}"


def _show_step(name: str, key: str, step: int) -> None:
    with told(), st.spinner("computing the run up to this step"):
        replayer = _replayer(key, name)
        answer = view().ask(("network", key, step), lambda ledger: look(ledger, replayer, step))
    found = None if answer is None else shown(answer)
    if found is not None:
        _show(found)


def _choose_run(name: str) -> str | None:
    found = shown(view().ask(("find", name), lambda ledger: find_runs(ledger, experiment=name)))
    if found is None or found.empty:
        return None
    rows = {str(row.run_key): row for row in found.itertuples()}
    words = {key: f"{row.point}, replicate {row.replicate}" for key, row in rows.items()}
    return st.selectbox("Run", list(rows), format_func=words.__getitem__, key="network_run")


@st.cache_resource(show_spinner=False, max_entries=MOST_REPLAYERS)
def _replayer(key: str, name: str) -> Replayer:
    """Return what steps through a run; raises an error of ours where that cannot be."""
    answer = view().ask(("replayer", key), lambda ledger: replayer_of(ledger, key, [name]))
    if answer.value is None:
        raise UserError(answer.trouble or "this run cannot be computed again")
    return answer.value


def _show(found: Network) -> None:
    nodes = found.nodes
    behaviours = nodes["behaviour"].value_counts()
    activities = nodes["activity"].value_counts()
    tiles(
        *(
            (word.capitalize(), f"{activities.get(word, 0)}", f"of {len(nodes)} nodes")
            for word in ("active", "idle", "anomalous", "failed")
        ),
        ("Links", f"{found.all_edges:,}", ""),
        ("Blocked signatures", f"{len(found.blocked)}", "by at least one node"),
    )
    st.caption(ACTIVITY)
    told_counts = ", ".join(f"{n} {behaviour}" for behaviour, n in behaviours.items())
    words = f"Step {found.step}: {told_counts}. {LEGEND} {found.note}"
    chart(draw_network(found), words, key="network")
    _say_whether_recorded(found)
    st.subheader("Who blocks what")
    if found.blocked.empty:
        st.caption("No node blocks anything after this step.")
    else:
        share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        table_of(
            found.blocked,
            "Blocked signatures: number, proposer, how many nodes hold it, which",
            key="blocked",
            column_config={"share of honest nodes": share},
        )
    st.subheader("Nodes")
    columns = ["node", "behaviour", "activity", "reputation", "blocks", "received"]
    table_of(nodes[columns], "Nodes: behaviour, activity, reputation, blacklist", key="nodes")


def _say_whether_recorded(found: Network) -> None:
    if found.is_recorded:
        st.caption("Computed again from the run's record; the ledger's block has the same hash.")
    elif found.is_recorded is None:
        st.warning("The ledger has no block of this step: nothing says that it happened like this.")
    else:
        st.error(
            "The ledger's block of this step has another hash: this is not what happened. "
            "quorumlab verify says what is wrong."
        )
