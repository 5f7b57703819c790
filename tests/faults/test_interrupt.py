"""Ctrl-C and SIGTERM: exit code 130, what is committed stays, the same command goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.faults.experiment import is_stopped
from tests.program import Program

OVERRIDES = (
    "experiment.name=stopped",
    "experiment.replicates=1",
    "simulation.flows_per_node=600",  # stopped long before the end
    "simulation.steps=400",
    "tracking=off",
)


@pytest.mark.parametrize(
    ("number", "executor"),
    [
        (signal.SIGINT, "inline"),
        pytest.param(signal.SIGINT, "processes", marks=pytest.mark.faults),
        pytest.param(signal.SIGTERM, "ray_local", marks=pytest.mark.faults),
    ],
)
def test_stopped_experiment_goes_on(
    program: Program, number: signal.Signals, executor: str
) -> None:
    program.environment["QUORUMLAB_FAULT"] = "commit.begin:3:stop"  # signals wait until it goes on
    process = program.start("run", *OVERRIDES, f"executor={executor}")
    del program.environment["QUORUMLAB_FAULT"]
    program.wait_for(process, lambda: is_stopped(process))
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.strip().endswith("goes on from there")
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert program.query("SELECT state FROM experiment") == [("interrupted",)]
    again = program.run("run", *OVERRIDES, "executor=inline")
    assert again.returncode == 0, again.stderr
    (run,) = program.summary()["runs"]
    assert run["resumed_from_step"] >= 20
    assert run["resumed_from_step"] + run["steps_executed"] == 400


def test_ctrl_c_of_a_terminal_is_noted_by_the_server_that_the_command_has_started(
    tmp_path: Path,
) -> None:
    """A terminal interrupts every process of the command's group."""
    program = Program(tmp_path)  # with a server of its own
    program.environment["QUORUMLAB_FAULT"] = "commit.begin:3:stop"
    process = program.start("run", *OVERRIDES, "executor=inline")
    try:
        program.wait_for(process, lambda: is_stopped(process))
        servers = [
            child
            for child in psutil.Process(process.pid).children()
            if "flows.prefect_server" in child.cmdline()
        ]
        assert servers
        os.killpg(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=300)
    finally:
        program.stop_all()
    assert process.returncode == 130, out + err
    assert "goes on from there" in err
    assert program.query("SELECT state FROM experiment") == [("interrupted",)]
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert alive == []
    with closing(sqlite3.connect(program.workspace / "prefect.db")) as connection:
        states = connection.execute("SELECT state_type FROM flow_run").fetchall()
    assert states == [("CRASHED",)]
