"""A PostgreSQL server of the tests' own: real, private, and gone when they end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import Engine, create_engine, select
from sqlmodel import SQLModel

from sim_core.config import PostgresLedger
from sim_core.ledger.bulk import insert_rows
from sim_core.ledger.engine import open_engine
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from tests.ports import free_port

PROGRAMS = ("initdb", "pg_ctl")
HOW_TO_INSTALL = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
TRIES = 5
"""Somebody else may take the port between its choice and the server's start."""
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "autovacuum": "off",  # a test should find the same plan each time
}


@dataclass(frozen=True)
class Postgres:
    """A running server; whoever may connect is trusted."""

    port: int
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    def url(self, database: str) -> str:
        """Return SQLAlchemy's address of a database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """Return the address of a new database, a copy of one that nobody is connected to."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)


def find_programs() -> dict[str, str] | None:
    """Return the paths of the server's programs: in PATH, or where Debian has them; or None."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    for folder in (None, *map(str, debian)):
        found = {name: shutil.which(name, path=folder) for name in PROGRAMS}
        if all(found.values()):
            return {name: path for name, path in found.items() if path}
    return None


def version(folder: Path) -> float:
    """Return the version that a folder of programs belongs to."""
    name = folder.parent.name
    return float(name) if name.replace(".", "", 1).isdigit() else 0.0


@contextmanager
def postgres_server(programs: dict[str, str]) -> Iterator[Postgres]:
    """Give a running server in a folder of its own; it is stopped and removed at the end."""
    owner = server_owner()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short, as the path of a socket must be
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = folder / "data"
        initdb = [programs["initdb"], "-D", str(data), "--username=postgres", "--auth=trust"]
        run_as(owner, [*initdb, "--encoding=UTF8", "--no-locale", "--no-sync"], folder)
        port = start(programs["pg_ctl"], data, owner, folder)
        try:
            yield Postgres(port)
        finally:
            stop = [programs["pg_ctl"], "-D", str(data), "-m", "immediate", "-w", "stop"]
            run_as(owner, stop, folder)
    finally:
        shutil.rmtree(folder)


def start(pg_ctl: str, data: Path, owner: pwd.struct_passwd | None, folder: Path) -> int:
    """Start a server and return its port."""
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    for attempt in range(1, TRIES + 1):
        port = free_port()
        options = f"{settings} -c port={port} -c unix_socket_directories={folder}"
        command = [pg_ctl, "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start"]
        try:
            run_as(owner, command, folder)
        except RuntimeError:
            if attempt == TRIES or "Address already in use" not in (folder / "log").read_text():
                raise
        else:
            return port
    raise AssertionError("unreachable")


def server_owner() -> pwd.struct_passwd | None:
    """Return the ordinary user who runs the server where root runs the tests: it refuses root."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def run_as(owner: pwd.struct_passwd | None, command: list[str], folder: Path) -> None:
    """Run a program to its end.

    Raises:
        RuntimeError: it failed; with what it and the server said.
    """
    output, log = folder / "output", folder / "log"
    with output.open("wb") as file:  # a pipe would stay open as long as the server
        who = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(folder)},
            extra_groups=None if owner is None else [],
            check=False,
            **who,
        )
    if done.returncode:
        said = "".join(path.read_text(errors="replace") for path in (output, log) if path.exists())
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{said}")


def open_postgres(url: str) -> Engine:
    """Return an engine on the ledger in a database, which is made if it is not there."""
    return open_engine(Path("unused"), PostgresLedger(url=url))


def copy_ledger(source: Path, url: str) -> None:
    """Copy the rows of a ledger in SQLite into an empty database, table by table."""
    old, new = create_engine(f"sqlite:///{source}"), open_postgres(url)
    try:
        with old.connect() as reading, new.begin() as writing:
            for table in SQLModel.metadata.sorted_tables:
                rows = reading.execute(select(table)).all()
                if table in (BLOCKS, *ENTRY_TABLES.values()):
                    insert_rows(writing, table, rows)
                elif rows:
                    writing.execute(table.insert(), [dict(row._mapping) for row in rows])
    finally:
        old.dispose()
        new.dispose()
