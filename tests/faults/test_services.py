"""Rows 10 to 16 of the matrix: Prefect's worker, flow and server, Ray, MLflow and memory go away."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.zombies import NAME
from tests.faults.experiment import (
    End,
    assert_undisturbed,
    command,
    end_of,
    ended,
    is_stopped,
)
from tests.faults.service import Service
from tests.ports import free_port
from tests.program import (
    POLL_SECONDS,
    PrefectServer,
    Program,
    call_prefect,
    kill_everything,
    start_service,
)

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def undisturbed(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> End:
    """Return how the experiment ends when nothing happens."""
    program = Program(tmp_path_factory.mktemp("undisturbed"), {"PREFECT_API_URL": prefect_api})
    done = program.run(*command(program))
    assert done.returncode == 0, done.stderr
    return end_of(program)


@pytest.fixture
def service(prefect_api: str, tmp_path: Path, once: str) -> Iterator[Service]:
    """Return the deployment, with a worker whose first flow stops at a step and never goes on."""
    made = Service(prefect_api, tmp_path, {"QUORUMLAB_FAULT": once})
    made.deploy()
    yield made
    made.stop()


@pytest.fixture
def once(tmp_path: Path) -> str:
    """Return a fault: the first process to get there stands still in its fourth transaction."""
    return f"commit.begin:4:stop:{tmp_path / 'once'}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """Return a Prefect server of this test's own."""
    made = PrefectServer(tmp_path)
    made.start()
    yield made
    made.kill()


def start_and_stop(service: Service, program: Program) -> tuple[str, psutil.Process]:
    """Trigger the experiment; return its flow run and process when that stands still."""
    words = command(program)[1:]
    service.start_worker()
    flow_run = service.trigger(words, program.workspace)
    program.wait_for(service.workers[0], lambda: bool(stopped(service)))
    return flow_run, stopped(service)[0]


def stopped(service: Service) -> list[psutil.Process]:
    found = service.flow_processes()
    return [p for p in found if p.is_running() and p.status() == psutil.STATUS_STOPPED]


def test_killed_flow_crashes_and_goes_on_under_the_same_id(
    program: Program, service: Service, undisturbed: End
) -> None:
    """Row 10."""
    flow_run, process = start_and_stop(service, program)
    process.kill()
    service.wait_for_state(flow_run, "CRASHED")
    shown = program.run("status")
    assert "abandoned" in shown.stdout
    done = program.run("reconcile", "--grace", "0")
    assert "scheduled again in Prefect" in done.stdout, done.stdout + done.stderr
    service.wait_for_state(flow_run, "COMPLETED")
    assert_undisturbed(program, undisturbed)


def test_experiment_outlives_a_killed_worker(
    program: Program, service: Service, undisturbed: End
) -> None:
    """Row 11: the flow goes on without its worker, or is brought back by the next one."""
    flow_run, process = start_and_stop(service, program)
    service.workers[0].kill()
    service.workers[0].wait()
    process.send_signal(signal.SIGCONT)
    psutil.wait_procs([process], timeout=120)
    if service.state_of(flow_run) != "COMPLETED":
        service.start_worker()
        program.run("reconcile", "--grace", "0")
    service.wait_for_state(flow_run, "COMPLETED")
    assert_undisturbed(program, undisturbed)


def test_flow_that_died_with_its_worker_is_found_and_goes_on(
    program: Program, service: Service, undisturbed: End
) -> None:
    """Row 12: a zombie, Running for ever; reconcile frees its slot and schedules it again."""
    flow_run, process = start_and_stop(service, program)
    service.workers[0].kill()
    service.workers[0].wait()
    process.kill()
    assert service.state_of(flow_run) == "RUNNING"
    done = program.run("reconcile", "--grace", "0")
    assert "scheduled again in Prefect" in done.stdout, done.stdout + done.stderr
    service.start_worker()
    service.wait_for_state(flow_run, "COMPLETED")
    assert_undisturbed(program, undisturbed)


