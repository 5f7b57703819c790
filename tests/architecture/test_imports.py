"""The model stands alone: no service library comes with it, and importing it does nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sim_core.config
from sim_core.identity import KEEPING, PACKAGE

ROOT = Path(sim_core.__file__).parents[1]
SERVICES = ("prefect", "ray", "mlflow", "hydra", "great_expectations")
IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, random, sys, threading
import numpy as np
before = random.getstate(), np.random.get_state()[1].tolist(), sorted(os.listdir())
import sim_core
names = [m.name for m in pkgutil.walk_packages(sim_core.__path__, "sim_core.")]
names.remove("sim_core.ledger.migrations.env")  # a script that Alembic executes
for name in names:
    importlib.import_module(name)
after = random.getstate(), np.random.get_state()[1].tolist(), sorted(os.listdir())
print(json.dumps({
    "modules": names,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "threads": [thread.name for thread in threading.enumerate()],
    "left_alone": before == after,
}))
"""


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what a process finds that has imported every module of sim_core and nothing else."""
    process = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r})" + IMPORT_EVERYTHING,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path_factory.mktemp("empty"),
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return json.loads(process.stdout)


def test_no_service_library_comes_with_the_model(fresh_process: Any):
    assert len(fresh_process["modules"]) > 30
    assert not set(fresh_process["loaded"]) & set(SERVICES)


def test_importing_starts_nothing_and_leaves_the_process_alone(fresh_process: Any):
    assert fresh_process["threads"] == ["MainThread"]
    assert fresh_process["left_alone"], "random state or the working folder changed"


def imports_of(path: Path) -> set[str]:
    """Return the modules of sim_core that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            if node.module == "sim_core.config":  # which only passes on what its modules define
                defined = (getattr(sim_core.config, alias.name) for alias in node.names)
                found |= {getattr(value, "__module__", "") for value in defined}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("sim_core")}


def test_model_imports_nothing_that_its_version_leaves_out():
    """Else a change there could change results without changing the keys of runs."""
    left_out = {f"sim_core.{name.removesuffix('.py').replace('/', '.')}" for name in KEEPING}
    for name in KEEPING:
        assert (PACKAGE / name).is_file(), f"{name} is left out but is not there"
    left_out.remove("sim_core.errors")  # of which no result is made
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() not in KEEPING:
            assert not imports_of(path) & left_out, path
