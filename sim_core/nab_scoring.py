"""The score of the Numenta Anomaly Benchmark (Lavin and Ahmad, ICMLA 2015), standard profile.

A detection is a row whose anomaly score reaches the threshold. In an anomaly window only the best one
counts, and the earlier it is the more it is worth, up to 1; a window without any costs 1. A detection
outside costs up to 0.11, less the sooner after a window it comes. Rows of the probationary period do
not count. The benchmark chooses one threshold per detector, the one with the largest sum over all of
its files; `best_threshold` does so over the files that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FALSE_POSITIVE = 0.11
"""Cost of a detection outside of all windows (standard profile)."""
PROBATION_SHARE = 0.15
LONGEST_PROBATION = 750
FARTHEST = 3.0
"""Lengths of a window after which a detection is worth no more than one far from any."""

Window = tuple[int, int]
"""First and last row of an anomaly window, counted from 0."""
Floats = NDArray[np.float64]


def sigmoid(position: Floats) -> Floats:
    """Return the worth of a detection at a position relative to a window's end, in its lengths.

    >>> sigmoid(np.array([-1.0, 0.0, 4.0])).round(4).tolist()
    [0.9866, 0.0, -1.0]
    """
    near = 2 / (1 + np.exp(5 * np.minimum(position, FARTHEST))) - 1
    return np.where(position > FARTHEST, -1.0, near)


def probation(n_rows: int) -> int:
    """Return how many first rows do not count.

    >>> probation(4_032), probation(10_000)
    (604, 750)
    """
    return min(int(PROBATION_SHARE * n_rows), LONGEST_PROBATION)


def row_worth(n_rows: int, windows: Sequence[Window]) -> tuple[Floats, NDArray[np.int64]]:
    """Return what a detection at each row is worth, and the number of its window, -1 for none.

    Args:
        n_rows: Rows of the file.
        windows: In order of time, without overlap, of two rows or more.

    >>> worth, window = row_worth(20, [(10, 14)])
    >>> worth[[3, 10, 15]].round(3).tolist(), window[10:16].tolist()
    ([-0.11, 1.0, -0.061], [0, 0, 0, 0, 0, -1])
    """
    row = np.arange(n_rows)
    worth = np.full(n_rows, -FALSE_POSITIVE)
    window = np.full(n_rows, -1, dtype=np.int64)
    for number, (first, last) in enumerate(windows):
        length = last - first + 1
        after = row > last
        worth[after] = FALSE_POSITIVE * sigmoid((row[after] - last) / (length - 1))
        inside = (row >= first) & (row <= last)
        window[inside] = number
        position = -(last - row[inside] + 1) / length
        worth[inside] = sigmoid(position) / sigmoid(np.array(-1.0))
    return worth, window


def detections_score(detected: NDArray[np.bool_], windows: Sequence[Window]) -> float:
    """Return the score of one file from its detections, a row each in order of time.

    >>> alarms = np.zeros(20, dtype=bool)
    >>> detections_score(alarms, [(10, 14)])
    -1.0
    >>> alarms[10] = True
    >>> detections_score(alarms, [(10, 14)])
    1.0
    """
    n_rows = len(detected)
    worth, window = row_worth(n_rows, windows)
    counted = detected & (np.arange(n_rows) >= probation(n_rows))
    outside = float(worth[counted & (window < 0)].sum())
    best = [worth[counted & (window == k)].max(initial=-1.0) for k in range(len(windows))]
    return outside + float(sum(best))


def file_score(scores: Floats, windows: Sequence[Window], threshold: float) -> float:
    """Return the score of one file from its anomaly scores, a row each in order of time.

    >>> file_score(np.arange(20.0), [(10, 14)], threshold=100.0)
    -1.0
    """
    return detections_score(scores >= threshold, windows)


def best_threshold(files: Sequence[tuple[Floats, Sequence[Window]]]) -> tuple[float, float]:
    """Return the threshold with the largest sum of scores over files, and that sum.

    Args:
        files: Anomaly scores and windows of each. The highest of equally good thresholds is taken;
            infinity if detecting nothing is best.

    >>> best_threshold([(np.where(np.arange(20) == 10, 2.0, 0.0), [(10, 14)])])
    (2.0, 1.0)
    """
    scores, worths, numbers, n_windows = [], [], [], 0
    for score, windows in files:
        start = probation(len(score))
        worth, window = row_worth(len(score), windows)
        scores.append(score[start:])
        worths.append(worth[start:])
        numbers.append(np.where(window >= 0, window + n_windows, -1)[start:])
        n_windows += len(windows)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    score, worth, number = (np.concatenate(part)[order] for part in (scores, worths, numbers))
    total = np.cumsum(np.where(number < 0, worth, 0.0))
    for k in range(n_windows):
        total += np.maximum.accumulate(np.where(number == k, worth, -1.0))
    reached = np.append(score[1:] != score[:-1], True)  # all rows of a tie are detected together
    total, threshold = total[reached], score[reached]
    best = int(total.argmax())
    if total[best] <= -n_windows:
        return np.inf, float(-n_windows)
    return float(threshold[best]), float(total[best])


def normalised(raw: float, n_windows: int) -> float:
    """Return a sum of scores in percent: 0 if nothing is detected, 100 if each window is at once.

    >>> normalised(-5.0, 5), normalised(5.0, 5)
    (0.0, 100.0)
    """
    null, perfect = -float(n_windows), float(n_windows)
    return 100 * (raw - null) / (perfect - null)
