"""Ctrl-C and SIGTERM: exit code 130, what is committed stays, the same command goes on."""

from __future__ import annotations

import signal

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
        (signal.SIGTERM, "ray_local"),
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
