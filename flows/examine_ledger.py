"""Whether the ledger of a workspace is as it should be; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine

from flows.finding import Finding
from flows.leftovers import MEGABYTE, unfinished_files
from sim_core.checkpoint import CheckpointFolder
from sim_core.errors import LedgerFailed, QuorumlabError
from sim_core.ledger.condition import damage, size_of
from sim_core.ledger.engine import open_engine
from sim_core.ledger.garbage import find_garbage
from sim_core.ledger.missing import missing_parts
from sim_core.ledger.schema import HEAD, refuse_unknown, schema_of
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace, read_ledger_settings

LARGE_LOG = 64 * MEGABYTE
"""Bytes of a write-ahead log that somebody keeps from being moved into the database."""
CLEAN = "quorumlab clean removes them"
AGAIN = "do what this says, then look again: nothing else of the ledger was looked at"


def examine_ledger(workspace: Workspace) -> Iterator[Finding]:
    """Yield what is found of a workspace's ledger, from whether it answers to files left behind."""
    if not workspace.has_ledger:
        yield Finding("ledger", "ok", f"none yet in {workspace.folder}")
        return
    try:
        settings = read_ledger_settings(workspace)
        engine = open_engine(workspace.database, settings, as_it_is=True)
    except QuorumlabError as error:
        yield Finding("ledger", "problem", str(error), AGAIN)
        return
    try:
        yield from _examine(workspace, engine)
    except QuorumlabError as error:
        yield Finding("ledger", "problem", str(error), AGAIN)
    finally:
        engine.dispose()


def _examine(workspace: Workspace, engine: Engine) -> Iterator[Finding]:
    ledger = Ledger(engine, CheckpointFolder(workspace.checkpoints))
    size = size_of(engine)
    place = engine.url.render_as_string(hide_password=True)
    yield Finding("ledger", "ok", f"{place}, {size.database / MEGABYTE:,.1f} MB")
    with ledger.reading() as connection:
        schema = schema_of(connection)
        refuse_unknown(schema, place)
    is_old = schema != HEAD
    yield Finding(
        "schema of the ledger",
        "warn" if is_old else "ok",
        f"{schema or 'none'}" + (f", this program's is {HEAD}" if is_old else ""),
        "any other command upgrades it: make a copy before" if is_old else "",
    )
    yield _integrity(ledger)
    if is_old:
        return
    missing = missing_parts(engine)
    for part in missing:
        kind = "table" if part.is_table else "index"
        yield Finding(
            f"{kind} of the ledger", "problem", f"{part.name} is missing", f"{part.statement};"
        )
    if not missing:
        yield Finding("indexes of the ledger", "ok", "all are there")
    yield _log(size.log)
    if not any(part.is_table for part in missing):
        yield from _left_behind(workspace, ledger)


def _integrity(ledger: Ledger) -> Finding:
    what, is_file = "integrity of the ledger", ledger.engine.name == "sqlite"
    try:
        with ledger.reading() as connection:
            broken = damage(connection)
    except LedgerFailed as error:  # which says nothing about the file
        return Finding(what, "warn", f"not known: {error}", "give the command again")
    if broken:
        advice = "restore a copy; quorumlab verify says which runs are whole"
        return Finding(what, "problem", "; ".join(broken), advice)
    return Finding(what, "ok", "quick_check" if is_file else "PostgreSQL's own")


def _log(n_bytes: int) -> Finding:
    is_large = n_bytes > LARGE_LOG
    return Finding(
        "write-ahead log",
        "warn" if is_large else "ok",
        f"{n_bytes / MEGABYTE:,.1f} MB",
        "a program reads the ledger without an end; end it, then quorumlab clean"
        if is_large
        else "",
    )


def _left_behind(workspace: Workspace, ledger: Ledger) -> Iterator[Finding]:
    garbage = find_garbage(ledger, CheckpointFolder(workspace.checkpoints))
    unfinished = unfinished_files(workspace, ledger)
    for what, n in (
        ("checkpoints without a row", len(garbage)),
        ("files not written to their end", len(unfinished)),
    ):
        yield Finding(what, "warn" if n else "ok", f"{n:,}", CLEAN if n else "")
