"""The folder of everything that is kept."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sim_core.errors import WorkspaceError


@dataclass(frozen=True)
class Workspace:
    """Names of what is in a workspace."""

    folder: Path

    @property
    def database(self) -> Path:
        """The ledger."""
        return self.folder / "ledger.db"

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
    if not workspace.database.is_file():
        raise WorkspaceError(
            f"no workspace at {workspace.folder}: it has no ledger.db. Run an experiment first, "
            "or name the folder with --workspace or QUORUMLAB_WORKSPACE"
        )
    return workspace


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
