"""What lies about in a workspace and nobody needs, or can be made again."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sim_core.checkpoint import CheckpointFolder
from sim_core.config.retention import RetentionConfig
from sim_core.identity import model_version
from sim_core.ledger.garbage import find_garbage
from sim_core.ledger.presence import is_at_work
from sim_core.ledger.retention import (
    drop_checkpoints,
    erase_unused,
    spare_checkpoints,
    unused_runs,
)
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace

MEGABYTE = 1024 * 1024
DAY = 86_400
TEMPORARY = re.compile(
    r"\.(ledger|clean-up|summary|config|validation|runs|steps|report)\.(json|yaml|parquet|html)"
    r"\.(?=.*[0-9_])[a-z0-9_]{8}"
)
"""Names that `write_whole` gives to what is not written to its end. Eight letters may be a word, and
the file somebody's own (`.config.yaml.template`): without a digit it stays."""
TEMPORARY_SECONDS = 3_600
"""A writer that has taken longer for one file is dead."""
HALF_MADE = "mlflow.new.db*"
REMADE = ("plots", "runs.parquet", "steps.parquet", "report.html")
"""Of an experiment's folder: what `quorumlab resume` writes again from the ledger."""


@dataclass(frozen=True)
class Removal:
    """Something that may go, and how."""

    what: str
    n: int
    n_bytes: int
    carry_out: Callable[[], bool]
    """Does it; returns whether it was done."""


def find_removals(
    workspace: Workspace, ledger: Ledger, folder: CheckpointFolder, retention: RetentionConfig
) -> list[Removal]:
    """Return what nobody needs: files, rows, and checkpoints of finished runs."""
    garbage = [folder.folder / name for name in find_garbage(ledger, folder)]
    spares = spare_checkpoints(ledger, retention.checkpoints)
    unused, n_rows = unused_runs(ledger)

    def drop() -> bool:
        dropped = drop_checkpoints(ledger, spares)
        for spare in dropped:
            folder.remove(spare.name)
        return bool(dropped)

    def erase() -> bool:
        for name in erase_unused(ledger, unused):
            folder.remove(name)
        return True

    found = [
        of_files("checkpoints that the ledger does not know", garbage),
        Removal(
            f"checkpoints of finished runs beyond the last {retention.checkpoints}",
            len(spares),
            sum(spare.n_bytes for spare in spares),
            drop,
        ),
        Removal("rows of runs that no experiment uses", n_rows, 0, erase),
        of_files("files that their writer did not finish", unfinished_files(workspace, ledger)),
    ]
    return [removal for removal in found if removal.n]


def of_files(what: str, files: Sequence[Path]) -> Removal:
    """Return the removal of files and of folders."""

    def remove() -> bool:
        for path in files:
            path.unlink(missing_ok=True)
        return True

    return Removal(what, len(files), sum(map(_bytes_of, files)), remove)


def unfinished_files(workspace: Workspace, ledger: Ledger) -> list[Path]:
    """Return temporary files, an hour old, of experiments that nobody works on."""
    found = []
    for folder in [workspace.folder, *workspace.experiment("x").parent.glob("*/")]:
        old = [path for path in folder.glob(".*") if _is_left(path)]
        if old and not (folder != workspace.folder and is_at_work(ledger.engine, folder.name)):
            found += old
    with _nobody_publishes(workspace) as nobody:
        if nobody:
            found += workspace.folder.glob(HALF_MADE)
    return found


def _is_left(path: Path) -> bool:
    is_temporary = path.is_file() and TEMPORARY.fullmatch(path.name) is not None
    return is_temporary and time.time() - path.stat().st_mtime > TEMPORARY_SECONDS


@contextmanager
def _nobody_publishes(workspace: Workspace) -> Iterator[bool]:
    """Give whether nobody makes MLflow's database, which is done under this lock."""
    path = workspace.folder / "mlflow.lock"
    if not path.exists():
        yield False
        return
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def prune_to_size(
    workspace: Workspace, ledger: Ledger, retention: RetentionConfig, already: int
) -> list[Removal]:
    """Return the plots and tables that go so that a workspace is not larger than it may be.

    Args:
        workspace: The workspace.
        ledger: Knows which experiments have ended and how old they are; the oldest go first.
        retention: What size and age mean.
        already: Bytes that go for other reasons.
    """
    if retention.max_workspace_mb is None:
        return []
    excess = bytes_below(workspace.folder) - already - retention.max_workspace_mb * MEGABYTE
    files: list[Path] = []
    for experiment in reversed(ledger.experiments()):
        age = time.time() - experiment.updated_at
        if excess <= 0 or age < retention.keep_days * DAY:
            break
        is_of_this_code = experiment.environment.get("model_version") == model_version()
        if experiment.state != "finished" or not is_of_this_code:  # or nobody could make them again
            continue
        if is_at_work(ledger.engine, experiment.name):
            continue
        mine = remade_files(workspace.experiment(experiment.name))
        files += mine
        excess -= sum(map(_bytes_of, mine))
    what = f"plots and tables older than {retention.keep_days:g} days (resume makes them again)"
    return [of_files(what, files)] if files else []


def remade_files(folder: Path) -> list[Path]:
    """Return the files of an experiment's folder that are made again from the ledger."""
    paths = [folder / name for name in REMADE]
    return [file for path in paths for file in [path, *path.rglob("*")] if file.is_file()]


def bytes_below(folder: Path) -> int:
    """Return the size of all files in and below a folder."""
    return sum(map(_bytes_of, folder.rglob("*")))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # gone meanwhile
        return 0
