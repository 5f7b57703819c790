"""Row 21 of the matrix on a file system that is really full: ledger, checkpoints, files, MLflow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.experiment import End, assert_undisturbed, command, end_of
from tests.program import Program

pytestmark = pytest.mark.faults
WORDS = ("orchestrator=none", "validation.engine=sql")
SIZES = ["64k", "300k", "800k", "1500k", "2500k", "3000k", "3500k"]
"""From no room for a ledger to none for MLflow's files."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> End:
    """Return how the experiment ends when nothing happens."""
    program = Program(tmp_path_factory.mktemp("undisturbed"))
    done = program.run(*command(program), *WORDS)
    assert done.returncode == 0, done.stderr
    return end_of(program)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that mounts the workspace with so much room, or gives it other room."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "workspace"
    folder.mkdir()
    mounted = False

    def give(size: str) -> None:
        nonlocal mounted
        options = f"remount,size={size}" if mounted else f"size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted = True

    yield give
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", SIZES)
def test_full_disk_ends_the_experiment_in_order(
    tmp_path: Path, small_disk: Callable[[str], None], undisturbed: End, size: str
) -> None:
    program = Program(tmp_path)
    small_disk(size)
    done = program.run(*command(program), *WORDS)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "full" in said or "space" in said, said
    assert done.returncode in (0, 1, 2), said  # 0: all but MLflow is there, and it says so
    assert done.returncode != 0 or "not published to MLflow" in said
    small_disk("100m")
    again = program.run(*command(program), *WORDS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_undisturbed(program, undisturbed)
