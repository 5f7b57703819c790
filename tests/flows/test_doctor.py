"""The command `doctor`: each thing that is broken is named, with what to do."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.doctor import examine
from flows.examine_ledger import examine_ledger
from flows.examine_machine import examine_disk, examine_program, unmet
from flows.examine_services import examine_ports, examine_service
from flows.finding import Finding
from sim_core.config import PostgresLedger
from sim_core.ledger.engine import open_engine
from sim_core.ledger.migrations.versions import schema_2
from sim_core.ledger.store import Ledger
from sim_core.simulate import RunSpec
from sim_core.workspace import Workspace, remember_ledger
from tests.ports import free_port
from tests.postgres import Postgres


@pytest.fixture
def workspace(
    tmp_path: Path,
    ledger: Ledger,
    register: Callable[..., None],
    execute: Callable[..., object],
    make_spec: Callable[..., RunSpec],
) -> Workspace:
    """Return a workspace with one finished run."""
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    ledger.dispose()
    return Workspace(tmp_path)


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def sql(workspace: Workspace, statement: str) -> None:
    with closing(sqlite3.connect(workspace.database)) as database:
        database.execute(statement)
        database.commit()


def run_doctor(folder: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", "--workspace", str(folder), *words])
    return done.exit_code, done.output


def test_ledger_that_is_right_has_no_warning_and_stays_as_it_is(workspace: Workspace) -> None:
    before = {path: path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()}
    findings = list(examine_ledger(workspace))
    assert {finding.state for finding in findings} == {"ok"}
    assert len(findings) == 7
    after = {path: path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()}
    assert after == before


def test_dropped_index_is_named_with_its_statement_and_exit_code_1(workspace: Workspace) -> None:
    sql(workspace, "DROP INDEX alert_by_source")
    code, text = run_doctor(workspace.folder, "--json")
    assert code == 1
    report = json.loads(text)
    assert report["sound"] is False
    (found,) = [f for f in report["findings"] if f["state"] == "problem"]
    assert found["found"] == "alert_by_source is missing"
    sql(workspace, found["advice"])
    code, text = run_doctor(workspace.folder, "--json")
    assert (code, json.loads(text)["sound"]) == (0, True)


def test_rest_of_the_ledger_is_looked_at_though_an_index_is_missing(workspace: Workspace) -> None:
    sql(workspace, "DROP INDEX alert_by_source")
    (workspace.checkpoints / f"{'ab' * 12}-00000010-1.ckpt").write_bytes(b"left")
    found = by_name(examine_ledger(workspace))
    assert found["index of the ledger"].state == "problem"
    assert found["write-ahead log"].state == "ok"
    assert found["checkpoints without a row"].found == "1"


def test_missing_table_is_named_and_nothing_is_asked_of_it(workspace: Workspace) -> None:
    sql(workspace, "DROP TABLE checkpointfile")
    (found,) = [f for f in examine_ledger(workspace) if f.state == "problem"]
    assert (found.what, found.found) == ("table of the ledger", "checkpointfile is missing")
    assert found.advice.startswith("CREATE TABLE checkpointfile")


def test_look_changes_no_byte_of_a_ledger_in_another_mode(workspace: Workspace) -> None:
    sql(workspace, "PRAGMA journal_mode = DELETE")
    before = workspace.database.read_bytes()
    assert {finding.state for finding in examine_ledger(workspace)} == {"ok"}
    assert workspace.database.read_bytes() == before


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_workspace_that_is_a_file_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    found = examine_disk(tmp_path / name)
    assert (found.state, "is no folder" in found.found) == ("problem", True)
    assert examine_disk(tmp_path / "new").state != "problem"


def test_workspace_that_cannot_be_written_is_a_problem() -> None:
    found = examine_disk(Path("/proc/self"))  # where nobody makes a file, not even root
    assert (found.state, "cannot be written" in found.found) == ("problem", True)


def test_dropped_index_of_postgresql_is_named(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.create()
    settings = PostgresLedger(url=url)
    open_engine(tmp_path, settings).dispose()
    remember_ledger(Workspace(tmp_path), settings)
    assert {f.state for f in examine_ledger(Workspace(tmp_path))} == {"ok"}
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP INDEX ix_experimentrun_run")
        (found,) = [f for f in examine_ledger(Workspace(tmp_path)) if f.state == "problem"]
        assert found.advice == "CREATE INDEX ix_experimentrun_run ON experimentrun (run);"
        connection.execute(found.advice.encode())
        assert {f.state for f in examine_ledger(Workspace(tmp_path))} == {"ok"}
        connection.execute("UPDATE alembic_version SET version_num = '99'")
    (_, newer) = examine_ledger(Workspace(tmp_path))
    assert (newer.state, "newer quorumlab" in newer.found) == ("problem", True)


def test_database_that_is_away_is_a_problem(tmp_path: Path) -> None:
    settings = PostgresLedger(url=f"postgresql://me@127.0.0.1:{free_port()}/ledger")
    remember_ledger(Workspace(tmp_path), settings)
    (found,) = examine_ledger(Workspace(tmp_path))
    assert (found.state, "does not answer" in found.found) == ("problem", True)


@pytest.mark.parametrize("content", [b"no database", b""])
def test_file_that_is_no_ledger_is_no_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    states = [finding.state for finding in examine_ledger(Workspace(tmp_path))]
    assert states[-1] == "problem" if content else "warn" in states


def test_damaged_ledger_is_a_problem(workspace: Workspace) -> None:
    content = bytearray(workspace.database.read_bytes())
    content[8192 : 5 * 4096] = bytes(3 * 4096)
    workspace.database.write_bytes(content)
    assert any(finding.state == "problem" for finding in examine_ledger(workspace))


def test_older_schema_is_told_and_not_upgraded(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with closing(sqlite3.connect(workspace.database)) as database:
        for statement in schema_2.STATEMENTS:
            database.execute(statement)
        database.execute("PRAGMA user_version = 2")
        database.commit()
    found = by_name(examine_ledger(workspace))["schema of the ledger"]
    assert (found.state, found.found) == ("warn", "2, this program's is 4")
    with closing(sqlite3.connect(workspace.database)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)


def test_files_that_were_left_behind_are_counted(workspace: Workspace) -> None:
    (workspace.checkpoints / f"{'ab' * 12}-00000010-1.ckpt").write_bytes(b"left")
    temporary = workspace.folder / ".ledger.json.ab12_xyz"
    temporary.write_bytes(b"half")
    os.utime(temporary, (time.time() - 7_200,) * 2)
    found = by_name(examine_ledger(workspace))
    assert (found["checkpoints without a row"].state, found["checkpoints without a row"].found) == (
        "warn",
        "1",
    )
    assert found["files not written to their end"].state == "warn"


def test_place_without_a_workspace_is_examined_and_stays_empty(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    code, text = run_doctor(folder)
    assert code == 0, text
    assert "none yet in" in text
    assert list(tmp_path.iterdir()) == []


def test_taken_port_is_named() -> None:
    free = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        found = examine_ports({taken: "Prefect", free: "MLflow"})
        assert (found.state, found.found) == ("warn", f"taken: {taken} (Prefect)")
    assert examine_ports({free: "MLflow"}).state == "ok"


def test_server_that_is_away_is_a_problem_where_nothing_starts_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:secret@127.0.0.1:{free_port()}/api")
    found = examine_service("Prefect", "PREFECT_API_URL", is_needed=True)
    assert found.state == "problem"
    assert "secret" not in found.found
    assert "unset PREFECT_API_URL" in found.advice
    assert examine_service("MLflow", "PREFECT_API_URL", is_needed=False).state == "warn"
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:notaport")
    assert examine_service("Prefect", "PREFECT_API_URL", is_needed=True).state == "problem"
    monkeypatch.delenv("PREFECT_API_URL")
    assert examine_service("Prefect", "PREFECT_API_URL", is_needed=True).state == "ok"


class Healthy(BaseHTTPRequestHandler):
    """Answers as servers of Prefect and MLflow do, below /api alone."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_server_that_answers_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for path, state in (("/api/", "ok"), ("/api", "ok"), ("/other", "problem")):
            address = f"http://127.0.0.1:{server.server_port}{path}"
            monkeypatch.setenv("PREFECT_API_URL", address)
            found = examine_service("Prefect", "PREFECT_API_URL", is_needed=True)
            assert found.state == state, found
        assert "status 404" in found.found
        server.shutdown()
        thread.join()


