"""The dashboard as people start it, and an experiment for it to show."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import free_port
from tests.program import Program

NAME = "liars-and-deadlines"
POINTS = 4
REPLICATES = 4
STEPS = 40
EXPERIMENT = (
    "-m", f"experiment.name={NAME}", "adversary=poisoner", "adversary.share=0.1,0.4",
    "consensus.vote_deadline=3,8", "topology=small_world", "dissemination=push_pull",
    "simulation.nodes=24", f"simulation.steps={STEPS}", f"experiment.replicates={REPLICATES}",
    "executor=inline", "orchestrator=none", "tracking=off", "validation.engine=sql",
    "ledger.detail=all",
)  # fmt: skip


@contextmanager
def served(program: Program, port: int | None = None) -> Iterator[str]:
    """Give the address of a dashboard on the program's workspace; it is ended as by Ctrl-C."""
    process = program.start("dashboard", "--port", str(port or free_port()))
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # said as soon as it answers
        while line and "http://" not in line:
            line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield "http://" + line.split("http://")[1].strip()
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
