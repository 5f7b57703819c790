"""What the ledger holds of a run: found, filtered, by pages, and the life of a signature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, Select, and_, func, literal, select

from flows.dashboard.progress import PAGE
from sim_core.adversaries import Ballot
from sim_core.consensus.rules import Outcome
from sim_core.errors import UserError
from sim_core.ledger.blocks import KINDS, first_hash
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import kept_kinds
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES, EXPERIMENT_RUNS, EXPERIMENTS, RUNS

KEY = re.compile(r"[0-9a-f]{1,64}")
MOST_COUNTED = 10_000
"""Rows that a page counts: beyond that it says `over`, and a narrower question is cheaper."""
MOST_NAMED = 12
MOST_NODES = 200
"""Supports and votes of a signature that are listed one by one."""
_P, _D = ENTRY_TABLES["proposal"].c, ENTRY_TABLES["decision"].c


@dataclass(frozen=True)
class RunRow:
    """A run as the ledger has it."""

    number: int
    run_key: str
    state: str
    steps: int
    head: str | None
    detail: str
    n_nodes: int
    deadline: int
    """Steps after which any proposal is decided."""
    experiments: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of entries of which it keeps the rows."""
        kept = kept_kinds(self.run_key, self.detail)
        return tuple(kind for kind in KINDS if kind in kept)


def find_runs(
    ledger: Ledger, *, experiment: str = "", key: str = "", replicate: int | None = None
) -> pd.DataFrame:
    """Return the first 50 runs that fit: run_key, experiment, point, replicate, state, steps.

    Raises:
        UserError: `key` is no beginning of a run's key.
    """
    key = key.strip().lower()
    if key and not KEY.fullmatch(key):
        raise UserError(
            f"{key[:40]!r} is no beginning of a run's key: digits and the letters a to f"
        )
    uses = EXPERIMENT_RUNS.c
    wanted = select(
        RUNS.c.run_key, uses.experiment, uses.point, uses.replicate, RUNS.c.state, RUNS.c.steps
    ).join(EXPERIMENT_RUNS, uses.run == RUNS.c.id)
    if experiment:
        wanted = wanted.where(uses.experiment == experiment)
    if key:
        wanted = wanted.where(RUNS.c.run_key >= key, RUNS.c.run_key < key + "g")
    if replicate is not None:
        wanted = wanted.where(uses.replicate == replicate)
    with ledger.reading() as connection:
        ordered = wanted.order_by(uses.experiment, uses.point, uses.replicate).limit(PAGE)
        rows = connection.execute(ordered).mappings().all()
        points = select(EXPERIMENTS.c.name, EXPERIMENTS.c.points)
        names = {row["experiment"] for row in rows}
        found = connection.execute(points.where(EXPERIMENTS.c.name.in_(names))).all()
    labels = {row.name: [point["label"] for point in row.points] for row in found}
    table = [{**row, "point": labels[row["experiment"]][row["point"]]} for row in rows]
    columns = ["run_key", "experiment", "point", "replicate", "state", "steps"]
    return pd.DataFrame(table, columns=columns)


def run_row(ledger: Ledger, run_key: str) -> RunRow:
    """Return a run.

    Raises:
        UserError: there is none with this key.
    """
    with ledger.reading() as connection:
        row = connection.execute(select(RUNS).where(RUNS.c.run_key == run_key)).one_or_none()
        if row is None:
            raise UserError(f"no run {run_key[:12]} in this ledger")
        uses = select(EXPERIMENT_RUNS.c.experiment).where(EXPERIMENT_RUNS.c.run == row.id)
        names = tuple(sorted(connection.execute(uses).scalars()))
    return RunRow(
        row.id,
        row.run_key,
        row.state,
        row.steps,
        row.head,
        row.detail,
        row.n_nodes,
        _deadline(row.config),
        names,
    )


