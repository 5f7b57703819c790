"""The scoring of the Numenta benchmark reproduces what its authors published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim_core.nab_scoring import best_threshold, file_score, normalised, probation, row_worth

Files = dict[str, tuple[Any, list[tuple[int, int]]]]


@pytest.fixture(scope="module")
def published(data_folder: Path) -> Files:
    """Return the published anomaly scores of windowedGaussian, and the windows, per file."""
    folder = data_folder / "nab"
    labelled = json.loads((folder / "labels" / "combined_windows.json").read_text("utf-8"))
    found: Files = {}
    for key, windows in labelled.items():
        category, name = key.split("/")
        raw = pd.read_csv(
            folder / "published_raw" / "windowedGaussian" / category / f"windowedGaussian_{name}"
        )
        times = pd.to_datetime(raw["timestamp"])
        rows = [np.flatnonzero(times.between(a, b)) for a, b in windows]
        found[key] = (raw["anomaly_score"].to_numpy(), [(r[0], r[-1]) for r in rows])
    return found


@pytest.fixture(scope="module")
def table(data_folder: Path) -> pd.DataFrame:
    """Return threshold and score that were published for each file."""
    path = data_folder / "nab" / "published_scores" / "windowedGaussian_standard_scores.csv"
    return pd.read_csv(path).set_index("File")


def test_published_scores_of_windowed_gaussian_are_reproduced(
    published: Files, table: pd.DataFrame
) -> None:
    assert len(published) == 5
    thresholds = table["Threshold"].astype(float)
    for key, (scores, windows) in published.items():
        found = file_score(scores, windows, thresholds[key])
        assert found == pytest.approx(table.loc[key, "Score"], abs=5e-6), key


def test_best_threshold_is_the_best_of_all_that_can_be_told_apart(published: Files) -> None:
    files = [(np.floor(scores * 200) / 200, windows) for scores, windows in published.values()]
    threshold, total = best_threshold(files)
    candidates = np.unique(np.concatenate([scores for scores, _ in files]))
    sums = [sum(file_score(s, w, t) for s, w in files) for t in candidates]
    assert total == pytest.approx(max(sums))
    assert threshold == max(c for c, s in zip(candidates, sums, strict=True) if s == max(sums))


def test_null_detector_has_0_and_perfect_one_100(published: Files) -> None:
    n_windows = sum(len(windows) for _, windows in published.values())
    silent, perfect = [], []
    for scores, windows in published.values():
        silent.append((np.zeros(len(scores)), windows))
        at_once = np.zeros(len(scores))
        at_once[[first for first, _ in windows]] = 1
        perfect.append((at_once, windows))
    null = sum(file_score(scores, windows, 0.5) for scores, windows in silent)
    assert normalised(null, n_windows) == 0
    threshold, total = best_threshold(perfect)
    assert threshold == 1
    assert normalised(total, n_windows) == pytest.approx(100)


def test_probationary_rows_and_further_detections_in_a_window_change_nothing() -> None:
    windows = [(40, 59)]
    scores = np.zeros(100)
    scores[45] = 1
    once = file_score(scores, windows, 0.5)
    scores[46:60] = 1
    scores[: probation(100)] = 1
    assert file_score(scores, windows, 0.5) == once
    scores[39] = 1
    assert file_score(scores, windows, 0.5) == pytest.approx(once - 0.11)


def test_false_alarms_cost_more_the_longer_a_window_is_past() -> None:
    worth, window = row_worth(200, [(40, 59)])
    after = worth[60:]
    assert (window[60:] == -1).all()
    assert (np.diff(after) <= 0).all()
    assert -0.11 < after[0] < 0
    assert after[-1] == -0.11


def test_without_a_useful_threshold_silence_is_best() -> None:
    scores = np.zeros(100)
    assert best_threshold([(scores, [(98, 99)])]) == (np.inf, -1.0)
