"""The example package as a user installs it, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.installed import EXAMPLE, Installed
from tests.program import Program

collect_ignore = ["example_package"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that pip has installed the example package into, without a network."""
    folder = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    words += ["--disable-pip-version-check", "--no-compile", "--target", str(folder), str(EXAMPLE)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return folder


@pytest.fixture
def installed(built: Path, tmp_path: Path) -> Installed:
    """Return a copy of that folder, which a test may change."""
    return Installed(tmp_path / "site", built)


@pytest.fixture
def users(installed: Installed, tmp_path: Path) -> Iterator[Program]:
    """Return the real program where the example package is installed."""
    made = Program(tmp_path, {"PYTHONPATH": installed.path, "PYTHONDONTWRITEBYTECODE": "1"})
    yield made
    made.stop_all()
