"""Each row of the table of errors really happens, and is what the table says."""

from __future__ import annotations

import logging
import os
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from flows.bench import SPECTATOR
from flows.experiment import PrefectOrchestrator, expect_server
from flows.reconcile import publish_experiments
from sim_core import errors
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ExecutorConfig
from sim_core.error_table import Handling, Trouble
from sim_core.errors import QuorumlabError
from sim_core.identity import program
from sim_core.jobs import RunError, simulate_jobs
from sim_core.simulate import Segment, simulate
from sim_core.workspace import write_whole
from tasks.executors import open_executor
from tasks.occupancy import here
from tasks.on_ray import RayExecutor
from tasks.ray_start import STARTING, invent_token
from tasks.ray_worker import expect_the_same
from tasks.simulate_shard import load_checkpoint
from tests import ledger_troubles
from tests.ledger_tools import rechain
from tests.ports import free_port
from tests.scene import CAUSES, Cause, Scene, Witness, caught, causes

assert ledger_troubles
TESTS = Path(__file__).resolve().parents[1]
LEDGER = Trouble.LEDGER_BUSY.part
USERS = {"UserError", "ConfigurationError", "DataError", "ExperimentConflict"}
"""Errors of the user, which have no row."""


@causes(Trouble.CHECKPOINT_UNWRITTEN)
def file_in_place_of_the_folder(scene: Scene) -> QuorumlabError:
    (scene.folder / "files").write_text("in the way")
    ledger, spec = scene.with_experiment(scene.ledger()), scene.fixture("make_spec")()
    (claim,) = ledger.claim([spec])
    return caught(lambda: ledger.commit(claim, next(simulate(spec))))


@causes(Trouble.CHECKPOINT_UNWRITTEN)
def folder_gone_before_it_is_flushed(scene: Scene) -> QuorumlabError:
    return caught(CheckpointFolder(scene.folder / "gone").settle)


@causes(Trouble.CHECKPOINT_DAMAGED)
def newest_checkpoint_is_cut_off(scene: Scene) -> str:
    ledger, spec = scene.with_experiment(scene.ledger()), scene.fixture("make_spec")()
    (claim,) = ledger.claim([spec])
    for segment in simulate(spec):
        ledger.commit(claim, segment)
    (claim,) = ledger.claim([spec])
    newest, before = (scene.folder / "files" / stored.name for stored in claim.checkpoints)
    newest.write_bytes(newest.read_bytes()[:100])
    folder = CheckpointFolder(scene.folder / "files")
    step, content = load_checkpoint(claim, folder, logging.getLogger("quorumlab.test"))
    assert (step, content) == (8, before.read_bytes())
    return scene.caplog.messages[-1]


@causes(Trouble.FILE_UNWRITTEN)
def file_in_place_of_the_results(scene: Scene) -> QuorumlabError:
    (scene.folder / "results").write_text("in the way")
    return caught(lambda: write_whole(scene.folder / "results" / "summary.json", "{}"))


@causes(Trouble.RUN_TIMEOUT)
def run_takes_too_long(scene: Scene) -> str:
    outcome = scene.run("limits.max_seconds=1e-6").outcome
    assert outcome is not None
    assert outcome.state == "failed"
    return outcome.findings.records[0].error or ""


@causes(Trouble.RUN_TOO_LARGE)
def run_takes_too_much(scene: Scene) -> str:
    spec = scene.fixture("make_spec")()
    items = list(simulate_jobs([(replace(spec, memory_mb=1), None), (spec, None)]))
    (failed,) = [item for item in items if isinstance(item, RunError)]
    assert isinstance(items[-1], Segment), "the other run goes on"
    assert items[-1].summary is not None
    return failed.message


@causes(Trouble.WORKER_DIED)
def worker_is_killed(scene: Scene) -> str:
    class Killer(Witness):
        is_done = False

        def committed(self, run_key: str, steps: int) -> None:
            del run_key, steps
            if not self.is_done:
                self.is_done = True
                for child in psutil.Process().children():
                    with suppress(psutil.ZombieProcess):
                        if "tasks.worker" in child.cmdline():
                            os.kill(child.pid, signal.SIGKILL)

    one = ("executor=processes", "executor.num_cpus=1", "simulation.steps=100")
    seen = scene.run(*one, witness=Killer())
    assert seen.outcome is not None
    assert seen.outcome.state == "finished"
    (warning,) = seen.warnings
    return warning.removesuffix("; its runs go on from their checkpoints")


@causes(Trouble.WORKER_UNSTARTED)
def python_is_gone(scene: Scene) -> QuorumlabError:
    scene.patch.setattr(sys, "executable", "/nowhere/python")
    return start(ExecutorConfig(kind="processes"))


@causes(Trouble.RAY_UNSTARTED)
def folder_of_ray_is_too_deep(scene: Scene) -> QuorumlabError:
    scene.patch.setenv("RAY_TMPDIR", str(scene.folder / ("deep" * 30)))
    return start(ExecutorConfig(kind="ray_local", num_cpus=1))


@causes(Trouble.RAY_LOST)
def ray_is_not_there(scene: Scene) -> QuorumlabError:
    scene.patch.setattr("ray._private.auto_init_hook.enable_auto_connect", False)
    jobs = [(scene.fixture("make_spec")(), None)]
    with STARTING:  # none of before is about to end
        return caught(lambda: list(RayExecutor(ExecutorConfig(num_cpus=1)).execute(jobs)))


