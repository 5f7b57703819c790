"""A Ray cluster of several nodes on this machine: real raylets, which can be killed and added."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.program import COMMAND, POLL_SECONDS, kill_everything

TOKEN = "0123456789abcdef" * 4
PATIENCE_SECONDS = 120.0
ANY_PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
PATIENT = {"RAY_agent_register_timeout_ms": "180000", "RAY_worker_register_timeout_seconds": "180"}
"""Ray gives up a process that does not report within 30 seconds, on however busy a machine."""
SMALL = ("--object-store-memory=80000000", "--disable-usage-stats", "--block")


class RayCluster:
    """A head without processors, to which drivers connect, and nodes."""

    def __init__(self, folder: Path) -> None:
        """Start the head; sockets are in `folder`, whose path has to be short."""
        self._folder = folder
        self._nodes: list[subprocess.Popen[str]] = []
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.split(":")[1]
        self._start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
                    f"--temp-dir={folder}")  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_TMPDIR": str(self._folder)}

    def add_node(self) -> subprocess.Popen[str]:
        """Let a node of one processor join, and return it."""
        return self._start(f"--address={self.address}", "--num-cpus=1", *ANY_PORTS)

    def kill(self, node: subprocess.Popen[str]) -> None:
        """Let a node be gone at once, and all that runs on it."""
        kill_everything(node)

    def stop(self) -> None:
        """End all of it."""
        for node in reversed(self._nodes):
            kill_everything(node)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        log = self._folder / f"node-{len(self._nodes)}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "COV_"))}
        with log.open("w") as output:
            node = subprocess.Popen(
                [str(COMMAND.parent / "ray"), "start", *words, *SMALL],
                env=clean | PATIENT | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self._nodes.append(node)
        end = time.monotonic() + PATIENCE_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(POLL_SECONDS)  # between two looks
        return node


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Give a cluster of a head alone for the length of a block."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(folder)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
