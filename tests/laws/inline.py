"""Studies of laws in this process, without a ledger, and smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import yaml

from flows.compose import CONF, compose_experiment
from sim_core.config import ModelConfig
from sim_core.identity import run_key
from sim_core.laws.findings import RunResult
from sim_core.laws.table import PointResults
from sim_core.simulate import RunSpec, simulate


def run_points(
    study: str,
    labels: Sequence[str],
    replicates: int,
    *,
    overrides: Sequence[str] = (),
    steps: int | None = None,
) -> list[PointResults]:
    """Run some points of a study, of at most `steps` steps; composes no others, which takes long."""
    points = yaml.safe_load((CONF / "study" / "laws" / f"{study}.yaml").read_text())["points"]
    results = []
    for label in labels:
        words = [f"+study=laws/{study}", "~points", *overrides, *points[label]]
        config, _ = compose_experiment(words)
        part = shortened(config.model_part(), steps)
        runs = [run_alone(part, config.experiment.seed, k) for k in range(replicates)]
        results.append((part, runs))
    return results


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
