"""The fault matrix: the real program dies, stops or runs out of disk at every named place.

Whatever happened, the same command given again ends as an undisturbed experiment: ledger heads,
states, every row, MLflow's histories; nothing lost, doubled or left over. All of it with
`make faults`; `make test` has a selection.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.compose import compose_experiment
from sim_core.plan import plan_runs
from sim_core.simulate import simulate
from tests.faults.experiment import (
    REPLICATES,
    End,
    assert_nothing_torn,
    assert_undisturbed,
    command,
    end_of,
    ended,
    is_stopped,
    start_with,
)
from tests.program import Program

DRIVER_DIES = [  # row of the matrix, point, call
    pytest.param("checkpoint.open", 3, id="2-checkpoint.open"),
    pytest.param("checkpoint.write", 3, id="2-checkpoint.write"),
    pytest.param("checkpoint.fsync", 1, id="2-checkpoint.fsync"),
    pytest.param("checkpoint.rename", 3, id="3-checkpoint.rename"),
    pytest.param("checkpoint.settle", 3, id="2-checkpoint.settle"),
    pytest.param("commit.after", 3, id="5-commit.after"),
    pytest.param("claim.commit", 1, id="6-claim.commit"),
    pytest.param("commit.begin", 2, id="6-commit.begin"),
    pytest.param("commit.rows", 3, id="6-commit.rows"),
    pytest.param("commit.commit", 4, id="6-commit.commit"),
    pytest.param("publish.created", 1, id="18-publish.created"),
    pytest.param("publish.rows", 1, id="18-publish.rows"),
    pytest.param("publish.logged", 1, id="19-publish.logged"),
    pytest.param("publish.tagged", 1, id="19-publish.tagged"),
    pytest.param("publish.finished", 1, id="18-publish.finished"),
    pytest.param("validate.begin", 1, id="22-validate.begin"),
    pytest.param("validate.end", 1, id="22-validate.end"),
    pytest.param("write.begin", 1, id="5-write.begin"),
]
IN_EVERY_TEST_RUN = {"6-commit.commit"}
faults = pytest.mark.faults


MakeProgram = Callable[[Path], Program]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=faults)])
def make_program(request: pytest.FixtureRequest, prefect_api: str) -> MakeProgram:
    """Return what makes a program with a ledger of its own in either database."""
    return maker(request, prefect_api, request.param)


def maker(request: pytest.FixtureRequest, prefect_api: str, kind: str) -> MakeProgram:
    def make(folder: Path) -> Program:
        environment = {"PREFECT_API_URL": prefect_api}
        if kind == "postgresql":
            environment["QUORUMLAB_LEDGER_URL"] = request.getfixturevalue("postgres").create()
        return Program(folder, environment)

    return make


@pytest.fixture
def program(make_program: MakeProgram, tmp_path: Path) -> Iterator[Program]:
    made = make_program(tmp_path)
    yield made
    made.stop_all()


@pytest.fixture(scope="module")
def undisturbed(make_program: MakeProgram, tmp_path_factory: pytest.TempPathFactory) -> End:
    """Return how the experiment ends when nothing happens."""
    return run_undisturbed(make_program(tmp_path_factory.mktemp("undisturbed")))


def run_undisturbed(program: Program) -> End:
    done = program.run(*command(program))
    assert done.returncode == 0, done.stderr
    end = end_of(program)
    assert len(end.heads) == len(end.published) == REPLICATES
    assert end.validation["success"]
    assert end.validation["expectations"]
    assert all(end.rows[table] for table in ("metrics", "block", "vote", "decision"))
    assert all(child["metrics"] for child in end.published.values())
    return end


def test_postgresql_ends_as_sqlite_does(
    undisturbed: End, request: pytest.FixtureRequest, prefect_api: str, tmp_path: Path
) -> None:
    program = maker(request, prefect_api, "postgresql")(tmp_path)
    found = run_undisturbed(program)
    assert (found.heads, found.states) == (undisturbed.heads, undisturbed.states)
    assert {t: len(rows) for t, rows in found.rows.items()} == {
        t: len(rows) for t, rows in undisturbed.rows.items()
    }
    assert found.published == undisturbed.published
    for words in (("verify",), ("status", "matrix"), ("resume", "matrix")):
        done = program.run(*words)
        assert done.returncode == 0, done.stderr
    assert (program.workspace / "ledger.json").exists()
    assert not (program.workspace / "ledger.db").exists()


def go_on(program: Program, undisturbed: End) -> None:
    again = program.run(*command(program))
    assert again.returncode == 0, again.stdout + again.stderr
    assert_undisturbed(program, undisturbed)


@pytest.mark.parametrize(
    ("point", "call"),
    [
        p if p.id in IN_EVERY_TEST_RUN else pytest.param(*p.values, id=p.id, marks=faults)
        for p in DRIVER_DIES
    ],
)
def test_driver_that_is_killed_goes_on(
    program: Program, undisturbed: End, point: str, call: int
) -> None:
    process = start_with(program, f"{point}:{call}:kill")
    assert ended(process)[0] == -signal.SIGKILL
    assert_nothing_torn(program)
    if point in ("validate.begin", "validate.end"):
        assert program.query("SELECT state FROM experiment") == [("running",)]
    go_on(program, undisturbed)


@faults
@pytest.mark.parametrize("point", ["created:2", "logged:1", "logged:2", "tagged:1", "finished:1"])
def test_driver_that_is_killed_while_it_tells_a_server_goes_on(
    program: Program, undisturbed: End, tmp_path: Path, point: str
) -> None:
    """Rows 18 and 19 where MLflow is not the workspace's own, so that its client writes each run."""
    database = tmp_path / "elsewhere.db"
    words = ("tracking=mlflow_server", f"tracking.uri=sqlite:///{database}")
    assert ended(start_with(program, f"publish.{point}:kill", words=words))[0] == -signal.SIGKILL
    again = program.run(*command(program), *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_undisturbed(program, undisturbed, database)


@faults
@pytest.mark.parametrize("point", ["begin:1", "artifact:4", "artifact:9"])
def test_pictures_that_were_made_and_not_uploaded_are_uploaded_by_the_next_start(
    program: Program, point: str
) -> None:
    """Row 18: MLflow has all runs already, and lacks files that a later command has made."""
    first = program.run(*command(program), "output.plots=false", "output.tables=false")
    assert first.returncode == 0, first.stderr
    assert ended(start_with(program, f"publish.{point}:kill"))[0] == -signal.SIGKILL
    again = program.run(*command(program))
    assert again.returncode == 0, again.stdout + again.stderr
    folder = program.workspace / "experiments" / "matrix"
    made = [*folder.rglob("*.png"), *folder.glob("*.parquet"), *folder.glob("*.csv")]
    assert len(made) > 5
    uploaded = {path.name: path for path in (program.workspace / "mlartifacts").rglob("*.*")}
    for path in made:
        assert uploaded[path.name].read_bytes() == path.read_bytes(), path.name


@faults
def test_driver_that_is_killed_again_and_again_goes_on(
    program: Program, undisturbed: End, tmp_path: Path
) -> None:
    """Rows 5, 6 and 7: no waiting between a death and the next start.

    Three deaths before the first step is committed are no reason to give up a run: nobody has seen
    that the run is what kills its driver.
    """
    nowhere = ("commit.rows:1", "commit.begin:1", "checkpoint.rename:1")
    for point in (*nowhere, "commit.after:1", "checkpoint.rename:2", "commit.commit:3"):
        assert ended(start_with(program, f"{point}:kill"))[0] == -signal.SIGKILL
    go_on(program, undisturbed)


@pytest.mark.parametrize("call", [pytest.param(7, marks=faults), 37])
def test_worker_that_is_killed_in_a_step_costs_nothing(
    program: Program, undisturbed: End, tmp_path: Path, call: int
) -> None:
    """Row 1: the same command goes on from the last checkpoint."""
    once = tmp_path / "once"
    code, err = ended(start_with(program, f"step:{call}:kill:{once}"))
    assert code == 0, err
    assert once.exists()
    assert_undisturbed(program, undisturbed)


@faults
def test_run_that_always_dies_fails_alone(program: Program, undisturbed: End) -> None:
    """Row 17: it is tried three times and fails with the reason; its sibling finishes."""
    code, err = ended(start_with(program, "segment.0:1:kill"))
    assert code == 1
    assert "1 failed of 2 runs" in err
    assert "3 times at step 0" in err
    states = {r["replicate"]: r["state"] for r in program.summary()["runs"]}
    assert states == {0: "failed", 1: "finished"}
    go_on(program, undisturbed)


@faults
@pytest.mark.parametrize("action", ["full", "broken"])
@pytest.mark.parametrize("point", ["checkpoint.write", "checkpoint.fsync", "checkpoint.rename"])
def test_disk_that_fails_ends_the_experiment_in_order(
    program: Program, undisturbed: End, point: str, action: str
) -> None:
    """Row 21, checkpoints: a paragraph that says what to do, and nothing half-written."""
    code, err = ended(start_with(program, f"{point}:4:{action}"))
    assert code == 1, err
    reason = {"full": "No space left on device", "broken": "Input/output error"}[action]
    assert f"cannot be written: {reason}" in err
    assert "give the same command again" in err
    assert "Traceback" not in err
    assert program.query("SELECT state FROM experiment") == [("interrupted",)]
    go_on(program, undisturbed)


@faults
def test_damaged_checkpoint_is_refused_and_the_one_before_used(program: Program) -> None:
    """Row 4: the run that goes on further does so from ten steps earlier, to the same head."""
    words = (*command(program), "checkpoint.keep=2")
    assert program.run(*words).returncode == 0
    query = "SELECT run_key, name FROM checkpointfile JOIN run ON run.id = run WHERE step = 60"
    damaged, name = min(program.query(query))
    path = program.workspace / "checkpoints" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    further = program.run(*words, "simulation.steps=80")
    assert further.returncode == 0, further.stderr
    resumed = {r["run_id"]: r["resumed_from_step"] for r in program.summary()["runs"]}
    assert resumed.pop(damaged) == 50
    assert set(resumed.values()) == {60}
    heads = {}
    config, points = compose_experiment([*words[1:], "simulation.steps=80"])
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        heads[run.spec.run_key] = last.head.hex()
    assert end_of(program).heads == heads
    assert program.run("verify").returncode == 0


@faults
def test_stopped_driver_that_wakes_up_changes_nothing(program: Program, undisturbed: End) -> None:
    """Row 8: another has taken over and finished; the one that wakes up exits 130."""
    first = start_with(program, "checkpoint.write:3:stop")
    program.wait_for(first, lambda: is_stopped(first))
    second = program.run(*command(program))
    assert second.returncode == 0, second.stderr
    first.send_signal(signal.SIGCONT)
    code, err = ended(first)
    assert code == 130, err
    assert "owned by another process" in err
    assert_undisturbed(program, undisturbed)


@faults
def test_same_experiment_twice_at_once_has_one_owner_per_run(
    program: Program, undisturbed: End
) -> None:
    """Row 9."""
    both = [program.start(*command(program)) for _ in range(2)]
    codes = [ended(process)[0] for process in both]
    assert set(codes) <= {0, 130}, codes
    go_on(program, undisturbed)
