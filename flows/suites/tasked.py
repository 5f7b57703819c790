"""The same sweep as a Prefect task per run on Ray: `python -m flows.suites.tasked OVERRIDE ...`.

As the package prefect-ray does it; a task is one bare simulation: no ledger, no validation.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.compose import compose_experiment
from flows.environment import prepare_environment, quiet_prefect_console
from sim_core.plan import plan_runs
from sim_core.simulate import RunSpec, simulate


def carry_out(overrides: Sequence[str], folder: Path) -> int:
    """Return how many steps Prefect's tasks have simulated; its records go to a folder."""
    prepare_environment(folder)
    prefect: Any = import_module("prefect")
    runner: Any = import_module("prefect_ray").RayTaskRunner
    quiet_prefect_console()
    planned = plan_runs(*compose_experiment(overrides, multirun=True)).runs
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    task = prefect.task(steps_of)

    @prefect.flow(task_runner=runner(init_kwargs=options))  # type: ignore[untyped-decorator]
    def sweep() -> int:
        futures = [task.submit(run.spec) for run in planned]
        return sum(future.result() for future in futures)

    return int(sweep())


def steps_of(spec: RunSpec) -> int:
    """Return a figure of one run, simulated."""
    steps = 0
    for segment in simulate(spec):
        steps = segment.next_step
    return steps


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as home:
        os.environ.setdefault("PREFECT_HOME", home)
        sys.exit(not carry_out(sys.argv[1:], Path(home)))
