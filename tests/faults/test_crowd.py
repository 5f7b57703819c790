"""Rows 20, 23 and 24 of the matrix: many at once, other code, other ways to execute."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.compose import compose_experiment
from sim_core.plan import plan_runs
from sim_core.simulate import simulate
from tests.faults.experiment import LEDGER, OVERRIDES, command
from tests.faults.service import ROOT
from tests.program import Program

PLAIN = ("orchestrator=none", "validation.engine=sql", "output.plots=false", "tracking=off")
MANY = 8
PACKAGES = ("sim_core", "tasks", "flows", "conf")
RESULT_RELEVANT = (
    "sim_core/metrics.py",
    "import numpy as np\n",
    "import numpy as np\n\nUNUSED = 1\n",
)


def heads(*overrides: str) -> dict[str, str]:
    """Return the ledger head of each run of an experiment, simulated here."""
    config, points = compose_experiment([*OVERRIDES, *overrides])
    found = {}
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        found[run.spec.run_key] = last.head.hex()
    return found


@pytest.mark.faults
@pytest.mark.parametrize("tracking", ["tracking=off", "tracking=mlflow_local"])
def test_many_experiments_at_once_share_a_workspace(tmp_path: Path, tracking: str) -> None:
    """Row 20: no error, no row lost; on SQLite, all but one wait for the writer."""
    program = Program(tmp_path)
    words = [
        (f"experiment.name=crowd-{seed}", f"experiment.seed={seed}", "simulation.steps=40")
        for seed in range(MANY)
    ]
    try:
        processes = [
            program.start("run", *OVERRIDES, *LEDGER, *mine, *PLAIN, "executor=inline", tracking)
            for mine in words
        ]
        for process in processes:
            out, err = process.communicate(timeout=1_000)
            assert process.returncode == 0, out + err
            assert "warning" not in out
    finally:
        program.stop_all()
    expected = {key: head for mine in words for key, head in heads(*mine).items()}
    assert dict(program.query("SELECT run_key, head FROM run")) == expected
    blocks = program.query("SELECT run, count(*) FROM block GROUP BY run")
    assert [n for _, n in blocks] == [40] * len(expected)
    verified = program.run("verify")
    assert verified.returncode == 0, verified.stdout


def copy_of_the_program(folder: Path) -> Path:
    """Return a copy of this program's code, which may be changed."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def change(folder: Path, path: str, before: str, after: str) -> None:
    text = (folder / path).read_text()
    assert before in text
    (folder / path).write_text(text.replace(before, after, 1))


@pytest.mark.faults
@pytest.mark.parametrize(
    "other", ["simulation.nodes=13", "experiment.seed=2", "consensus=supermajority"]
)
def test_another_configuration_of_the_same_name_is_refused(tmp_path: Path, other: str) -> None:
    """Row 23, in the midst of an experiment: says what differs, and changes nothing."""
    program = Program(tmp_path, {"QUORUMLAB_FAULT": "commit.after:2:kill"})
    words = (*command(program), *PLAIN, "executor=inline")
    assert program.run(*words).returncode < 0
    program.environment.clear()
    before = program.query("SELECT * FROM run")
    refused = program.run(*words, other)
    assert refused.returncode == 2, refused.stderr
    assert "exists and cannot become this one" in refused.stderr
    assert program.query("SELECT * FROM run") == before
    assert program.run(*words).returncode == 0


@pytest.mark.faults
def test_changed_docstring_runs_nothing_and_changed_code_is_refused(tmp_path: Path) -> None:
    """Row 23 and B8: the code of the model belongs to what an experiment is."""
    code = copy_of_the_program(tmp_path / "code")
    program = Program(tmp_path, {"PYTHONPATH": str(code)})
    words = (*command(program), *PLAIN, "executor=inline")
    assert program.run(*words, "simulation.steps=20").returncode == 0
    change(code, "sim_core/metrics.py", '"""', '"""Changed. ')
    again = program.run(*words, "simulation.steps=20")
    assert again.returncode == 0, again.stderr
    assert program.summary()["counts"]["reused"] == 2
    change(code, *RESULT_RELEVANT)
    for command_words in ((*words, "simulation.steps=20"), ("resume", "matrix")):
        refused = program.run(*command_words)
        assert refused.returncode == 2, refused.stdout
        assert "the code of the model has changed since" in refused.stderr
    other = program.run(*words, "simulation.steps=20", "experiment.name=after")
    assert other.returncode == 0, other.stderr
    assert len(program.query("SELECT run_key FROM run")) == 4


def test_longer_and_more_executes_only_what_is_new(tmp_path: Path) -> None:
    """B8: 20 to 40 steps executes 20 of each run; 2 to 3 replicates one run."""
    program = Program(tmp_path)
    words = (*command(program), *PLAIN, "executor=inline")
    assert program.run(*words, "simulation.steps=20").returncode == 0
    assert program.run(*words, "simulation.steps=40").returncode == 0
    runs = program.summary()["runs"]
    assert [(r["resumed_from_step"], r["steps_executed"]) for r in runs] == [(20, 20)] * 2
    assert program.run(*words, "simulation.steps=40", "experiment.replicates=3").returncode == 0
    runs = program.summary()["runs"]
    assert [r["steps_executed"] for r in runs] == [0, 0, 40]
    found = {r["run_id"]: r["ledger_head"] for r in runs}
    assert found == heads("simulation.steps=40", "experiment.replicates=3")
