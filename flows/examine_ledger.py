"""Whether the ledger of a workspace is as it should be; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine

from flows.finding import Finding
from flows.leftovers import MEGABYTE, unfinished_files
from sim_core.checkpoint import CheckpointFolder
from sim_core.errors import QuorumlabError
from sim_core.ledger.condition import damage, missing_parts, size_of
from sim_core.ledger.engine import open_engine
from sim_core.ledger.garbage import find_garbage
from sim_core.ledger.schema import HEAD, refuse_unknown, schema_of
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace, read_ledger_settings

LARGE_LOG = 64 * MEGABYTE
"""Bytes of a write-ahead log that somebody keeps from being moved into the database."""
CLEAN = "quorumlab clean removes them"


def examine_ledger(workspace: Workspace) -> Iterator[Finding]:
    """Yield what is found of a workspace's ledger, from whether it answers to files left behind."""
    if not workspace.has_ledger:
        yield Finding("ledger", "ok", f"none yet in {workspace.folder}")
        return
    try:
        settings = read_ledger_settings(workspace)
        engine = open_engine(workspace.database, settings, as_it_is=True)
    except QuorumlabError as error:
        yield Finding("ledger", "problem", str(error), "see there")
        return
    try:
        yield from _examine(workspace, engine)
    except QuorumlabError as error:
        yield Finding("ledger", "problem", str(error), "see there")
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
        broken = damage(connection)
    is_old = schema != HEAD
    yield Finding(
        "schema of the ledger",
        "warn" if is_old else "ok",
        f"{schema or 'none'}" + (f", this program's is {HEAD}" if is_old else ""),
        "any other command upgrades it: make a copy before" if is_old else "",
    )
    yield Finding(
        "integrity of the ledger",
        "problem" if broken else "ok",
        "; ".join(broken) or ("quick_check" if engine.name == "sqlite" else "PostgreSQL's own"),
        "restore a copy; quorumlab verify says which runs are whole" if broken else "",
    )
    if is_old:
        return
    missing = missing_parts(engine)
    for part in missing:
        yield Finding(
            "index of the ledger", "problem", f"{part.name} is missing", f"{part.statement};"
        )
    if missing:
        return
    yield Finding("indexes of the ledger", "ok", "all are there")
    yield _log(size.log)
    yield from _left_behind(workspace, ledger)


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
