"""The sweep that others carry out for comparison is carried out by them, all of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

WORDS = (
    "adversary.share=0.1,0.2", "adversary=poisoner", "simulation.nodes=8",
    "simulation.steps=10", "experiment.replicates=2",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "library"),
    [("tuned", "ray.tune"), ("tasked", "prefect_ray"), ("explored", "ema_workbench")],
)
def test_others_carry_out_the_same_sweep(module: str, library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is no dependency of this project, and is not installed")
    done = subprocess.run(
        [sys.executable, "-m", f"flows.suites.{module}", *WORDS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    wrong = subprocess.run(
        [sys.executable, "-m", f"flows.suites.{module}", "simulation.nodes=none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode != 0