def _deadline(config: Mapping[str, Any]) -> int:
    """Return the longest time to a decision that a configuration knows."""
    later = (config.get("intervention") or {}).get("consensus") or {}
    rules = (config.get("consensus") or {}, later)
    return max(int(rule.get("vote_deadline") or 0) for rule in rules)


def entry_counts(ledger: Ledger, run: RunRow) -> pd.DataFrame:
    """Return how many rows of each kind the ledger keeps of a run; None where it keeps none."""
    found: list[dict[str, Any]] = []
    with ledger.reading() as connection:
        for kind in KINDS:
            table = ENTRY_TABLES[kind]
            counted = select(func.count()).select_from(table).where(table.c.run == run.number)
            n = connection.execute(counted).scalar_one() if kind in run.kinds else None
            found.append({"entries": kind, "rows": n, "kept": kind in run.kinds})
    return pd.DataFrame(found)


def blocks(ledger: Ledger, run: RunRow, *, last: int | None = None, n: int = 10) -> pd.DataFrame:
    """Return the newest blocks up to a step: step, hash, previous, and whether they are linked."""
    block = BLOCKS.c
    wanted = select(block.step, block.hash, block.previous).where(block.run == run.number)
    if last is not None:
        wanted = wanted.where(block.step <= last)
    with ledger.reading() as connection:
        rows = connection.execute(wanted.order_by(block.step.desc()).limit(n + 1)).all()
    hashes = [bytes(row.hash) for row in rows[1:]]
    if len(hashes) < n:  # down to the first
        hashes.append(first_hash(run.run_key))
    table = [
        {
            "step": row.step,
            "hash": row.hash.hex()[:16],
            "previous": row.previous.hex()[:16],
            "follows": bytes(row.previous) == before,
        }
        for row, before in zip(rows, hashes, strict=False)
    ]
    return pd.DataFrame(table, columns=["step", "hash", "previous", "follows"])


@dataclass(frozen=True)
class Filter:
    """Which proposals are asked for."""

    outcome: Outcome | None = None
    is_true: bool | None = None
    proposer: int | None = None
    first_step: int = 0
    last_step: int | None = None


@dataclass(frozen=True)
class Proposals:
    """A page of proposals."""

    table: pd.DataFrame
    n: int
    """That there are, `MOST_COUNTED` at most."""


def proposals(ledger: Ledger, run: RunRow, wanted: Filter, page: int = 0) -> Proposals:
    """Return 50 proposals of a run with what became of them, and how many there are."""
    statement = _proposals(run, wanted)
    with ledger.reading(may_lag=True) as connection:
        some = statement.limit(MOST_COUNTED).subquery()
        n = connection.execute(select(func.count()).select_from(some)).scalar_one()
        ordered = statement.order_by(_P.step, _P.proposal).limit(PAGE).offset(page * PAGE)
        rows = connection.execute(ordered).mappings().all()
    table = [{**row, "outcome": _outcome(row["outcome"])} for row in rows]
    frame = pd.DataFrame(table, columns=[column.name for column in statement.selected_columns])
    frame["is_true"] = frame["is_true"].astype(bool)
    return Proposals(frame, int(n))


def _proposals(run: RunRow, wanted: Filter) -> Select[Any]:
    is_its = and_(
        _D.run == _P.run,
        _D.step >= _P.step,
        _D.step <= _P.step + run.deadline + 1,
        _D.proposal == _P.proposal,
    )
    columns = (_P.proposal, _P.step, _P.proposer, _P.n_support, _P.confidence, _P.is_true)
    decided = (_D.step.label("decided"), _D.outcome, _D.accept, _D.reject, _D.abstain)
    statement = select(*columns, *decided).select_from(
        ENTRY_TABLES["proposal"].outerjoin(ENTRY_TABLES["decision"], is_its)
    )
    conditions = [_P.run == run.number, _P.step >= wanted.first_step]
    if wanted.last_step is not None:
        conditions.append(_P.step <= wanted.last_step)
    if wanted.proposer is not None:
        conditions.append(_P.proposer == wanted.proposer)
    if wanted.is_true is not None:
        conditions.append(_P.is_true == int(wanted.is_true))
    if wanted.outcome == Outcome.PENDING:
        conditions.append(_D.outcome.is_(None))
    elif wanted.outcome is not None:
        conditions.append(_D.outcome == int(wanted.outcome))
    return statement.where(*conditions)