@causes(Trouble.RAY_UNREACHABLE)
def nobody_is_at_the_address_of_the_cluster(scene: Scene) -> QuorumlabError:
    del scene
    invent_token()  # Ray reads once in a process how it is to be asked
    return start(ExecutorConfig(kind="ray_cluster", address=f"127.0.0.1:{free_port()}"))


@causes(Trouble.RAY_NODE_DIFFERS)
def a_node_has_other_libraries(scene: Scene) -> QuorumlabError:
    planned = replace(scene.fixture("make_spec")(), run_key="0" * 64)
    theirs = {**program(), "numpy": "2.0.0"}
    return caught(lambda: expect_the_same([(planned, None)], theirs, here()))


def start(config: ExecutorConfig) -> QuorumlabError:
    """Return the error of an executor that does not start."""

    def work() -> None:
        with open_executor(config):
            pass

    return caught(work)


@causes(Trouble.PREFECT_UNREACHABLE)
def no_prefect_server(scene: Scene) -> QuorumlabError:
    del scene
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        return caught(expect_server)


@causes(Trouble.PREFECT_UNSEEN)
def no_prefect_server_for_tables(scene: Scene) -> str:
    del scene
    witness, nothing = Witness(), Any
    token = SPECTATOR.set(witness)
    try:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
            PrefectOrchestrator().show_results("e", nothing)
    finally:
        SPECTATOR.reset(token)
    (warning,) = witness.warnings
    return warning


@causes(Trouble.MLFLOW_AWAY)
def no_mlflow_server(scene: Scene) -> str:
    scene.patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://127.0.0.1:{free_port()}"
    seen = scene.run("tracking=mlflow_server", f"tracking.uri={address}")
    return after_all(seen)


@causes(Trouble.MLFLOW_AWAY)
def mlflow_database_is_none(scene: Scene) -> str:
    (scene.folder / "mlflow.db").write_text("this is no database" * 100)
    return after_all(scene.run("tracking=mlflow_local"))


def after_all(seen: Witness) -> str:
    """Return the only warning of an experiment that has finished."""
    assert seen.outcome is not None
    assert seen.outcome.state == "finished"
    (warning,) = seen.warnings
    return warning


@causes(Trouble.MLFLOW_UNPUBLISHED)
def no_mlflow_server_to_publish_to(scene: Scene) -> QuorumlabError:
    scene.patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    scene.run()
    address = f"http://127.0.0.1:{free_port()}"
    return caught(lambda: publish_experiments(scene.folder, "e", address, Console(quiet=True)))


@causes(Trouble.VALIDATION_REFUSED)
def metric_changed_behind_the_back(scene: Scene) -> str:
    sound = scene.run().outcome
    assert sound is not None
    with closing(sqlite3.connect(scene.file)) as vandal:
        vandal.execute("UPDATE metrics SET tp = tp + 1 WHERE step = 3")
        vandal.commit()
    rechain(scene.file, sound.findings.records[0].run_id)
    states = []
    for mode in ("warn", "strict"):
        seen = scene.run(f"validation.mode={mode}").outcome
        assert seen is not None
        states.append((seen.state, seen.counts["quarantined"]))
    assert states == [("finished", 0), ("failed", 1)]
    return next(r.getMessage() for r in scene.caplog.records if r.levelname == "ERROR")


@pytest.fixture
def scene(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    made = Scene(tmp_path, request, caplog, monkeypatch)
    yield made
    made.close()


def name_of(cause: Cause) -> str:
    return f"{cause.row.name}-{cause.happen.__name__}"


@pytest.mark.parametrize("cause", CAUSES, ids=name_of)
def test_row_happens_as_the_table_says(cause: Cause, scene: Scene) -> None:
    row, told = cause.row, cause.happen(scene)
    assert re.fullmatch(pattern(row.message), str(told), re.DOTALL), str(told)
    if isinstance(told, QuorumlabError):
        assert type(told) is row.becomes
        assert told.exit_code == row.exit_code
    else:
        assert row.handling is not Handling.FATAL, "work went on"
    if row.part == LEDGER:
        was_repeated = "failed and is repeated" in scene.caplog.text
        assert was_repeated == (row.handling is Handling.RETRIED)


def pattern(message: str) -> str:
    """Return what matches a message, whatever its evidence."""
    return ".+".join(re.escape(part) for part in re.split(r"\{\w+(?:!r)?\}", message))


def test_every_row_is_shown_by_a_test_that_is_there() -> None:
    text = "".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    defined = Counter(re.findall(r"^def (test_\w+)", text, flags=re.MULTILINE))
    shown = {cause.row for cause in CAUSES}
    for row in Trouble:
        if row.shown_by is None:
            assert row in shown, f"{row.name} is shown by no test"
        else:
            assert row not in shown
            assert defined[row.shown_by] == 1, row.shown_by


def test_every_error_but_those_of_users_has_a_row() -> None:
    raised = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, QuorumlabError)
    }
    assert raised - USERS == {row.becomes.__name__ for row in Trouble if row.becomes}


def test_exit_codes_are_those_of_the_errors_unless_work_goes_on() -> None:
    for row in Trouble:
        if row.becomes and row.exit_code != row.becomes.exit_code:
            assert (row.handling, row.exit_code) == (Handling.DEGRADED, 0), row.name
