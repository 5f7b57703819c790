"""AUROC of every detector on NSL-KDD and smtp, beside figures of other implementations.

`fit-all`: the warm-up is the unlabelled rows that are scored. `normal-only`: it is half of the benign
rows, and the rest is scored; for KDDTest+ it is the benign rows of KDDTrain+_20Percent. Numeric
columns, scaled to the mean and standard deviation of the warm-up, in which constant ones are dropped.
One node, learning off. `docs/reference/detectors.md` has the table.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from sim_core.config import (
    EcodDetector,
    HalfSpaceTreesDetector,
    HbosDetector,
    IsolationForestDetector,
    MahalanobisDetector,
    ZScoreDetector,
)
from sim_core.detectors import make_detector
from sim_core.randomness import Streams

SYMBOLIC = [1, 2, 3]
LABEL, DIFFICULTY = 41, 42
ROWS_AT_ONCE = 4_096
N_ROOTS = 5
ALL = 100_000
"""A window that holds every row of the warm-up, as the references do."""


@cache
def nsl_kdd(path: Path) -> tuple[Any, Any]:
    """Return the 38 numeric columns, and which rows are attacks."""
    table = pd.read_csv(path, header=None)
    is_attack = (table[LABEL] != "normal").to_numpy()
    return table.drop(columns=[*SYMBOLIC, LABEL, DIFFICULTY]).to_numpy(dtype=float), is_attack


@cache
def smtp(path: Path) -> tuple[Any, Any]:
    """Return the three columns of the ADBench smtp set, and which rows are attacks."""
    with np.load(path) as file:
        return file["X"], file["y"].astype(bool)


def rows_of(folder: Path, name: str, setting: str, root: int) -> tuple[Any, Any, Any]:
    """Return warm-up, scored rows, and which of these are attacks."""
    train = nsl_kdd(folder / "nsl-kdd" / "KDDTrain+_20Percent.txt")
    sets = {
        "test": lambda: nsl_kdd(folder / "nsl-kdd" / "KDDTest+.txt"),
        "train": lambda: train,
        "smtp": lambda: smtp(folder / "adbench" / "34_smtp.npz"),
    }
    x, is_attack = sets[name]()
    if setting == "fit-all":
        return x, x, is_attack
    if name == "test":
        return train[0][~train[1]], x, is_attack
    benign = np.random.default_rng(root).permutation(np.flatnonzero(~is_attack))
    fit = benign[: len(benign) // 2]
    rest = np.setdiff1d(np.arange(len(x)), fit)
    return x[fit], x[rest], is_attack[rest]


def auroc_of(config: Any, folder: Path, name: str, setting: str, root: int, log: bool) -> float:
    """Return the AUROC of a detector that was started with one warm-up."""
    warmup, x, is_attack = rows_of(folder, name, setting, root)
    if log:
        warmup, x = np.log1p(warmup), np.log1p(x)
    mean, sd = warmup.mean(axis=0), warmup.std(axis=0)
    kept = sd > 0
    warmup, x = (
        ((rows[:, kept] - mean[kept]) / sd[kept]).astype(np.float32)[None] for rows in (warmup, x)
    )
    detector = make_detector(config, Streams(root=root, replicate=0))
    state = detector.init(1, warmup)
    parts = range(0, x.shape[1], ROWS_AT_ONCE)
    score = [detector.score(state, x[:, start : start + ROWS_AT_ONCE])[0] for start in parts]
    return float(roc_auc_score(is_attack, np.concatenate(score)))


def aurocs(
    config: Any, folder: Path, name: str, setting: str, *, log: bool = False, n_roots: int = N_ROOTS
) -> Any:
    """Return the AUROC for each of several root seeds; one where nothing is random."""
    is_random = config.kind in ("isolation_forest", "half_space_trees")
    splits = setting == "normal-only" and name != "test"
    roots = range(n_roots if is_random or splits else 1)
    return np.array([auroc_of(config, folder, name, setting, root, log) for root in roots])


@pytest.mark.parametrize(
    ("name", "setting", "reference", "sd"),
    [
        ("test", "fit-all", 0.8622, 0.0060),
        ("test", "normal-only", 0.9227, 0.0058),
        ("train", "fit-all", 0.7634, 0.0124),
        ("train", "normal-only", 0.9750, 0.0016),
        ("smtp", "fit-all", 0.9036, 0.0046),
        ("smtp", "normal-only", 0.9059, 0.0103),
    ],
)
def test_isolation_forest_agrees_with_scikit_learn(data_folder, name, setting, reference, sd):
    found = aurocs(IsolationForestDetector(window=ALL), data_folder, name, setting)
    error = ((sd**2 + found.var(ddof=1)) / N_ROOTS) ** 0.5
    assert found.mean() == pytest.approx(reference, abs=3.29 * error)


@pytest.mark.parametrize(
    ("config", "name", "setting", "log", "reference"),
    [
        (EcodDetector(window=ALL), "test", "fit-all", False, 0.848),
        (EcodDetector(window=ALL), "smtp", "fit-all", False, 0.880),
        (MahalanobisDetector(), "test", "normal-only", False, 0.924),
        (MahalanobisDetector(), "test", "normal-only", True, 0.955),
        (MahalanobisDetector(), "test", "fit-all", False, 0.771),
        (MahalanobisDetector(), "test", "fit-all", True, 0.748),
        (ZScoreDetector(), "test", "normal-only", False, 0.898),
        (ZScoreDetector(), "test", "normal-only", True, 0.939),
        (ZScoreDetector(), "test", "fit-all", False, 0.823),
        (ZScoreDetector(), "test", "fit-all", True, 0.863),
    ],
)
def test_what_is_not_random_agrees_to_the_digits_given(
    data_folder, config, name, setting, log, reference
):
    found = aurocs(config, data_folder, name, setting, log=log)
    assert found.mean() == pytest.approx(reference, abs=0.0011)


@pytest.mark.parametrize(("name", "reference"), [("test", 0.838), ("smtp", 0.806)])
def test_hbos_is_close_to_pyod_in_spite_of_its_own_heights(data_folder, name, reference):
    found = aurocs(HbosDetector(), data_folder, name, "fit-all")
    assert found.mean() == pytest.approx(reference, abs=0.005)


@pytest.mark.parametrize(("name", "low", "high"), [("test", 0.814, 0.852), ("smtp", 0.735, 0.823)])
def test_half_space_trees_lie_where_rivers_do(data_folder, name, low, high):
    """River's figures are of three seeds; a mean of five lies in their range or near."""
    found = aurocs(HalfSpaceTreesDetector(), data_folder, name, "fit-all")
    error = 3.29 * found.std(ddof=1) / N_ROOTS**0.5
    assert low - error < found.mean() < high + error
