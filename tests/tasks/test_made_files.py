"""Files are made again when they, what they are made of, or the program has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks import made_files
from tasks.made_files import RECORD, MadeFiles, program_version

ORIGIN = {"runs": [["5f14", 0.25, None]]}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a folder in which two files have been made."""
    files = [tmp_path / "runs.parquet", tmp_path / "plots" / "curve.png"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.name)
    record = MadeFiles(tmp_path, ORIGIN)
    record.new = files
    record.note()
    return tmp_path


def test_what_is_as_it_was_left_is_current(made: Path) -> None:
    assert MadeFiles(made, ORIGIN).are_current()
    assert not MadeFiles(made, {"runs": [["5f14", 0.26, None]]}).are_current()


@pytest.mark.parametrize("name", ["runs.parquet", "plots/curve.png"])
def test_a_file_that_was_touched_or_is_gone_is_made_again(made: Path, name: str) -> None:
    file = made / name
    status = file.stat()
    file.write_text("edited")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not MadeFiles(made, ORIGIN).are_current(), "another size"
    file.write_text(file.name)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not MadeFiles(made, ORIGIN).are_current(), "another time"
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert MadeFiles(made, ORIGIN).are_current()
    file.unlink()
    assert not MadeFiles(made, ORIGIN).are_current()


def test_another_program_makes_its_own(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_files, "program_version", lambda: "another")
    assert not MadeFiles(made, ORIGIN).are_current()


def test_version_of_the_program_is_that_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("flows/a.py", "tasks/b.html.jinja", "sim_core/c/d.py", "tests/t.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    monkeypatch.setattr(made_files, "PROGRAM", tmp_path)
    found = [program_version.__wrapped__()]
    (tmp_path / "tests/t.py").write_text("changed")
    assert program_version.__wrapped__() == found[0]
    for file in ("flows/a.py", "tasks/b.html.jinja", "sim_core/c/d.py"):
        (tmp_path / file).write_text("changed")
        found.append(program_version.__wrapped__())
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{}", '{"made_of": 1, "files": 3}', "{" * 9, "\0", '{"files": {}}'],
)
def test_a_record_that_says_nothing_is_none(made: Path, content: str) -> None:
    (made / RECORD).write_text(content)
    assert not MadeFiles(made, ORIGIN).are_current()


def test_without_files_nothing_is_current(tmp_path: Path) -> None:
    made = MadeFiles(tmp_path, ORIGIN)
    assert not made.are_current()
    made.note()
    assert not made.are_current()
