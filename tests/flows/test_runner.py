"""The runner of `up`: commands that it carries out are what they would be without it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from flows.handover import SOCKET
from tests.ports import free_port
from tests.program import COMMAND, Program, kill_everything

SMALL = (
    "simulation.nodes=8", "simulation.steps=20", "experiment.replicates=2", "executor=inline",
    "orchestrator=none", "tracking=off", "validation.engine=sql", "output.plots=false",
)  # fmt: skip
LONG = (*SMALL, "simulation.steps=1000000", "limits.max_seconds=1000")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the runner is for Linux")


class Served:
    """A program whose workspace has a runner."""

    def __init__(self, folder: Path) -> None:
        self.program = Program(folder)
        self.program.workspace.mkdir()
        self.port = free_port()
        self.log = folder / "runner.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "COV_"))}
        environment = {
            **clean,
            "QUORUMLAB_WORKSPACE": str(self.program.workspace),
            "PREFECT_HOME": str(folder / "prefect_home"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.runner", str(self.program.workspace), str(self.port)],
                env=environment, stdout=output, stderr=output, text=True, start_new_session=True,
            )  # fmt: skip
        self.program.started.append(self.process)
        self.program.wait_for(self.process, lambda: (self.program.workspace / SOCKET).exists())

    def copies(self) -> list[psutil.Process]:
        """Return the processes that carry out commands: copies are nobody's children, and have its words."""
        words = psutil.Process(self.process.pid).cmdline()
        found = []
        for process in psutil.process_iter():
            try:
                if process.cmdline() == words and process.pid != self.process.pid:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("r"))
    yield made
    made.program.stop_all()


def test_a_command_is_carried_out_by_a_copy_and_finds_the_same(
    served: Served, tmp_path: Path
) -> None:
    began = served.log.stat().st_size
    done = served.program.run("run", *SMALL, "experiment.name=handed")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs finished" in done.stdout
    assert served.log.stat().st_size == began, "it speaks to whoever has asked"
    alone = Program(tmp_path)
    assert alone.run("run", *SMALL, "experiment.name=handed").returncode == 0
    folder = "experiments/handed/summary.json"
    mine, theirs = (
        json.loads((place / folder).read_text())
        for place in (served.program.workspace, alone.workspace)
    )
    heads = [{r["run_id"]: r["ledger_head"] for r in s["runs"]} for s in (mine, theirs)]
    assert heads[0] == heads[1]
    assert not served.copies()


def test_mistakes_and_exit_codes_come_back(served: Served) -> None:
    wrong = served.program.run("run", "simulation.nodes=none")
    assert wrong.returncode == 2
    assert "simulation.nodes" in wrong.stderr
    failed = served.program.run("run", *SMALL, "experiment.seed=9", "limits.memory_mb=1")
    assert failed.returncode == 1
    assert "limits.memory_mb" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1, "no log that would not be there without it"


def test_relative_paths_are_those_of_whoever_asks(served: Served) -> None:
    edges = served.program.folder / "edges.txt"
    edges.write_text("".join(f"{n} {(n + 1) % 8}\n" for n in range(8)))
    done = served.program.run(
        "run", *SMALL, "topology=edge_list", "topology.path=edges.txt", "experiment.name=edges"
    )
    assert done.returncode == 0, done.stderr


def test_interrupting_a_command_interrupts_its_copy(served: Served) -> None:
    begun = served.program.start("run", *LONG, "experiment.name=stopped", "experiment.seed=6")
    served.program.wait_for(
        begun, lambda: bool(served.program.query("SELECT 1 FROM run WHERE seed = 6 AND steps > 0"))
    )
    assert len(served.copies()) == 1
    begun.send_signal(signal.SIGINT)
    _, errors = begun.communicate(timeout=120)
    assert begun.returncode == 130
    assert "interrupted" in errors
    assert not served.copies()


def test_killing_a_command_kills_its_copy_and_nothing_is_lost(served: Served) -> None:
    begun = served.program.start("run", *LONG, "experiment.name=killed", "experiment.seed=7")
    served.program.wait_for(
        begun,
        lambda: bool(served.program.query("SELECT 1 FROM run WHERE seed = 7 AND steps > 0")),
    )
    (copy,) = served.copies()
    kill_everything(begun)
    assert psutil.wait_procs([copy], timeout=60)[1] == []
    verified = served.program.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_another_environment_is_not_handed_over(served: Served) -> None:
    other = Program(served.program.folder, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    begun = other.start("run", *LONG, "experiment.name=other", "experiment.seed=8")
    other.wait_for(
        begun, lambda: bool(other.query("SELECT 1 FROM run WHERE seed = 8 AND steps > 0"))
    )
    assert served.copies() == []
    kill_everything(begun)


def test_nobody_else_can_have_commands_carried_out(served: Served) -> None:
    path = served.program.workspace / SOCKET
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(path))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    health = httpx.get(f"http://127.0.0.1:{served.port}/health").json()
    assert health == {"status": "ok", "is_current": True}
    assert served.program.run("run", *SMALL, "experiment.name=after").returncode == 0


def test_without_it_commands_do_everything_themselves(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.workspace.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(program.workspace / SOCKET))  # its file stays, and nobody listens
    done = program.run("run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert COMMAND.exists()
