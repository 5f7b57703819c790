"""The folder of everything that is kept."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sim_core.config import (
    LedgerConfig,
    PostgresLedger,
    SqliteLedger,
    describe_validation,
)
from sim_core.error_table import Trouble
from sim_core.errors import FileUnwritten, WorkspaceError


@dataclass(frozen=True)
class Workspace:
    """Names of what is in a workspace."""

    folder: Path

    @property
    def database(self) -> Path:
        """The ledger."""
        return self.folder / "ledger.db"

    @property
    def ledger_settings(self) -> Path:
        """Where the ledger is, if it is not in `database`."""
        return self.folder / "ledger.json"

    @property
    def has_ledger(self) -> bool:
        """Whether an experiment has been entered here."""
        return self.database.is_file() or self.ledger_settings.is_file()

    @property
    def checkpoints(self) -> Path:
        """States of runs."""
        return self.folder / "checkpoints"

    def experiment(self, name: str) -> Path:
        """Results of one experiment."""
        return self.folder / "experiments" / name


def open_workspace(folder: Path) -> Workspace:
    """Return a workspace, made if it is not there.

    Raises:
        WorkspaceError: it cannot be made or written.
    """
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WorkspaceError(
            f"workspace {folder} cannot be written: {error.strerror}. Set workspace=FOLDER or "
            "QUORUMLAB_WORKSPACE to a folder that can"
        ) from error
    return Workspace(folder)


def existing_workspace(folder: Path) -> Workspace:
    """Return a workspace that must be there.

    Raises:
        WorkspaceError: there is no ledger in it.
    """
    workspace = Workspace(folder.expanduser().absolute())
    if not workspace.has_ledger:
        raise WorkspaceError(
            f"no workspace at {workspace.folder}: it has no ledger.db. Run an experiment first, "
            "or name the folder with --workspace or QUORUMLAB_WORKSPACE"
        )
    return workspace


def remember_ledger(workspace: Workspace, settings: LedgerConfig) -> None:
    """Note in a workspace that its ledger is in PostgreSQL, for the commands that only name it.

    Raises:
        WorkspaceError: its ledger is somewhere else already.
    """
    kept = read_ledger_settings(workspace)
    if kept.kind != settings.kind and workspace.has_ledger:
        raise WorkspaceError(
            f"the ledger of workspace {workspace.folder} is kept in {kept.kind}: set "
            f"ledger={kept.kind}, or choose another workspace"
        )
    if settings.kind == "postgresql":
        write_whole(workspace.ledger_settings, settings.model_dump_json(indent=2))


def read_ledger_settings(workspace: Workspace) -> LedgerConfig:
    """Return where the ledger of a workspace is kept.

    Raises:
        WorkspaceError: the file that says so is damaged.
    """
    path = workspace.ledger_settings
    if not path.exists():
        return SqliteLedger()
    try:
        return PostgresLedger.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else describe_validation(error)
        raise WorkspaceError(
            f"{path} does not say where the ledger is: {reason}. Give a command with "
            "ledger=postgresql ledger.url=... to write it again"
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Raises:
        FileUnwritten: the disk is full or broken, or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        told = Trouble.FILE_UNWRITTEN.tell(place=path, reason=error.strerror or error)
        raise FileUnwritten(told) from error


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