@pytest.fixture
def forms(prefect_api: str, program: Program, once: str) -> Iterator[Service]:
    """Return the deployment `sweep`, whose runs give signs of life; the first stops and never goes on."""
    signs = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    workspace = {"QUORUMLAB_WORKSPACE": str(program.workspace)}
    made = Service(prefect_api, program.folder, {"QUORUMLAB_FAULT": once} | signs | workspace)
    made.deploy("sweep")
    made.register_zombies()
    yield made
    made.stop()


def stopped_form(forms: Service) -> str:
    """Fill in the form, let worker and flow run die in the midst of it; return the flow run."""
    worker = forms.start_worker()
    asked = {"name": "form", "adversaries": ["poisoner"], "shares_of_liars": [0.1, 0.2], "nodes": [8],
             "steps": 40, "replicates": 2, "executor": "inline"}  # fmt: skip
    answer = forms.ask("sweep/sweep", asked)
    assert answer.status_code == 201, answer.text
    while not stopped(forms):
        assert worker.poll() is None, forms.output()
        time.sleep(POLL_SECONDS)  # between two looks
    (process,) = stopped(forms)
    worker.kill()
    worker.wait()
    process.kill()
    return str(answer.json()["id"])


def test_form_that_died_with_its_worker_is_scheduled_again(
    program: Program, forms: Service
) -> None:
    """Row 12, where the experiment is a flow run within the one that somebody has asked for."""
    flow_run = stopped_form(forms)
    assert forms.state_of(flow_run) == "RUNNING"
    done = program.run("reconcile", "--grace", "0")
    assert "scheduled again in Prefect" in done.stdout, done.stdout + done.stderr
    forms.start_worker()
    forms.wait_for_state(flow_run, "COMPLETED")
    inner = forms.post("flow_runs/filter", {"flows": {"name": {"any_": ["experiment"]}}}).json()
    mine = [run["state_type"] for run in inner if run["name"] == "form"]
    assert sorted(mine) == ["COMPLETED", "CRASHED"]
    states = program.query("SELECT state, count(*) FROM run GROUP BY state")
    assert states == [("finished", 4)]
    again = program.run("reconcile", "--grace", "0")
    assert again.returncode == 0, again.stdout


def test_zombie_is_marked_as_crashed_by_the_server_itself(program: Program, forms: Service) -> None:
    """Row 12, until somebody reconciles: the place that it holds becomes free."""
    forms.register_zombies()  # a second time adds nothing
    known = [entry["name"] for entry in forms.post("automations/filter", {}).json()]
    assert known.count(NAME) == 1
    flow_run = stopped_form(forms)
    forms.wait_for_state(flow_run, "CRASHED")
    assert "no sign of life" in forms.get(f"flow_runs/{flow_run}")["state"]["message"]


def stand_still(program: Program, *words: str) -> subprocess.Popen[str]:
    """Start the experiment and return when it stands still in the midst of its work."""
    process = program.start(*command(program), *words)
    program.wait_for(process, lambda: is_stopped(process))
    return process


def test_server_may_be_away_for_half_a_minute(
    tmp_path: Path, once: str, server: PrefectServer, undisturbed: End
) -> None:
    """Row 13: the flow completes, in Prefect too."""
    program = Program(tmp_path, {"PREFECT_API_URL": server.url, "QUORUMLAB_FAULT": once})
    process = stand_still(program)
    server.kill()
    process.send_signal(signal.SIGCONT)
    time.sleep(30)  # the fault itself
    server.start()
    code, err = ended(process)
    assert code == 0, err
    assert "Traceback" not in err
    assert flow_states(server) == ["COMPLETED"]
    assert_undisturbed(program, undisturbed)