def _outcome(value: int | None) -> str:
    return Outcome(value or 0).name.lower()


@dataclass(frozen=True)
class Life:
    """What became of a signature, from its proposal on."""

    proposal: int
    proposer: int
    is_true: bool
    outcome: str
    events: pd.DataFrame
    """step, event, nodes, detail: in the order in which they happened."""
    nodes: pd.DataFrame
    """step, node, event: supports and votes one by one, `MOST_NODES` at most."""
    note: str


def life_of(ledger: Ledger, run: RunRow, proposal: int) -> Life:
    """Return what became of a signature.

    Raises:
        UserError: the run has no such proposal.
    """
    only = _proposals(run, Filter()).where(_P.proposal == proposal)
    with ledger.reading(may_lag=True) as connection:
        row = connection.execute(only.limit(1)).one_or_none()
        if row is None:
            raise UserError(f"run {run.run_key[:12]} has no proposal {proposal}")
        last = row.step + run.deadline + 1 if row.decided is None else row.decided
        nodes = _answers(connection, run, proposal, row.step, last)
    note = (
        ""
        if "vote" in run.kinds
        else f"This run keeps no votes (ledger.detail={run.detail}), only what they add up to; with "
        "ledger.detail=votes each is kept."
    )
    listed = nodes.drop(columns="kind").sort_values(["step", "node"], ignore_index=True)
    return Life(
        proposal,
        row.proposer,
        bool(row.is_true),
        _outcome(row.outcome),
        _events(row, nodes),
        listed.head(MOST_NODES),
        note,
    )


def _answers(
    connection: Connection, run: RunRow, proposal: int, first: int, last: int
) -> pd.DataFrame:
    """Return supports and votes of a proposal between two steps: step, node, kind, event."""
    found = []
    for kind in ("support", "vote"):
        if kind not in run.kinds:
            continue
        table = ENTRY_TABLES[kind]
        ballot = table.c.ballot if kind == "vote" else literal(0)
        wanted = select(table.c.step, table.c.node, ballot.label("ballot")).where(
            table.c.run == run.number,
            table.c.step >= first,
            table.c.step <= last,
            table.c.proposal == proposal,
        )
        rows = connection.execute(wanted).all()
        found += [(row.step, row.node, kind, _event(kind, row.ballot)) for row in rows]
    return pd.DataFrame(found, columns=["step", "node", "kind", "event"])


def _events(row: Row[Any], nodes: pd.DataFrame) -> pd.DataFrame:
    """Return a proposal, what nodes answered, and the decision, in their order."""
    events: list[tuple[Any, ...]] = [
        (row.step, 0, "proposed", 1, f"by node {row.proposer}, from {row.n_support} flows")
    ]
    for (step, event), group in nodes.groupby(["step", "event"]):
        names = sorted(group["node"])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        who = ", ".join(map(str, names[:MOST_NAMED])) + more
        events.append((step, 1, event, len(names), f"nodes {who}"))
    if row.decided is not None:
        tally = f"{row.accept} accept, {row.reject} reject, {row.abstain} abstain"
        cast = row.accept + row.reject + row.abstain
        events.append((row.decided, 2, _outcome(row.outcome), cast, tally))
    columns = ["step", "order", "event", "nodes", "detail"]
    return pd.DataFrame(sorted(events), columns=columns).drop(columns="order")


def _event(kind: str, ballot: int) -> str:
    return "supports it" if kind == "support" else f"votes {Ballot(ballot).name.lower()}"
