"""`quorumlab profile`, and runs of experiments that are profiled where they are executed."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from flows.show_profile import show_profile, show_summary
from tasks.profiles.figures import Profile
from tasks.profiles.keep import read_profiles
from tests.program import Program

Flow = Callable[..., Any]
SMALL = (
    "experiment.name=small",
    "experiment.replicates=3",
    "simulation.nodes=8",
    "simulation.steps=40",
    "checkpoint.every=4",
)


def heads(outcome: Any) -> dict[str, str]:
    return {record.run_id: record.ledger_head for record in outcome.findings.records}


def test_command_profiles_and_names_what_is_seeded(program: Program) -> None:
    program.environment |= {"QUORUMLAB_FAULT": "step:0:leak,step:0:dawdle", "COLUMNS": "100"}
    done = program.run("profile", *SMALL)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines()[:-4])) <= 100
    (profile,), _ = read_profiles(program.workspace)
    assert {f.kind for f in profile.findings} == {"dominant function", "growing memory"}
    assert "_dawdle (sim_core/faultpoints.py" in done.stdout
    assert "_leak (sim_core/faultpoints.py" in " ".join(done.stdout.split())
    folder = program.workspace / "profiles" / "small"
    for name in ("report.html", "time.html", "memory.html", "profile.json"):
        assert str(folder / name) in done.stdout
        assert (folder / name).stat().st_size
    assert not (program.workspace / "ledger.db").exists(), "nothing is entered into the ledger"
    del program.environment["QUORUMLAB_FAULT"]
    again = program.run("profile", *SMALL)
    assert "Nothing is out of the ordinary" in again.stdout
    assert (program.workspace / "profiles" / "small-2" / "report.md").exists()
    summary = program.run("profile", "--summary")
    assert summary.returncode == 0, summary.stderr
    slowest = summary.stdout.index("Slowest")
    assert slowest < summary.stdout.index("small ") < summary.stdout.index("small-2")
    assert "2 profiles; p95" in summary.stdout
    assert "found most often: " in summary.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("simulation.nodes=-1",),
        ("no.such=1",),
        ("simulation.nodes=5,6",),
        ("profiling.kind=both",),
        ("--no-such-option",),
        ("--summary",),
        ("--summary", "simulation.nodes=3"),
        ("--config-name", "../evil"),
    ],
)
def test_mistakes_end_with_2_and_leave_nothing(program: Program, words: tuple[str, ...]) -> None:
    done = program.run("profile", *words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not program.workspace.exists()


@pytest.mark.parametrize(
    "executor", ["inline", "processes", pytest.param("ray_local", marks=pytest.mark.slow)]
)
def test_profiled_experiment_has_the_same_heads(
    run_plainly: Flow, tmp_path: Path, executor: str
) -> None:
    how = (f"executor={executor}", "executor.num_cpus=1")
    plain = run_plainly(*SMALL, workspace=tmp_path / "plain")
    kinds = ("time", "memory") if executor != "ray_local" else ("memory",)
    for kind in kinds:
        workspace = tmp_path / kind
        profiling = (f"profiling.kind={kind}", "profiling.runs=2")
        found = run_plainly(*SMALL, *how, *profiling, workspace=workspace)
        assert heads(found) == heads(plain)
        assert (found.key, found.name) == (plain.key, plain.name)
        profiles, broken = read_profiles(workspace)
        assert not broken
        assert sorted(p.subject.replicate for p in profiles) == [0, 1]
        assert {p.subject.run_key for p in profiles} <= set(heads(found))
        for profile in profiles:
            folder = workspace / "experiments/small/profiles" / profile.name
            assert (folder / f"{kind}.html").stat().st_size
    assert not (tmp_path / "plain/experiments/small/profiles").exists()


def test_profile_of_an_experiment_reaches_mlflow(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "profiling.kind=time", "tracking=mlflow_local")
    (profile,), _ = read_profiles(tmp_path / "workspace")
    published = (tmp_path / "workspace/mlartifacts").rglob(f"profiles/{profile.name}/*")
    assert {p.name for p in published} == {"time.html", "report.html", "report.md", "profile.json"}


def test_more_runs_of_an_experiment_are_profiled_only_as_they_are_executed(
    run_plainly: Flow, tmp_path: Path
) -> None:
    run_plainly(*SMALL)
    run_plainly(*SMALL, "profiling.kind=time")
    assert read_profiles(tmp_path / "workspace") == ([], [])
    run_plainly(*SMALL, "experiment.replicates=5", "profiling.kind=time")
    (profile,), _ = read_profiles(tmp_path / "workspace")
    assert profile.subject.replicate == 3


@pytest.mark.slow
def test_run_goes_on_unprofiled_after_its_worker_was_killed(program: Program) -> None:
    once = program.folder / "once"
    program.environment["QUORUMLAB_FAULT"] = f"step:10:kill:{once}"
    how = ("profile=edge", "executor=processes", "executor.num_cpus=1", "profiling.kind=memory")
    done = program.run("run", *how, *SMALL)
    assert done.returncode == 0, done.stderr
    assert once.exists()
    assert program.summary()["counts"]["finished"] == 3
    with closing(sqlite3.connect(program.workspace / "ledger.db")) as database:
        (n,) = database.execute("SELECT count(*) FROM run WHERE state = 'finished'").fetchone()
    assert n == 3


def test_tables_fit_and_summary_sorts(program: Program) -> None:
    program.run("profile", *SMALL)
    path = program.workspace / "profiles/small/profile.json"
    profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    assert json.loads(path.read_text())["subject"]["nodes"] == 8
    assert profile.time is not None
    slow = msgspec.structs.replace(
        profile, name="slow", time=msgspec.structs.replace(profile.time, seconds=99.0)
    )
    out = io.StringIO()
    console = Console(file=out, width=100)
    show_profile(profile, path.parent, console)
    show_summary([profile, slow], console)
    text = out.getvalue()
    assert text.index("slow ") < text.rindex("small ")
    assert all(len(line) <= 100 for line in text.splitlines() if str(path.parent) not in line)
