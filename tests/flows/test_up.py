"""`quorumlab up` and `down`: real servers, started once, found again, and gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console

from flows.examine_services import is_free
from flows.service import MLFLOW, program_call, read_services
from flows.services import PORT, Starting
from sim_core.workspace import open_workspace
from tests.ports import free_port
from tests.program import Program

TINY = (
    "experiment.name=tiny", "simulation.nodes=6", "simulation.steps=4", "experiment.replicates=1",
    "executor=inline", "tracking=off", "validation.engine=sql", "output.plots=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    made = Program(tmp_path_factory.mktemp("up"))
    yield made
    made.run("down")
    made.stop_all()


def services(program: Program) -> dict[str, dict[str, Any]]:
    entries = json.loads((program.workspace / "services.json").read_text())
    return {entry["name"]: entry for entry in entries}


def pids(program: Program) -> dict[str, int]:
    return {name: entry["pid"] for name, entry in services(program).items()}


def left_behind(program: Program) -> list[str]:
    """Return the processes that were started for the workspace of a program and are still there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            home = process.environ().get("PREFECT_HOME")
            if home == str(program.folder / "prefect_home"):
                found.append(" ".join(process.cmdline()))
    return found


def test_up_run_up_down(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ("--mlflow-port", str(free_port()), "--dashboard-port", str(free_port()))
        words = ("up", "--prefect-port", str(port), *others)
        first = program.run(*words)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("answers") == 5
    there = services(program)
    assert set(there) == {"Prefect", "MLflow", "worker", "dashboard", "runner"}
    assert f":{port}/" not in there["Prefect"]["address"], "that port was taken"
    for entry in there.values():
        listening = psutil.Process(entry["pid"]).net_connections(kind="tcp")
        tree = [*listening]
        for child in psutil.Process(entry["pid"]).children(recursive=True):
            assert "mlflow.server.jobs" not in " ".join(child.cmdline())
            tree += child.net_connections(kind="tcp")
        addresses = {c.laddr.ip for c in tree if c.status == psutil.CONN_LISTEN}
        assert addresses == {"127.0.0.1"}, entry["name"]

    done = program.run("run", *TINY)
    assert done.returncode == 0, done.stderr
    api = there["Prefect"]["address"]
    assert api.removesuffix("/api") in done.stdout
    file = program.workspace / "prefect.password"
    assert file.stat().st_mode & 0o777 == 0o600
    assert httpx.get(f"{api}/admin/version").status_code == 401
    for log in program.workspace.glob("logs/*"):
        assert file.read_text().strip() not in log.read_text(), log
    name, password = file.read_text().strip().split(":")
    with httpx.Client(auth=(name, password)) as client:
        token = client.get(f"{api}/csrf-token", params={"client": "test"}).json()["token"]
        refused = client.post(f"{api}/flow_runs/filter", json={})
        assert refused.status_code == 403, "whoever has no token is a foreign page"
        headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
        runs = client.post(f"{api}/flow_runs/filter", json={}, headers=headers).json()
    assert [run["name"] for run in runs if run["state"]["type"] == "COMPLETED"] == ["tiny"]

    assert httpx.get(there["dashboard"]["health"]).text == "ok"
    restarts = (
        ({"worker", "dashboard"}, {"worker", "dashboard"}),
        ({"Prefect"}, {"Prefect", "worker", "runner"}),
    )
    for killed, begun in restarts:
        before = pids(program)
        for name in killed:
            os.kill(before[name], signal.SIGKILL)
        again = program.run(*words)
        assert again.returncode == 0, again.stderr
        assert again.stdout.count("answers") == 5
        after = pids(program)
        assert {name for name in after if after[name] != before[name]} == begun

    stopped = program.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped: " in stopped.stdout
    assert left_behind(program) == []
    assert "nothing was running" in program.run("down").stdout


def test_service_that_does_not_start_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.workspace.mkdir()
    (program.workspace / "prefect.db").write_text("no database")
    failed = program.run(
        "up", "--prefect-port", str(free_port()), "--mlflow-port", str(free_port())
    )
    assert failed.returncode == 3
    assert "Prefect is gone; the end of" in failed.stderr
    assert "file is not a database" in failed.stderr
    assert services(program) == {}


def test_a_server_of_ones_own_is_not_doubled(tmp_path: Path) -> None:
    program = Program(tmp_path, {"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    refused = program.run("up")
    assert refused.returncode == 2
    assert "PREFECT_API_URL names another server" in refused.stderr
    assert not program.workspace.exists()


def test_a_record_that_cannot_be_read_is_no_reason_to_guess(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.workspace.mkdir()
    (program.workspace / "services.json").write_text("[{]")
    for word in ("up", "down"):
        refused = program.run(word)
        assert refused.returncode == 2
        assert "services.json cannot be read" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [("http.server", "--bind", "127.0.0.1", PORT), ("tests.stubborn", PORT)],
    ids=["ends", "lives on"],
)
def test_whoever_takes_the_port_first_is_not_mistaken_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    answers = iter((True,))  # what was true when it was asked is not when the service starts
    monkeypatch.setattr("flows.services.is_free", lambda port: next(answers, is_free(port)))
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        try:
            starting = Starting(open_workspace(tmp_path), {MLFLOW: other.server_port})
            starting.need(MLFLOW, words, path="/", health="/")
            service = starting.wait(MLFLOW, Console(file=StringIO()))
            assert service.trouble is None
            assert service.port > other.server_port
            assert [each.port for each in read_services(tmp_path)] == [service.port]
            starting.undo()
            assert service.process is None
            assert read_services(tmp_path) == []
        finally:
            starting.undo()
            other.shutdown()


@pytest.mark.parametrize(
    ("address", "words", "said"),
    [
        ("", (), "PREFECT_API_URL names no server"),
        ("http://127.0.0.1:9/api", ("--template", "/none.json"), "there is no /none.json"),
    ],
)
def test_registering_says_what_it_needs(address: str, words: tuple[str, ...], said: str) -> None:
    call = program_call(["flows.register", *words], {"PREFECT_API_URL": address})
    done = subprocess.run(**call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
