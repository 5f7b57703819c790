"""The ledger: runs found, their chains, their proposals, and a signature's life."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from deployments.dashboard.shell import (
    chart,
    clock,
    experiments,
    formats,
    page_number,
    read_line,
    shown,
    table_of,
    tiles,
    told,
    view,
)
from flows.dashboard.charts import draw_life
from flows.dashboard.entries import (
    MOST_COUNTED,
    Filter,
    RunRow,
    blocks,
    entry_counts,
    find_runs,
    life_of,
    proposals,
    run_row,
)
from flows.dashboard.progress import PAGE
from sim_core.consensus.rules import Outcome
from sim_core.ledger.verify import verify_run

ANY = "any"


def show() -> None:
    """Show the page."""
    st.title("Ledger")
    table = experiments()
    if table is None:
        return
    key = _search(table)
    if key is None:
        return
    run = shown(view().ask(("run", key), lambda ledger: run_row(ledger, key)))
    if run is None:
        return
    with told():
        _chain(run)
        chosen = _proposals(run)
        if chosen is not None:
            _life(run, chosen)


def _search(table: pd.DataFrame) -> str | None:
    """Return the key of the run that was found and chosen; None where there is none."""
    names = ["", *map(str, table["experiment"])]
    left, middle, right = st.columns([3, 3, 2])
    name = left.selectbox(
        "Experiment",
        names,
        index=1,
        key="ledger_experiment",
        format_func=lambda name: name or "all",
    )
    start = middle.text_input("Run key begins with", key="ledger_key", max_chars=64)
    replicate = right.number_input("Replicate", 0, 1_000_000, None, key="ledger_replicate")
    question = ("find", name, start, replicate)
    found = shown(
        view().ask(
            question,
            lambda ledger: find_runs(ledger, experiment=name, key=start, replicate=replicate),
        )
    )
    if found is None:
        return None
    if found.empty:
        st.info("No run fits.", icon=":material/search_off:")
        return None
    rows = {str(row.run_key): row for row in found.itertuples()}
    if len(found) == PAGE:
        st.caption(f"The first {PAGE} that fit.")

    def words(key: str) -> str:
        row = rows[key]
        return f"{row.experiment}: {row.point}, replicate {row.replicate} ({key[:12]}, {row.state})"

    return st.selectbox("Run", list(rows), format_func=words, key="ledger_run")


def _chain(run: RunRow) -> None:
    st.subheader("Chain")
    tiles(
        ("State", run.state, ""),
        ("Blocks", f"{run.steps:,}", "one per step"),
        ("Ledger head", (run.head or "-")[:10], "" if run.head else "no step yet"),
        ("Nodes", f"{run.n_nodes:,}", ""),
    )
    st.caption(f"Run `{run.run_key}`, used by {', '.join(run.experiments) or 'no experiment'}")
    if st.button("Recompute the chain", help="From the rows of the database alone."):
        _recompute(run)
    left, right = st.columns(2)
    with left:
        st.markdown("**Newest blocks**")
        found = shown(
            view().ask(("blocks", run.run_key, run.steps), lambda ledger: blocks(ledger, run))
        )
        if found is not None:
            table_of(found, "Newest blocks: step, hash, hash before, whether linked", key="blocks")
    with right:
        st.markdown("**Rows that are kept**")
        counted = shown(
            view().ask(("counts", run.run_key, run.steps), lambda ledger: entry_counts(ledger, run))
        )
        if counted is not None:
            table_of(counted, "Rows of each kind of entry", key="counts")
            st.caption(f"What is kept is `ledger.detail={run.detail}`; the hashes cover all of it.")


def _recompute(run: RunRow) -> None:
    """Recompute a chain, never from what is kept in memory."""
    began = time.time()
    row = {"id": run.number}
    with st.spinner("recomputing"):
        answer = view().ask(
            ("verify", run.run_key, began), lambda ledger: (verify_run(ledger, row),)
        )
    found = shown(answer)
    if found is None:
        return
    seconds = time.time() - began
    if found[0] is None:
        st.success(
            f"The chain holds: recomputed at {clock(began)}, in {seconds:.2f} s, to the head."
        )
    else:
        broken = found[0]
        st.error(f"Broken at step {broken.step}, {broken.entry}: {broken.message}")


def _proposals(run: RunRow) -> int | None:
    """Show the proposals that are asked for; return the one whose life is to be shown."""
    st.subheader("Proposals")
    wanted = _filter(run)
    question = ("proposals", run.run_key, wanted)
    counted = view().ask((*question, 0), lambda ledger: proposals(ledger, run, wanted, 0))
    first = shown(counted)
    if first is None:
        return None
    if not first.n:
        st.info("No proposal fits.", icon=":material/search_off:")
        return None
    over = " or more" if first.n == MOST_COUNTED else ""
    st.caption(f"{first.n:,}{over} proposals, {PAGE} a page")
    page = page_number(first.n, PAGE, "proposals_page")
    answer = view().ask((*question, page), lambda ledger: proposals(ledger, run, wanted, page))
    found = shown(answer)
    if found is None:
        return None
    table = found.table.rename(columns={"n_support": "flows", "is_true": "true"})
    table_of(
        table,
        "Proposals: number, step, proposer, outcome, votes",
        key="proposals",
        column_config=formats(confidence="%.3f"),
    )
    read_line(answer)
    numbers = [int(number) for number in found.table["proposal"]]
    return st.selectbox("Life of the signature of proposal", numbers, key="life_of")


def _filter(run: RunRow) -> Filter:
    last = max(run.steps - 1, 1)
    left, middle, right = st.columns(3)
    names = [ANY, *(outcome.name.lower() for outcome in Outcome)]
    outcome = left.selectbox("Outcome", names, key="outcome")
    truth = middle.selectbox("Signature", [ANY, "true", "false"], key="truth")
    proposer = right.number_input("Proposer", 0, run.n_nodes - 1, None, key="proposer")
    first, until = st.slider("Steps", 0, last, (0, last), key=f"steps_{run.number}_{last}")
    return Filter(
        None if outcome == ANY else Outcome[outcome.upper()],
        None if truth == ANY else truth == "true",
        None if proposer is None else int(proposer),
        first,
        until,
    )


def _life(run: RunRow, proposal: int) -> None:
    st.subheader("A signature's life")
    question = ("life", run.run_key, proposal)
    found = shown(view().ask(question, lambda ledger: life_of(ledger, run, proposal)))
    if found is None:
        return
    truth = "true: most flows behind it were attacks" if found.is_true else "false"
    words = f"Proposal {proposal} by node {found.proposer} ({truth}): {found.outcome}."
    chart(draw_life(found.events), words, key="life")
    if found.note:
        st.caption(found.note)
    table_of(found.events, words, key="events")
    with st.expander("Who supported it, who voted how"):
        table_of(found.nodes, "Supports and votes, node by node", key="life_nodes")
