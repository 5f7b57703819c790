"""Recompute a run's hash chain from the database and the documented encoding alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from sim_core.ledger.blocks import (
    KEPT,
    KINDS,
    block_hash,
    digest,
    entry_dtypes,
    first_hash,
)
from sim_core.ledger.store import Ledger, entries_of
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES, SUMMARIES

STEPS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Break:
    """The first place where a run's rows do not give what is stored."""

    run_key: str
    step: int
    entry: str
    """Kind of the entries whose digest differs, or `block`."""
    message: str


def verify_run(ledger: Ledger, run: dict[str, Any] | Any) -> Break | None:
    """Return the first break of a run's chain, or None where it recomputes.

    Digests of the kinds that `ledger.detail` keeps are recomputed from their rows, those of the
    other kinds are taken as stored; then every hash, from the run's key to its head.

    Args:
        ledger: The ledger.
        run: A row of `Ledger.runs_of` or of table `run`, as a mapping.
    """
    return next(_breaks(ledger, run), None)


def _breaks(ledger: Ledger, run: Any) -> Iterator[Break]:
    key = run["run_key"]
    previous = first_hash(key)
    step = -1
    summaries = _summaries(ledger, run["id"])
    for block, recomputed in _blocks(ledger, run):
        if block is None:
            kind, reason = next(iter(recomputed.items()))
            yield Break(key, step + 1, kind, str(reason))
            return
        step += 1
        if block["step"] != step:
            yield Break(key, step, "block", f"block {step} is missing")
            return
        for kind, found in recomputed.items():
            if found != block[kind]:
                reason = found if isinstance(found, str) else "its rows give another digest"
                yield Break(key, step, kind, f"{kind} entries of step {step}: {reason}")
        if block["previous"] != previous:
            yield Break(key, step, "block", f"block {step} does not follow block {step - 1}")
        digests = tuple(block[kind] for kind in KINDS)
        previous = block_hash(block["previous"], step, digests)
        if block["hash"] != previous:
            yield Break(key, step, "block", f"the hash of block {step} does not recompute")
        if summaries.get(step + 1, previous.hex()) != previous.hex():
            yield Break(key, step, "head", f"the summary at step {step + 1} names another head")
    if step + 1 != run["steps"]:
        yield Break(key, step + 1, "block", f"{step + 1} blocks, but {run['steps']} steps")
    if run["head"] is not None and run["head"] != previous.hex():
        yield Break(key, step, "head", "the stored head is not the hash of the last block")


def _summaries(ledger: Ledger, run: int) -> dict[int, str]:
    with ledger.reading() as connection:
        rows = connection.execute(
            select(SUMMARIES.c.horizon, SUMMARIES.c.head).where(SUMMARIES.c.run == run)
        )
        return {row.horizon: row.head for row in rows}


def _blocks(ledger: Ledger, run: Any) -> Iterator[tuple[Any, dict[str, bytes | str]]]:
    """Yield each block with the digests that its kept rows give, or why they give none.

    Rows of steps that have no block come last, with None in place of a block.
    """
    dtypes = entry_dtypes(run["n_nodes"], run["n_features"])
    kept = KEPT[run["detail"]]
    for start in range(0, max(run["steps"], 1), STEPS_AT_ONCE):
        with ledger.reading() as connection:
            blocks = (
                connection.execute(
                    select(BLOCKS)
                    .where(
                        BLOCKS.c.run == run["id"],
                        BLOCKS.c.step >= start,
                        BLOCKS.c.step < start + STEPS_AT_ONCE,
                    )
                    .order_by(BLOCKS.c.step)
                )
                .mappings()
                .all()
            )
            rows: dict[str, dict[int, list[Any]]] = {}
            for kind in kept:
                table = ENTRY_TABLES[kind]
                by_step = rows.setdefault(kind, {})
                for row in connection.execute(
                    select(*list(table.columns)[1:])
                    .where(
                        table.c.run == run["id"],
                        table.c.step >= start,
                        table.c.step < start + STEPS_AT_ONCE,
                    )
                    .order_by(*table.primary_key.columns)
                ):
                    by_step.setdefault(row[0], []).append(row)
        for block in blocks:
            found: dict[str, bytes | str] = {}
            for kind in sorted(kept):
                try:
                    entries = entries_of(rows[kind].pop(block["step"], []), dtypes[kind])
                    found[kind] = digest(kind, entries)
                except ValueError as error:
                    found[kind] = str(error)
            yield block, found
        left = {(s, kind) for kind, by_step in rows.items() for s in by_step}
        if left:
            step, kind = min(left)
            yield None, {kind: f"entries of step {step} have no block"}