def test_server_may_stay_away(
    tmp_path: Path, once: str, server: PrefectServer, undisturbed: End
) -> None:
    """Row 14: the experiment finishes and says so; reconcile tells Prefect when it is back."""
    program = Program(tmp_path, {"PREFECT_API_URL": server.url, "QUORUMLAB_FAULT": once})
    process = stand_still(program)
    server.kill()
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=1_000)
    assert process.returncode == 0, err
    assert "Prefect's server went away" in " ".join(out.split())
    assert "Traceback" not in out + err
    refused = program.run(*command(program))
    assert refused.returncode == 3
    assert f"Prefect's server at {server.url} does not answer" in refused.stderr
    server.start()
    assert flow_states(server) == ["RUNNING"]
    done = program.run("reconcile", "--grace", "0")
    assert done.returncode == 0, done.stderr
    assert "its end told to Prefect" in done.stdout
    assert flow_states(server) == ["COMPLETED"]
    assert_undisturbed(program, undisturbed)


def flow_states(server: PrefectServer) -> list[str]:
    """Return the states of all flow runs that a server knows."""
    answer = call_prefect(f"{server.url}/flow_runs/filter", json={})
    return [run["state_type"] for run in answer.json()]


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_ray_may_be_killed(tmp_path: Path, once: str, undisturbed: End, victim: str) -> None:
    """Row 15: the experiment ends by itself, or says what happened and goes on when asked to."""
    program = Program(tmp_path, {"QUORUMLAB_FAULT": once})
    process = stand_still(program, "executor=ray_local", "orchestrator=none")
    for member in psutil.Process(process.pid).children(recursive=True):
        if member.name().startswith(victim):
            member.kill()
    process.send_signal(signal.SIGCONT)
    code, err = ended(process)
    assert "Traceback" not in err
    if code != 0:
        assert code == 1
        assert "What is committed stays; the same command goes on from there" in err
        shown = program.run("status", "matrix")
        assert "nobody works on it; to go on: quorumlab resume matrix" in shown.stdout
    again = program.run(*command(program), "orchestrator=none")
    assert again.returncode == 0, again.stdout + again.stderr
    assert_undisturbed(program, undisturbed)


def test_worker_that_is_killed_for_memory_fails_its_run_after_some_tries(
    tmp_path: Path, undisturbed: End
) -> None:
    """Row 16: Ray ends workers on a machine that it takes for full; with room, the runs finish."""
    full = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "20"}
    program = Program(tmp_path, full)
    failed = program.run(*command(program), "executor=ray_local", "orchestrator=none")
    assert failed.returncode == 1
    assert "low on memory" in failed.stderr
    assert "(3 times at step " in failed.stderr
    assert {s for (s,) in program.query("SELECT state FROM run")} == {"failed"}
    program.environment.clear()
    done = program.run(*command(program), "orchestrator=none")
    assert done.returncode == 0, done.stderr
    assert_undisturbed(program, undisturbed)


@pytest.mark.parametrize("point", ["publish.begin:1", "publish.created:2", "publish.logged:2"])
def test_mlflow_may_go_away(tmp_path: Path, undisturbed: End, point: str) -> None:
    """Rows 18 and 19 with a server: the experiment finishes and is published when it is back."""
    mlflow = MlflowServer(tmp_path)
    mlflow.start()
    try:
        program = Program(tmp_path, {"QUORUMLAB_FAULT": f"{point}:stop:{tmp_path / 'once'}"})
        words = ("tracking=mlflow_server", f"tracking.uri={mlflow.url}", "orchestrator=none")
        process = stand_still(program, *words)
        mlflow.kill()
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=1_000)
        assert process.returncode == 0, err
        assert "not published to MLflow" in out
        assert "Traceback" not in out + err
        mlflow.start()
        done = program.run("reconcile")
        assert done.returncode == 0, done.stdout + done.stderr
        assert_undisturbed(program, undisturbed, mlflow.database)
    finally:
        mlflow.kill()


class MlflowServer:
    """An MLflow server that can go away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "served.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.database}"]
        words += ["--artifacts-destination", str(self.folder / "served")]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = self.folder / "mlflow.log"
        self.process = start_service("mlflow", words, log, environment, f"{self.url}/health")

    def kill(self) -> None:
        if self.process is not None:
            kill_everything(self.process)
            self.process = None
