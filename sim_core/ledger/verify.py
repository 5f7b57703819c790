"""Recompute a run's hash chain from the database and the documented encoding alone."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Select, Table, func, select

from sim_core.config import ModelConfig
from sim_core.config.explain import shown
from sim_core.ledger.blocks import (
    KEPT,
    KINDS,
    block_hash,
    digest,
    entry_dtypes,
    first_hash,
)
from sim_core.ledger.store import Ledger, entries_of
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES, RUNS, SUMMARIES

STEPS_AT_ONCE = 1_000
ROWS_AT_ONCE = 1_000
HASH_BYTES = 32


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
        row = connection.execute(select(RUNS).where(RUNS.c.id == run["id"])).mappings().one()
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
    for block, recomputed in _blocks(connection, run):
        step += 1
        if block["step"] != step:
            yield Break(key, step, "block", f"block {step} is missing")
            return
        for kind, found in recomputed.items():
            if found != block[kind]:
                reason = found if isinstance(found, str) else "its rows give another digest"
                yield Break(key, step, kind, f"{kind} entries of step {step}: {reason}")
        stored = (block["previous"], block["hash"], *(block[kind] for kind in KINDS))
        if not all(isinstance(part, bytes) and len(part) == HASH_BYTES for part in stored):
            yield Break(key, step, "block", f"block {step} holds something that is no hash")
            return
        if block["previous"] != previous:
            yield Break(key, step, "block", f"block {step} does not follow block {step - 1}")
        previous = block_hash(previous, step, tuple(block[kind] for kind in KINDS))
        if block["hash"] != previous:
            yield Break(key, step, "block", f"the hash of block {step} does not recompute")
        if summaries.get(step + 1, previous.hex()) != previous.hex():
            yield Break(key, step, "head", f"the summary at step {step + 1} names another head")
    if step + 1 != run["steps"]:
        yield Break(key, step + 1, "block", f"{step + 1} blocks, but {run['steps']} steps")
    if run["head"] is not None and run["head"] != previous.hex():
        yield Break(key, step, "head", "the stored head is not the hash of the last block")


def stored_config(run: Mapping[str, Any] | Any) -> ModelConfig:
    """Return the configuration of a run from its row.

    What is stored leaves out the horizon and names data by content: the rest is as it was.

    Raises:
        ValidationError: it is no configuration (any more).
    """
    config = {key: part for key, part in run["config"].items() if key != "data"}
    simulation = config["simulation"] | {"steps": max(1, run["steps"])}
    return ModelConfig.model_validate(config | {"simulation": simulation})


def streamed(
    connection: Connection, statement: Select[Any], n_rows: int = ROWS_AT_ONCE
) -> CursorResult[Any]:
    """Return the rows of a statement, of which never more than `n_rows` are in memory.

    A plain one of PostgreSQL's client would hold them all. To be closed, as a context or so.
    """
    return connection.execute(statement, execution_options={"yield_per": n_rows})


def _strays(connection: Connection, run: Any) -> Iterator[Break]:
    """Yield rows of steps that the run does not have."""
    for kind, table in {**ENTRY_TABLES, "block": BLOCKS}.items():
        outside = (table.c.step < 0) | (table.c.step >= run["steps"])
        found = connection.execute(
            select(func.min(table.c.step)).where(table.c.run == run["id"], outside)
        ).scalar_one()
        if found is not None:
            message = f"{kind} rows of step {found!r:.40}, but {run['steps']} steps"
            step = found if isinstance(found, int) else 0
            yield Break(run["run_key"], step, kind, message)


def _summaries(connection: Connection, run: int) -> dict[int, str]:
    rows = connection.execute(
        select(SUMMARIES.c.horizon, SUMMARIES.c.head).where(SUMMARIES.c.run == run)
    )
    return {row.horizon: row.head for row in rows}


def _blocks(
    connection: Connection, run: Any
) -> Generator[tuple[Any, dict[str, bytes | str]], None, None]:
    """Yield each block with the digests that its kept rows give, or why they give none."""
    dtypes = entry_dtypes(stored_config(run).n_voters, run["n_features"])
    for start in range(0, run["steps"], STEPS_AT_ONCE):
        with ExitStack() as stack:
            rows = {
                kind: _Steps(stack.enter_context(_part(connection, ENTRY_TABLES[kind], run, start)))
                for kind in sorted(KEPT[run["detail"]])
            }
            blocks = stack.enter_context(_part(connection, BLOCKS, run, start))
            for block in blocks.mappings():
                found: dict[str, bytes | str] = {}
                for kind, steps in rows.items():
                    try:
                        entries = entries_of(steps.rows(block["step"]), dtypes[kind])
                        found[kind] = digest(kind, entries)
                    except ValueError as error:
                        found[kind] = str(error)
                yield block, found


class _Steps:
    """Rows in order of their steps, given out by step."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next = next(self._groups, None)

    def rows(self, step: int) -> list[Sequence[Any]]:
        """Return the rows of a step that lies behind the last one asked for."""
        while self._next is not None and self._next[0] < step:
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != step:
            return []
        return list(self._next[1])


def _part(connection: Connection, table: Table, run: Any, start: int) -> CursorResult[Any]:
    """Return the rows of some steps, but for their run, in the order in which they are digested."""
    statement = (
        select(*list(table.columns)[1:])
        .where(
            table.c.run == run["id"], table.c.step >= start, table.c.step < start + STEPS_AT_ONCE
        )
        .order_by(*table.primary_key.columns)
    )
    return streamed(connection, statement)
