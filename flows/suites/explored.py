"""The same sweep with the EMA workbench, one run after the other: `python -m flows.suites.explored ...`.

An experiment is one bare simulation: no ledger, no validation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from flows.compose import compose_experiment
from flows.suites.tasked import steps_of
from sim_core.plan import plan_runs


def explore(overrides: Sequence[str]) -> float:
    """Return how many steps the workbench's experiments have simulated."""
    ema: Any = import_module("ema_workbench")
    specs = [run.spec for run in plan_runs(*compose_experiment(overrides, multirun=True)).runs]
    model = ema.Model("bare", function=lambda number: {"steps": float(steps_of(specs[number]))})
    model.uncertainties = [ema.IntegerParameter("number", 0, len(specs) - 1)]
    model.outcomes = [ema.ScalarOutcome("steps")]
    scenarios = [ema.Scenario(str(number), number=number) for number in range(len(specs))]
    with ema.SequentialEvaluator(model) as evaluator:
        _, outcomes = evaluator.perform_experiments(scenarios=scenarios)
    return float(outcomes["steps"].sum())


if __name__ == "__main__":
    sys.exit(not explore(sys.argv[1:]))
