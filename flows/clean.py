"""The command `clean`: what nobody needs goes; a named experiment goes altogether.

What resuming, verifying, replaying or a longer horizon needs is never removed. Nothing is locked: a
file goes only where no living driver can enter it any more, and rows only together with the epoch
of whoever wrote them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.inspect import opened
from flows.leftovers import MEGABYTE, Removal, bytes_below, find_removals, prune_to_size
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ExperimentConfig
from sim_core.config.retention import RetentionConfig
from sim_core.errors import QuorumlabError, RunFailed
from sim_core.ledger.condition import compact, shorten_log, size_of
from sim_core.ledger.presence import is_at_work
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace, write_whole

REPORT = "clean-up.json"
"""Says when a workspace was cleaned last, and of what."""
LEAST_FREE_SHARE = 0.25
LEAST_FREE_BYTES = MEGABYTE
"""Of a database's file, from which it is worth writing anew."""
LEAST_LOG_BYTES = MEGABYTE
LISTED = 3


def clean_workspace(folder: Path, console: Console, *, dry_run: bool = False) -> None:
    """Remove what nobody needs from a workspace, and say what and how much.

    Args:
        folder: The workspace.
        console: Where to say so.
        dry_run: Only say what would go; nothing is changed.

    Raises:
        WorkspaceError: there is no such workspace.
    """
    with opened(folder) as (workspace, ledger):
        retention = newest_retention(ledger)
        if dry_run:
            found = [*_of_workspace(workspace, ledger, retention), *of_database(ledger)]
        else:
            found = clean_up(workspace, ledger, retention)
        if found:
            console.print(removals_table(found, "to remove" if dry_run else "removed"))
        else:
            console.print("[green]nothing to remove[/]")
        _tell_size(workspace, ledger, retention, console)


@contextmanager
def cleaning_afterwards(config: ExperimentConfig, console: Console) -> Iterator[None]:
    """Clean up, if it is due, after the block, also where runs of its experiment have failed."""
    try:
        yield
    except RunFailed:
        clean_when_due(config, console)
        raise
    clean_when_due(config, console)


def clean_when_due(config: ExperimentConfig, console: Console) -> None:
    """Clean up at the end of a command, if `retention.every_hours` have passed since the last time.

    What goes wrong is said, and changes nothing about the experiment.
    """
    hours = config.retention.every_hours
    workspace = Workspace(config.workspace.expanduser().absolute())
    if hours is None or hours_since(workspace) < hours:
        return
    try:
        with opened(workspace.folder) as (_, ledger):
            done = clean_up(workspace, ledger, config.retention)
            freed = sum(removal.n_bytes for removal in done)
            what = ", ".join(f"{r.n} {r.what}" for r in done) or "nothing to remove"
            console.print(f"[dim]cleaned up, {freed / MEGABYTE:,.1f} MB: {escape(what)}[/]")
            _tell_size(workspace, ledger, config.retention, console)
    except (QuorumlabError, OSError) as error:
        console.print(f"[yellow]not cleaned up:[/] {escape(str(error))}")


def hours_since(workspace: Workspace) -> float:
    """Return how long ago a workspace was cleaned; infinity where nobody can tell.

    A time to come is of a clock that was wrong.
    """
    try:
        kept = json.loads((workspace.folder / REPORT).read_bytes())
        hours = (time.time() - float(kept["at"])) / 3600
    except (OSError, ValueError, KeyError, TypeError):
        return float("inf")
    return hours if hours >= 0 else float("inf")


def clean_up(workspace: Workspace, ledger: Ledger, retention: RetentionConfig) -> list[Removal]:
    """Remove what nobody needs; return what went, as it is also kept in the workspace.

    Raises:
        LedgerFailed: the database does not write; what went is gone, the same command goes on.
    """
    done = [r for r in _of_workspace(workspace, ledger, retention) if r.carry_out()]
    done += [r for r in of_database(ledger) if r.carry_out()]
    report = {
        "at": round(time.time(), 3),
        "removed": [{"what": r.what, "number": r.n, "bytes": r.n_bytes} for r in done],
    }
    write_whole(workspace.folder / REPORT, json.dumps(report, indent=2))
    return done


def newest_retention(ledger: Ledger) -> RetentionConfig:
    """Return what the experiment that was begun or changed last says about retention."""
    newest = next(iter(ledger.experiments()), None)
    stored = newest.config.get("retention", {}) if newest is not None else {}
    try:
        return RetentionConfig.model_validate(stored)
    except ValidationError:  # of another version of this program
        return RetentionConfig()


def _of_workspace(
    workspace: Workspace, ledger: Ledger, retention: RetentionConfig
) -> list[Removal]:
    """Return which files and rows may go."""
    found = find_removals(workspace, ledger, CheckpointFolder(workspace.checkpoints), retention)
    return found + prune_to_size(workspace, ledger, retention, sum(r.n_bytes for r in found))


def of_database(ledger: Ledger) -> list[Removal]:
    """Return the write-ahead log and free pages, where that is worth the work.

    A database is written anew only while nobody is at work on it, who would have to wait.
    """
    size = size_of(ledger.engine)
    found = []

    def write_anew() -> bool:
        compact(ledger.engine)
        return True

    is_idle = not any(is_at_work(ledger.engine, e.name) for e in ledger.experiments())
    is_much = size.free > max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * size.database)
    if is_idle and is_much:
        pages = "free space in the ledger (VACUUM)"
        found.append(Removal(pages, 1, size.free, write_anew))
    if size.log > LEAST_LOG_BYTES:  # a smaller one goes with the last connection
        log = "write-ahead log, moved into the ledger"
        found.append(Removal(log, 1, size.log, lambda: shorten_log(ledger.engine)))
    return found


def removals_table(removals: Sequence[Removal], heading: str) -> Table:
    """Return for the terminal what goes, how many of it and how much."""
    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    total = sum(removal.n_bytes for removal in removals) / MEGABYTE
    table.add_column(heading, "in all")
    table.add_column("number", justify="right")
    table.add_column("MB", f"{total:,.2f}", justify="right")
    for removal in removals:
        table.add_row(removal.what, f"{removal.n:,}", f"{removal.n_bytes / MEGABYTE:,.2f}")
    return table


def _tell_size(
    workspace: Workspace, ledger: Ledger, retention: RetentionConfig, console: Console
) -> None:
    """Say how large a workspace is that is larger than it may be, and what is the user's to delete."""
    size = bytes_below(workspace.folder) / MEGABYTE
    most = retention.max_workspace_mb
    if most is None or size <= most:
        return
    oldest = ", ".join(e.name for e in ledger.experiments()[: -LISTED - 1 : -1])
    console.print(
        f"[yellow]the workspace has {size:,.0f} MB, more than retention.max_workspace_mb={most}:[/] "
        f"what is left is needed to resume or verify. quorumlab clean NAME deletes an experiment "
        f"with its rows; the oldest are {escape(oldest)}"
    )
