"""Recompute a run's hash chain from the database and the documented encoding alone."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Connection, CursorResult, Select, Table, bindparam, func, select

from sim_core.config import ModelConfig
from sim_core.config.explain import shown
from sim_core.ledger.blocks import (
    KEPT,
    KINDS,
    block_hash,
    digest,
    digest_of_records,
    entry_dtypes,
    first_hash,
)
from sim_core.ledger.rows import Packing
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES, RUNS, SUMMARIES
from sim_core.plugins.stored import without_plugins

STEPS_AT_ONCE = 1_000
ROWS_AT_ONCE = 1_000
HASH_BYTES = 32
CONFIGURATIONS_KEPT = 16
"""Runs of one point share theirs, and they are read together."""

_RUN = select(RUNS).where(RUNS.c.id == bindparam("id"))
_SUMMARIES = select(SUMMARIES.c.horizon, SUMMARIES.c.head).where(SUMMARIES.c.run == bindparam("id"))
_STRAYS = select(
    *(
        select(func.min(table.c.step))
        .where(
            table.c.run == bindparam("id"),
            (table.c.step < 0) | (table.c.step >= bindparam("steps")),
        )
        .scalar_subquery()
        .label(kind)
        for kind, table in {**ENTRY_TABLES, "block": BLOCKS}.items()
    )
)
"""The first row of each table beyond the steps that a run has."""


def _part_of(table: Table) -> Select[Any]:
    """Return the query for rows of some steps, but for their run, in the order of their digest."""
    columns, step = list(table.columns)[1:], table.c.step
    within = (step >= bindparam("start"), step < bindparam("stop"))
    statement = select(*columns).where(table.c.run == bindparam("id"), *within)
    return statement.order_by(*table.primary_key.columns)


_PARTS = {kind: _part_of(table) for kind, table in ENTRY_TABLES.items()}
_BLOCKS = _part_of(BLOCKS)


@dataclass(frozen=True)
class Break:
    """The first place where a run's rows do not give what is stored."""

    run_key: str
    step: int
    entry: str
    """Kind of the entries whose digest differs, or `block`."""
    message: str


def verify_run(ledger: Ledger, run: Mapping[str, Any] | Any) -> Break | None:
    """Return the first break of a run's chain, or None where it recomputes.

    Digests of the kinds that `ledger.detail` keeps are recomputed from their rows, those of the
    other kinds are taken as stored; then every hash, from the run's key to its head. All of it is
    read in one transaction, so that a run that is being written is seen as it is at one moment.

    Args:
        ledger: The ledger.
        run: A mapping with the `id` of a run.
    """
    with ledger.reading() as connection:
        row = connection.execute(_RUN, {"id": run["id"]}).mappings().one()
        with closing(_breaks(connection, row)) as breaks:
            return next(breaks, None)


def _breaks(connection: Connection, run: Any) -> Generator[Break, None, None]:
    key = run["run_key"]
    if run["detail"] not in KEPT:
        yield Break(key, 0, "run", f"unknown detail {shown(run['detail'])}")
        return
    yield from _strays(connection, run)
    previous, step = first_hash(key), -1
    summaries = _summaries(connection, run["id"])
    for (at, follows, stored_hash, *digests), recomputed in _blocks(connection, run):
        step += 1
        if at != step:
            yield Break(key, step, "block", f"block {step} is missing")
            return
        for kind, found in recomputed.items():
            if found != digests[KINDS.index(kind)]:
                reason = found if isinstance(found, str) else "its rows give another digest"
                yield Break(key, step, kind, f"{kind} entries of step {step}: {reason}")
        stored = (follows, stored_hash, *digests)
        if not all(isinstance(part, bytes) and len(part) == HASH_BYTES for part in stored):
            yield Break(key, step, "block", f"block {step} holds something that is no hash")
            return
        if follows != previous:
            yield Break(key, step, "block", f"block {step} does not follow block {step - 1}")
        previous = block_hash(previous, step, tuple(digests))
        if stored_hash != previous:
            yield Break(key, step, "block", f"the hash of block {step} does not recompute")
        if summaries.get(step + 1, previous.hex()) != previous.hex():
            yield Break(key, step, "head", f"the summary at step {step + 1} names another head")
    if step + 1 != run["steps"]:
        yield Break(key, step + 1, "block", f"{step + 1} blocks, but {run['steps']} steps")
    if run["head"] is not None and run["head"] != previous.hex():
        yield Break(key, step, "head", "the stored head is not the hash of the last block")


