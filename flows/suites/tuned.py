"""The same sweep with Ray Tune in place of this program: `python -m flows.suites.tuned OVERRIDE ...`.

A trial is one bare simulation, which reports one figure at its end: no ledger, no validation. Actors
are reused, which spares Ray Tune a new process per trial.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from flows.compose import compose_experiment
from flows.environment import QUIET, RAY
from flows.suites.tasked import steps_of
from sim_core.plan import plan_runs
from sim_core.simulate import RunSpec


def tune(overrides: Sequence[str]) -> bool:
    """Return whether Ray Tune has carried out all trials of a sweep without an error."""
    for name, value in (QUIET | RAY).items():
        os.environ.setdefault(name, value)
    ray: Any = import_module("ray")
    tuner: Any = import_module("ray.tune")
    planned = plan_runs(*compose_experiment(overrides, multirun=True)).runs
    specs = [run.spec for run in planned]
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
            trials = tuner.Tuner(
                tuner.with_parameters(trial, specs=specs),
                param_space={"number": tuner.grid_search(list(range(len(specs))))},
                tune_config=tuner.TuneConfig(reuse_actors=True),
                run_config=tuner.RunConfig(storage_path=folder, verbose=0),
            )
            return not trials.fit().num_errors
    finally:
        ray.shutdown()


def trial(config: dict[str, int], specs: Sequence[RunSpec]) -> dict[str, float]:
    """Return a figure of one run, simulated."""
    return {"steps": float(steps_of(specs[config["number"]]))}


if __name__ == "__main__":
    sys.exit(not tune(sys.argv[1:]))
