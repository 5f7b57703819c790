"""Prefect's server of one command: its database, its end, and why it does not start."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil

from deployments.write_prefect_schema import dumped, migrated
from flows.prefect_server import create_tables
from tests.faults.experiment import is_stopped
from tests.program import Program

TINY = (
    "simulation.nodes=6", "simulation.steps=4", "experiment.replicates=1",
    "executor=inline", "tracking=off", "validation.engine=sql", "output.plots=false",
)  # fmt: skip


def parts(schema: str) -> list[str]:
    """Return the parts of all statements, whose order in a table differs from time to time."""
    return sorted(line.strip().rstrip(",") for line in schema.splitlines())


def test_tables_are_those_that_the_migrations_of_this_prefect_make(tmp_path: Path) -> None:
    migrated(tmp_path / "prefect.db")
    create_tables(tmp_path / "made.db")
    made, wanted = dumped(tmp_path / "made.db"), dumped(tmp_path / "prefect.db")
    assert parts(made) == parts(wanted), "run deployments/write_prefect_schema.py"


def test_a_database_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    database = tmp_path / "prefect.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    before = database.read_bytes()
    create_tables(database)
    assert database.read_bytes() == before
    assert list(tmp_path.iterdir()) == [database]


def test_a_killed_command_takes_its_server_with_it(tmp_path: Path) -> None:
    program = Program(tmp_path, {"QUORUMLAB_FAULT": "commit.begin:1:stop"})
    process = program.start("run", *TINY)
    program.wait_for(process, lambda: is_stopped(process))
    servers = psutil.Process(process.pid).children(recursive=True)
    assert any("flows.prefect_server" in server.cmdline() for server in servers)
    process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert alive == []
    program.stop_all()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.workspace.mkdir()
    (program.workspace / "prefect.db").write_text("no database")
    failed = program.run("run", *TINY)
    assert failed.returncode == 3
    assert "file is not a database" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_server_that_prefects_settings_name_is_used_and_none_of_our_own(tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:1/api"\n')
    failed = program.run("run", *TINY)
    assert failed.returncode == 3
    assert "http://127.0.0.1:1/api" in failed.stderr
    assert not (program.workspace / "prefect.db").exists()
