"""Experiments from Python: the same results as from the command line, as tables."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows import load, run
from sim_core.errors import ConfigurationError, UserError
from tests.program import Program

SMALL = (
    "experiment.name=small", "experiment.replicates=3", "simulation.nodes=12", "simulation.steps=20",
    "executor=inline", "tracking=off", "validation.engine=sql", "output.plots=false",
)  # fmt: skip
POINTS = {"honest": [], "liars": ["adversary=poisoner", "adversary.share=0.4"]}


def test_results_are_tables_and_come_from_the_ledger(tmp_path: Path) -> None:
    done = run(*SMALL, points=POINTS, workspace=tmp_path, quiet=True)
    assert (done.name, done.state) == ("small", "finished")
    assert done.runs["label"].tolist() == ["honest"] * 3 + ["liars"] * 3
    assert len(done.steps) == 6 * 20
    means = done.points.set_index(["label", "metric"])["mean"]
    assert means["liars", "f1"] == pytest.approx(
        done.runs[done.runs["label"] == "liars"]["f1"].mean()
    )
    compared = done.compare("honest", metrics=["f1", "messages_sent"])
    assert compared["metric"].tolist() == ["f1", "messages_sent"]
    assert compared["is_paired"].all()
    for thread in threading.enumerate():
        if thread.name == "warm-up":
            thread.join(60)
            assert not thread.is_alive(), "nothing stays behind in a notebook"
    again = load("small", workspace=tmp_path)
    assert again.runs.equals(done.runs)
    assert (done.folder / "summary.json").is_file()


def test_heads_are_those_of_the_command_line(tmp_path: Path) -> None:
    program = Program(tmp_path / "other")
    program.folder.mkdir()
    words = ["+points.honest=[]", "+points.liars=['adversary=poisoner','adversary.share=0.4']"]
    assert program.run("run", *SMALL, *words, "orchestrator=none").returncode == 0
    done = run(*SMALL, points=POINTS, workspace=tmp_path / "mine", quiet=True)
    heads = {row["run_id"]: row["ledger_head"] for row in program.summary()["runs"]}
    assert dict(zip(done.runs["run_id"], done.runs["ledger_head"], strict=True)) == heads


def test_a_run_that_fails_is_told_in_the_results(tmp_path: Path) -> None:
    done = run(*SMALL, "limits.memory_mb=1", workspace=tmp_path, quiet=True)
    assert done.state == "failed"
    assert done.runs["error"].str.contains("limits.memory_mb").all()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"points\['liars'\]: a list of overrides"):
        run(*SMALL, points={"liars": "adversary=poisoner"}, workspace=tmp_path)  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="adversery"):
        run("adversery=poisoner", workspace=tmp_path)
    with pytest.raises(UserError):
        load("small", workspace=tmp_path / "nothing")


def test_importing_flows_imports_nothing_else() -> None:
    code = (
        "import sys, flows; print(sorted({'pandas', 'hydra', 'rich', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        __import__("flows").nothing  # noqa: B018