def stored_config(run: Mapping[str, Any] | Any) -> ModelConfig:
    """Return the configuration of a run from its row.

    What is stored leaves out the horizon and names data by content: the rest is as it was. Kinds of
    plug-ins, which need not be installed to read a ledger, are not there.

    Raises:
        ValidationError: it is no configuration (any more).
    """
    stored = without_plugins(run["config"])
    config = {key: part for key, part in stored.items() if key != "data"}
    simulation = config["simulation"] | {"steps": max(1, run["steps"])}
    return _configuration(json.dumps(config | {"simulation": simulation}))


@lru_cache(maxsize=CONFIGURATIONS_KEPT)
def _configuration(text: str) -> ModelConfig:
    return ModelConfig.model_validate(json.loads(text))


def streamed(
    connection: Connection,
    statement: Select[Any],
    n_rows: int = ROWS_AT_ONCE,
    values: Mapping[str, Any] | None = None,
) -> CursorResult[Any]:
    """Return the rows of a statement, of which never more than `n_rows` are in memory.

    A plain one of PostgreSQL's client would hold them all. To be closed, as a context or so.
    """
    return connection.execute(statement, values, execution_options={"yield_per": n_rows})


def _strays(connection: Connection, run: Any) -> Iterator[Break]:
    """Yield rows of steps that the run does not have."""
    values = {"id": run["id"], "steps": run["steps"]}
    for kind, found in connection.execute(_STRAYS, values).mappings().one().items():
        if found is not None:
            message = f"{kind} rows of step {found!r:.40}, but {run['steps']} steps"
            step = found if isinstance(found, int) else 0
            yield Break(run["run_key"], step, kind, message)


def _summaries(connection: Connection, run: int) -> dict[int, str]:
    return {row.horizon: row.head for row in connection.execute(_SUMMARIES, {"id": run})}


def _blocks(
    connection: Connection, run: Any
) -> Generator[tuple[Sequence[Any], dict[str, bytes | str]], None, None]:
    """Yield each block's row with the digests that its kept rows give, or why they give none."""
    dtypes = entry_dtypes(stored_config(run).n_voters, run["n_features"])
    kinds = sorted(KEPT[run["detail"]])
    for start in range(0, run["steps"], STEPS_AT_ONCE):
        values = {"id": run["id"], "start": start, "stop": start + STEPS_AT_ONCE}
        with ExitStack() as stack:
            blocks, *rows = [
                stack.enter_context(streamed(connection, statement, values=values))
                for statement in (_BLOCKS, *(_PARTS[kind] for kind in kinds))
            ]
            steps = {
                kind: _Steps(kind, part, dtypes[kind])
                for kind, part in zip(kinds, rows, strict=True)
            }
            for block in blocks:
                yield block, {kind: steps[kind].digest(block[0]) for kind in kinds}


class _Steps:
    """Digests of one kind's entries in order of their steps, given out by step."""

    def __init__(self, kind: str, rows: Iterable[Sequence[Any]], dtype: np.dtype[np.void]) -> None:
        self._kind = kind
        self._dtype = dtype
        self._pack = Packing(dtype).pack
        self._steps = groupby(rows, key=itemgetter(0))
        self._next = next(self._steps, None)
        self._of_none = digest(kind, np.zeros(0, dtype))

    def digest(self, step: int) -> bytes | str:
        """Return the digest of a step behind the last one asked for, or why its rows give none."""
        while self._next is not None and self._next[0] < step:
            self._next = next(self._steps, None)
        if self._next is None or self._next[0] != step:
            return self._of_none
        try:
            packed = list(map(self._pack, self._next[1]))
        except ValueError as error:
            return str(error)
        records = b"".join(packed)
        if self._kind == "alert":
            return digest("alert", np.frombuffer(records, self._dtype))
        return digest_of_records(self._kind, len(packed), records)
