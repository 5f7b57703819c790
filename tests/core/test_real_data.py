"""AUROC of whole runs on real data, beside figures of other programs.

The run metric `auroc` comes through replay, the nodes' own detectors and the histogram of scores.
`test_detectors_real_data.py` measures detector objects, from ranks of all rows; here that is also
what a run must come to, up to the draw of its flows.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sim_core.config import ModelConfig
from sim_core.metrics import summarise
from sim_core.model import NetworkModel

N_REPLICATES = 3
DETECTORS = ("zscore", "mahalanobis", "hbos", "ecod", "isolation_forest", "half_space_trees")
SIZES = {
    "nsl_kdd": {"nodes": 4, "flows_per_node": 500, "steps": 5},
    "smtp": {"nodes": 4, "flows_per_node": 500, "steps": 150},
}
FOLDERS = {"nsl_kdd": "nsl-kdd", "smtp": "adbench"}


def run_of(data_folder: Path, data: str, detector: str, replicate: int) -> NetworkModel:
    """Return a network after its last step; nobody learns or proposes."""
    config = ModelConfig.model_validate(
        {
            "simulation": SIZES[data],
            "traffic": {"kind": data, "path": str(data_folder / FOLDERS[data])},
            "detector": {"kind": detector, "learn": False},
            "dissemination": {"kind": "none"},
            "signature": {"min_support": 501},
        }
    )
    model = NetworkModel(config, seed=1, replicate=replicate)
    for _ in range(config.simulation.steps):
        model.step()
    return model


@cache
def aurocs(data_folder: Path, data: str, detector: str) -> Any:
    """Return the metric of each run beside the AUROC from ranks of all rows at all nodes, and errors.

    `[n_replicates, 2]`, and the standard errors of the former for the draw of flows `[n_replicates]`.
    """
    found, errors = [], []
    for replicate in range(N_REPLICATES):
        model = run_of(data_folder, data, detector, replicate)
        steps = model.config.simulation.steps
        metric = summarise(model.collect(), model.traffic.targets, steps)["auroc"]
        rows: Any = model.traffic.recording  # type: ignore[attr-defined]  # a replay
        nodes = np.arange(model.config.simulation.nodes)
        x = np.broadcast_to(rows.values, (nodes.size, *rows.values.shape)).copy()
        score = model.shards.detector.score(model.state.nodes.detector, x)  # type: ignore[attr-defined]
        label = np.broadcast_to(rows.label > 0, score.shape)
        exact = float(roc_auc_score(label.ravel(), score.ravel()))
        found.append((metric, exact))
        n_attacks = model.state.histogram[1].sum()
        errors.append(hanley_mcneil(exact, n_attacks, model.state.histogram[0].sum()))
        model.close()
    return np.array(found), np.array(errors)


def hanley_mcneil(area: float, n_attacks: int, n_benign: int) -> float:
    """Return the standard error of an AUROC (Hanley and McNeil, Radiology 1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n_attacks - 1) * (q1 - area**2)
    variance += (n_benign - 1) * (q2 - area**2)
    return math.sqrt(variance / (n_attacks * n_benign))


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("detector", DETECTORS)
def test_metric_of_a_run_is_that_of_its_detectors_on_all_rows(
    data_folder: Path, data: str, detector: str
) -> None:
    found, errors = aurocs(data_folder, data, detector)
    metric, exact = found.T
    assert (np.abs(metric - exact) < 4 * errors).all()


@pytest.mark.parametrize(
    ("data", "detector", "reference", "sd"),
    [
        ("nsl_kdd", "zscore", 0.898, 0.0),
        ("nsl_kdd", "mahalanobis", 0.924, 0.0),
        ("nsl_kdd", "isolation_forest", 0.9227, 0.0058),
        ("smtp", "isolation_forest", 0.9059, 0.0103),
        ("smtp", "ecod", 0.880, 0.006),
        ("smtp", "hbos", 0.806, 0.06),
    ],
)
def test_runs_agree_with_other_programs(
    data_folder: Path, data: str, detector: str, reference: float, sd: float
) -> None:
    """`sd` is what the detector differs by between forests, or between choices of its warm-up."""
    found, errors = aurocs(data_folder, data, detector)
    error = math.sqrt(((errors**2).mean() + 2 * sd**2) / N_REPLICATES)
    assert found[:, 0].mean() == pytest.approx(reference, abs=3.29 * error)
