"""Prefect's server for one command: started beside everything else, gone with the command.

Prefect would start one itself, but in the midst of the command, after importing all of the server into
it; and its database would go through a hundred migrations, which take longer than all the rest.
"""

from __future__ import annotations

import atexit
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from flows.environment import collect_garbage_seldom, prefect_database

HOST = "127.0.0.1"
BACKLOG = 128
START_SECONDS = 180.0
"""It takes 5 seconds to start on two processors, longer on a busy machine."""
STOP_SECONDS = 10.0
DYING_SECONDS = 2.0
"""Between closing its socket and its end."""
REASON = re.compile(r"[\w.]+(Error|Exception)\b.*: ")
"""How a traceback ends that it leaves behind."""
SCHEMA = Path(__file__).with_name("prefect_schema.sql")
"""Tables of Prefect's database as its own migrations leave them; deployments/write_prefect_schema.py wrote it."""
SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
"""With which Prefect starts a temporary server itself: no pages, no scheduler."""


class TemporaryServer:
    """The server of this process."""

    def __init__(self) -> None:
        """Begin to start it; whoever asks it something waits until it answers."""
        with socket.create_server((HOST, 0), backlog=BACKLOG) as listening:
            self.url = f"http://{HOST}:{listening.getsockname()[1]}/api"
            self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as it
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "flows.prefect_server", str(listening.fileno())],
                env={**os.environ, **SETTINGS, "PYTHONPATH": _path()},
                stdin=subprocess.PIPE,  # whose end tells it that we are gone
                stdout=self._output,
                stderr=self._output,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is for us: it notes how we have ended
            )
        atexit.register(self.stop)

    def last_words(self) -> str | None:
        """Return why it has ended; None where it goes on."""
        try:
            code = self._process.wait(DYING_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        reasons = [line for line in lines if REASON.match(line)] or lines
        return reasons[-1] if reasons else f"it ended with exit code {code}"

    def stop(self) -> None:
        """End it, as soon as it has written what it was told."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.wait()


_mine: list[TemporaryServer] = []


def begin_server() -> None:
    """Begin to start a server for this process, beside the imports of this one.

    Whether Prefect's settings name another one is known a second later, when Prefect is imported;
    then this one has seen it as well, and does nothing.
    """
    if not os.environ.get("PREFECT_API_URL"):
        _mine.append(TemporaryServer())


def use_server() -> None:
    """Use the server that was begun, unless Prefect's settings name another one."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    if not _mine or os.environ.get("PREFECT_API_URL"):
        return
    if get_current_settings().api.url:
        _mine.pop().stop()
        return
    os.environ["PREFECT_API_URL"] = _mine[0].url
    refresh_global_settings_context()


def own_server() -> TemporaryServer | None:
    """Return the server that was started for this process, if one was."""
    return _mine[0] if _mine else None


def create_tables(database: Path | None) -> None:
    """Make Prefect's database if it is a file that is not there; a later Prefect migrates it as its own.

    Whatever hinders that hinders the server as well, which says so.
    """
    if database is None or database.exists():
        return
    with (
        suppress(OSError, sqlite3.Error),  # somebody else may have been faster
        tempfile.TemporaryDirectory(dir=database.parent, prefix=".prefect-") as folder,
    ):
        made = Path(folder) / database.name
        with closing(sqlite3.connect(made)) as connection:
            connection.executescript(SCHEMA.read_text())
        os.link(made, database)


def _path() -> str:
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _serve(descriptor: int) -> None:
    """Serve until whoever started this process tells it to end, or is gone."""
    collect_garbage_seldom()
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        return
    create_tables(prefect_database())
    import uvicorn
    from prefect.server.api.server import create_app

    settings = uvicorn.Config(create_app(), log_level="error", lifespan="on")
    server = uvicorn.Server(settings)

    def watch() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])
    if not server.started:
        sys.exit(3)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
