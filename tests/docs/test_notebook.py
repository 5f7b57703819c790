"""The notebooks of the documentation run, and are kept without their outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, cwd=".", kernel_name="python3", timeout=100)
nbformat.write(notebook, "executed.ipynb")
"""
"""A process of its own: what Jupyter leaves open is no business of the other tests."""


CHANGED = ("QUORUMLAB_", "MPLBACKEND")
"""Variables that a notebook's reader has not, and that libraries of other tests set."""


@each_notebook
@pytest.mark.slow
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    environment = {name: v for name, v in os.environ.items() if not name.startswith(CHANGED)}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type in ("error", "stream")]
    assert any("text/html" in output.data for output in outputs)
    assert any("image/png" in output.data for output in outputs)
    assert (tmp_path / "workspace" / "ledger.db").is_file()


@each_notebook
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
