"""The folder of everything that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim_core.errors import FileUnwritten, WorkspaceError
from sim_core.workspace import existing_workspace, open_workspace, write_whole


def test_workspace_is_made_where_it_is_not_there(tmp_path: Path):
    workspace = open_workspace(tmp_path / "deep" / "er")
    assert workspace.folder.is_dir()
    assert list(workspace.folder.iterdir()) == []
    assert workspace.database.parent == workspace.checkpoints.parent == workspace.folder
    assert workspace.experiment("mine").is_relative_to(workspace.folder)
    assert open_workspace(tmp_path / "deep" / "er") == workspace


def test_workspace_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match=r"file/below cannot be written.*workspace=FOLDER"):
        open_workspace(tmp_path / "file" / "below")


def test_workspace_without_a_ledger_does_not_exist(tmp_path: Path):
    with pytest.raises(WorkspaceError, match=r"has no ledger\.db"):
        existing_workspace(tmp_path)
    open_workspace(tmp_path).database.write_bytes(b"")
    assert existing_workspace(tmp_path) == open_workspace(tmp_path)


def test_reader_sees_the_old_content_or_the_new_and_never_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "new" / "summary.json"
    write_whole(path, "old")

    def fail(self: Path, target: Path) -> Path:
        assert path.read_text() == "old"
        assert self.read_text() == "new content"
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(
            FileUnwritten, match=r"summary.json cannot be written: disk full\. .* again"
        ):
            write_whole(path, "new content")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"], "a temporary file is left"
    write_whole(path, b"\0new")
    assert path.read_bytes() == b"\0new"
    assert path.stat().st_mode & 0o777 == 0o644
