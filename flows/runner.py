"""The runner of `quorumlab up`: a process that has imported everything, and is copied for each command.

Seven of the eight seconds that a small experiment takes are imports. A copy of a process (fork) has
them already; it takes over the folder, environment and terminal of whoever has asked, and ends with them.
A command is refused, and does everything itself, where a copy could differ from it: other code than
when the runner began, another Python, other variables that libraries read when they are imported.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from flows.environment import (
    ENDINGS,
    collect_garbage_seldom,
    prepare_environment,
    quiet_prefect_console,
    settings_for,
)
from flows.handover import ANSWER_SECONDS, CHECKOUT, SWITCH, receive, send, socket_of
from flows.service import use_services

HOST = "127.0.0.1"
CODE = ("flows", "tasks", "sim_core", "conf")
READ_AT_IMPORT = (
    "PREFECT_", "MLFLOW_", "RAY_", "GX_", "NUMBA_", "OMP_", "MKL_", "MPL", "PYTHON",
    "LD_", "LC_", "LANG", "TZ", "OTEL_", "QUORUMLAB_FAULT",
)  # fmt: skip
"""First letters of variables that libraries or this program read once."""
LIBRARIES = (
    "flows.cli", "flows.experiment", "flows.launch", "flows.report", "tasks.track_mlflow",
    "tasks.validate_ledger", "tasks.draw_plots", "tasks.write_report", "tasks.resource_history",
    "tasks.plots.resources", "great_expectations", "mlflow", "pandas", "pyarrow.parquet",
    "scipy.special", "scipy.stats", "jinja2", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "ddsketch", "prometheus_client",
)  # fmt: skip
REHEARSED = (
    "simulation.nodes=10", "simulation.steps=20", "experiment.replicates=2", "executor=inline",
    "orchestrator=none", "monitoring.enabled=false", "logging.file=false",
    "+points.honest=[]", "+points.liars=['adversary=poisoner','dissemination=push_pull']",
)  # fmt: skip
"""With all that experiments do by default, but for Prefect, whose threads would stay."""
MOST_COPIES = 16
"""Commands at work at once; more do everything themselves."""
SURVIVE_FORKS = ("jemalloc_bg_thd",)
"""Threads that begin anew in a copy: Arrow's allocator sees to it (jemalloc's handlers of fork)."""
Stamp = tuple[tuple[str, int, int], ...]


def stamp() -> Stamp:
    """Return names, times and sizes of all files that a command's behaviour depends on."""
    found = []
    for folder in CODE:
        for path in sorted((CHECKOUT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".jinja", ".sql"):
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are read once.

    >>> read_at_import({"PREFECT_HOME": "/x", "TERM": "xterm"})
    {'PREFECT_HOME': '/x'}
    """
    return {k: v for k, v in environment.items() if k.startswith(READ_AT_IMPORT)}


class Copied(BaseException):
    """This process is a copy of the runner, and has to carry out a command."""

    def __init__(
        self, connection: socket.socket, command: Mapping[str, Any], descriptors: list[int]
    ) -> None:
        """Keep who has asked, for what, and their stdin, stdout and stderr."""
        super().__init__()
        self.connection, self.command, self.descriptors = connection, command, descriptors


class Runner:
    """Waits for commands, and has a copy of this process carry out each of them."""

    def __init__(self, workspace: Path, port: int) -> None:
        """Import everything, then listen.

        Raises:
            OSError: the port is taken, or the socket's name is too long.
        """
        path = socket_of(workspace)
        if path is None:
            raise OSError(f"{workspace}: too long for the name of a socket")
        self._began = stamp()
        self._selector = selectors.DefaultSelector()
        self._n_copies = 0
        self._settings = settings_for(workspace)
        self._environment = read_at_import(self._settings | os.environ)
        self._path = path
        self._health = socket.create_server((HOST, port))
        prepare(workspace)
        path.unlink(missing_ok=True)
        self._commands = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # nobody else may connect
        try:
            self._commands.bind(str(path))
        finally:
            os.umask(before)
        self._commands.listen()

    def serve(self) -> None:
        """Answer until this process is told to end; commands that are at work go on.

        Raises:
            Copied: in the copy that carries out a command.
        """
        with self._selector as selector:
            selector.register(self._commands, selectors.EVENT_READ, self._take)
            selector.register(self._health, selectors.EVENT_READ, self._tell_health)
            while True:
                for key, _ in selector.select():
                    key.data()

    def close(self) -> None:
        """Take no more commands."""
        self._path.unlink(missing_ok=True)

    def _tell_health(self) -> None:
        connection, _ = self._health.accept()
        with connection, suppress(OSError):
            connection.settimeout(1.0)
            connection.recv(4096)
            body = json.dumps({"status": "ok", "is_current": stamp() == self._began}).encode()
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            )
            connection.sendall(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)

    def _take(self) -> None:
        connection, _ = self._commands.accept()
        descriptors: list[int] = []
        try:
            connection.settimeout(ANSWER_SECONDS)
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
            command = receive(connection)
            if command is None or len(descriptors) != 3:
                return
            reason = self._objection(command)
            if reason is not None:
                send(connection, {"refused": reason})
                return
            self._copy(connection, command, descriptors)
        except OSError:
            return  # whoever has asked is gone
        finally:
            connection.close()
            for descriptor in descriptors:
                os.close(descriptor)

    def _copy(
        self, connection: socket.socket, command: Mapping[str, Any], descriptors: list[int]
    ) -> None:
        """Let a copy carry out a command; it is nobody's child, and goes on when the runner ends."""
        alive, held = os.pipe()
        if (child := os.fork()) == 0:
            if os.fork() == 0:
                self._commands.close()
                self._health.close()
                raise Copied(connection.dup(), command, [os.dup(d) for d in descriptors])
            os._exit(0)
        os.waitpid(child, 0)
        os.close(held)
        self._n_copies += 1
        self._selector.register(alive, selectors.EVENT_READ, lambda: self._forget(alive))

    def _forget(self, alive: int) -> None:
        """Note that a copy has ended: nobody holds the other end of its pipe any more."""
        self._selector.unregister(alive)
        os.close(alive)
        self._n_copies -= 1

    def _objection(self, command: Mapping[str, Any]) -> str | None:
        """Return why a copy of this process would not be what the command is."""
        if (command["checkout"], command["python"]) != (str(CHECKOUT), sys.prefix):
            return "it is another program"
        if read_at_import(self._settings | command["environment"]) != self._environment:
            return "its environment is another one"
        if self._n_copies >= MOST_COPIES:
            return f"{MOST_COPIES} commands are at work"
        if stamp() != self._began:
            return "the program has changed since the runner began: quorumlab up starts it anew"
        return None


def rehearse() -> None:
    """Carry out a small experiment, so that what is made when it is first used is there."""
    from flows.compose import compose_experiment
    from flows.launch import plainly

    # Great Expectations shows no bar here, and a thread that watches bars would be in no copy.
    importlib.import_module("tqdm").tqdm.monitor_interval = 0
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        config, points = compose_experiment([*REHEARSED, f"workspace={folder}"])
        plainly(config, points, True)


def prepare(workspace: Path) -> None:
    """Import what commands need, and load compiled code; leave no thread, which no copy would have."""
    use_services(workspace)
    prepare_environment(workspace)
    for library in LIBRARIES:
        importlib.import_module(library)
    quiet_prefect_console()  # what is imported here must show no more than where it is not
    rehearse()
    gc.collect()
    gc.freeze()  # what all copies share stays shared
    tasks = Path("/proc/self/task").iterdir()
    names = sorted((task / "comm").read_text().strip() for task in tasks)
    if len([name for name in names if name not in SURVIVE_FORKS]) != 1:
        raise RuntimeError(f"threads {names}: a copy would have one of them")


def carry_out(copied: Copied, workspace: Path) -> NoReturn:
    """Become a command: in a session of its own, at the terminal of whoever has asked."""
    connection, command = copied.connection, copied.command
    os.setsid()
    for target, descriptor in enumerate(copied.descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.environ[SWITCH] = "0"  # or it would hand itself over again, and its copy too
    os.chdir(command["folder"])
    random.seed()
    connection.settimeout(None)
    send(connection, {"pid": os.getpid()})
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    END.connection = connection
    ENDINGS.append(END.tell)
    from prefect.context import refresh_global_settings_context

    from flows import cli

    use_services(workspace)  # before Prefect's settings are read, as where it is imported later
    prepare_environment(workspace)
    refresh_global_settings_context()
    sys.argv = ["quorumlab", *command["words"]]
    try:
        cli.main()
    except SystemExit as ended:
        END.code = ended.code if isinstance(ended.code, int) else 1
        raise
    raise AssertionError("a command ends by leaving")


class _End:
    """Tells whoever has asked how a command ended, when nothing of it is left."""

    connection: socket.socket | None = None
    code = 1

    def tell(self, code: int) -> None:
        if self.connection is not None:
            with suppress(OSError):
                send(self.connection, {"exit": code})
            self.connection = None

    def tell_last(self) -> None:
        self.tell(self.code)


END = _End()


def _end_with(connection: socket.socket) -> None:
    """End at once when whoever has asked is gone, as their own process would be."""
    with suppress(OSError):
        if not connection.recv(1):
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve a workspace: `python -m flows.runner WORKSPACE PORT`."""
    collect_garbage_seldom()
    atexit.register(END.tell_last)  # before all others, so that it comes after them
    workspace, port = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    runner, me = Runner(workspace, port), os.getpid()
    try:
        runner.serve()
    except Copied as copied:
        carry_out(copied, workspace)
    finally:
        if os.getpid() == me:
            runner.close()


if __name__ == "__main__":
    main()
