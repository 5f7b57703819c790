"""Empirical cumulative distribution of each feature over a sliding window.

Li, Zhao, Hu, Botta, Ionescu and Chen, "ECOD: unsupervised outlier detection using empirical cumulative
distribution functions", IEEE TKDE 2022, as PyOD's `ECOD` computes it: per feature the largest of the
left tail, the right tail and the tail that the skewness picks, summed over the features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, njit
from numpy.typing import NDArray

from sim_core.config import EcodDetector
from sim_core.detectors.base import (
    DetectorState,
    Stationary,
    empty_scores,
    flows_innermost,
    judging_rows,
)
from sim_core.detectors.window import drop_flows, initial_window, keep_flows
from sim_core.randomness import Streams

REFRESH_SHARE = 8
"""The sorted window is made anew when one part in so many of it was learned since."""


class Ecod(Stationary):
    """Sum of negative log tail probabilities.

    A flow counts itself, like in PyOD where it is added to the training set: a tail probability is
    (flows in the window at least as far out + 1) / (flows in the window + 1).
    """

    def __init__(self, config: EcodDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._size = config.window
        self._log = np.log(np.maximum(np.arange(config.window + 2), 1.0))
        self._refresh = max(config.window // REFRESH_SHARE, 1)

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
        """Return the window of the last warm-up flows, and what is scored with.

        `ordered` `[n_nodes, n_features, window]`, of which `fitted` `[n_nodes]` are taken; whether a
        feature is without skewness, `even` `[n_nodes, n_features]`; flows learned since, `pending`.
        """
        n_features = warmup.shape[2]
        state = initial_window(n_nodes, warmup, self._size)
        state["ordered"] = np.zeros((n_nodes, n_features, self._size), dtype=np.float32)
        state["even"] = np.zeros((n_nodes, n_features), dtype=np.bool_)
        state["fitted"] = np.zeros(n_nodes, dtype=np.int64)
        state["pending"] = np.zeros(n_nodes, dtype=np.int64)
        _refresh(state, np.arange(n_nodes))
        return state

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        ordered, even, fitted = state["ordered"], state["even"], state["fitted"]
        _score(flows, judging_rows(rows), ordered, even, fitted, self._log, score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Keep the masked flows; nodes that have learned an eighth of their window sort it anew."""
        keep_flows(state, flows_innermost(x), mask)
        state["pending"] += mask.sum(axis=1)
        _refresh(state, np.flatnonzero(state["pending"] >= self._refresh))

    def forget(
        self,
        state: DetectorState,
        rows: NDArray[np.int64],
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        radius: float,
    ) -> None:
        """Drop kept flows within `radius` of confirmed signatures, and sort what is left."""
        lost = drop_flows(state, rows, centroid, scale, radius)
        _refresh(state, np.unique(rows[lost]))


def _refresh(state: DetectorState, nodes: NDArray[np.int64]) -> None:
    """Sort the windows of these nodes."""
    if not nodes.size:
        return
    filled = state["filled"][nodes]
    # Adding zero makes -0.0 and 0.0 one value, so that sorting has one result.
    flows = state["window"][nodes].transpose(0, 2, 1) + np.float32(0)
    for k in np.flatnonzero(filled < flows.shape[2]):
        flows[k, :, filled[k] :] = np.inf
    state["ordered"][nodes] = np.sort(flows, axis=2)
    state["fitted"][nodes], state["pending"][nodes] = filled, 0
    _find_even(nodes, state["ordered"], state["fitted"], state["even"])


@njit(cache=True, nogil=True)
def _find_even(nodes: Any, ordered: Any, fitted: Any, even: Any) -> None:
    """Write which features of these nodes have no skewness."""
    for i in nodes:
        n = fitted[i]
        for d in range(ordered.shape[1]):
            values = ordered[i, d, :n]
            even[i, d] = n == 0 or values[0] == values[n - 1] or _third_moment(values) == 0


@njit(cache=True, nogil=True)
def _third_moment(values: Any) -> float:
    total, cubes = 0.0, 0.0
    for value in values:
        total += value
    center = total / values.shape[0]
    for value in values:
        cubes += (value - center) ** 3
    return cubes


@njit(cache=True, nogil=True)
def _score(x: Any, rows: Any, ordered: Any, even: Any, fitted: Any, log: Any, score: Any) -> None:
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        size = fitted[i]
        score[j, :] = float32(0)
        for d in range(n_features):
            values = ordered[i, d]
            for b in range(n_flows):
                value = x[j, d, b]
                below = _count(values, size, value)
                upto = below
                if below < size and values[below] == value:
                    upto = _count_upto(values, size, value, below)
                left, right = log[size + 1] - log[upto + 1], log[size + 1] - log[size - below + 1]
                tail = left + right if even[i, d] else max(left, right)
                score[j, b] += float32(tail)


@njit(cache=True, nogil=True)
def _count(values: Any, size: int, value: Any) -> int:
    """Return how many of the first `size` sorted values are smaller than `value`."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _count_upto(values: Any, size: int, value: Any, start: int) -> int:
    """Return how many of the first `size` sorted values are not larger than `value`."""
    low, high = start, size
    while low < high:
        middle = (low + high) >> 1
        if values[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low
