"""Studies of laws in this process, without a ledger, and smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flows.compose import compose_experiment
from sim_core.config import ModelConfig
from sim_core.identity import run_key
from sim_core.laws.findings import RunResult
from sim_core.laws.table import PointResults
from sim_core.plan import plan_runs
from sim_core.simulate import RunSpec, simulate


def run_points(
    study: str,
    labels: Sequence[str],
    replicates: int,
    *,
    overrides: Sequence[str] = (),
    steps: int | None = None,
) -> list[PointResults]:
    """Run some points of a study, of at most `steps` steps."""
    words = [f"+study=laws/{study}", f"experiment.replicates={replicates}", *overrides]
    config, points = compose_experiment(words)
    chosen = [point for point in points if point.label in labels]
    assert len(chosen) == len(labels)
    plan = plan_runs(config, chosen)
    return [
        (part, [run_alone(part, config.experiment.seed, k) for k in range(replicates)])
        for part in (shortened(part, steps) for part in plan.configs)
    ]


def shortened(config: ModelConfig, steps: int | None) -> ModelConfig:
    simulation = config.simulation
    horizon = simulation.steps if steps is None else min(steps, simulation.steps)
    return config.model_copy(
        update={"simulation": simulation.model_copy(update={"steps": horizon})}
    )


def run_alone(config: ModelConfig, seed: int, replicate: int) -> RunResult:
    horizon = config.simulation.steps
    key = run_key(config, seed, replicate)
    spec = RunSpec(key, config, seed, replicate, checkpoint_every=horizon)
    (segment,) = simulate(spec)
    assert segment.summary is not None
    rows = np.asarray(segment.rows["metrics"])
    assert rows.dtype.names is not None
    return RunResult(segment.summary, {name: rows[name] for name in rows.dtype.names})