def test_server_that_sends_word_by_word_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()

    def drip(server: socket.socket) -> None:
        """Send a header every half second, and an end that who is patient would take as health."""
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(20):
                if given_up.wait(0.5):
                    return
                connection.sendall(b"X: y\r\n")
            connection.sendall(b"Content-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        found = examine_service("Prefect", "PREFECT_API_URL", is_needed=True)
        given_up.set()
        thread.join()
    assert (found.state, "nothing within 3 s" in found.found) == ("problem", True)


@pytest.mark.parametrize(
    ("demand", "text"),
    [
        ("numpy>=1,<99", ""),
        ("numpy==0.1", "(==0.1)"),
        ("no-such-library==2", "is missing"),
        ("no-such-library==2 ; sys_platform == 'none'", ""),
    ],
)
def test_versions_are_held_against_what_is_asked_for(demand: str, text: str) -> None:
    assert (text in unmet(demand)) if text else (unmet(demand) == "")


def test_libraries_are_held_against_project_and_lock(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=99"]')
    (tmp_path / "requirements.lock").write_text("numpy==0.1 \\\n    --hash=sha256:00\nrich==0.2\n")
    found = by_name(examine_program(tmp_path))
    assert found["libraries that the code needs"].state == "problem"
    assert found["libraries that it is tested with"].state == "warn"
    assert "rich" in found["libraries that it is tested with"].found


def test_every_finding_that_is_not_right_says_what_to_do(workspace: Workspace) -> None:
    sql(workspace, "DROP INDEX alert_by_source")
    for finding in examine(workspace.folder):
        assert finding.found
        assert finding.advice or finding.state == "ok", finding


def test_table_shows_states_and_advice(workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    sql(workspace, "DROP INDEX alert_by_source")
    code, text = run_doctor(workspace.folder)
    assert code == 1
    assert "CREATE INDEX alert_by_source ON alert (run, source_ip);" in text
    assert "problems: 1, " in text
