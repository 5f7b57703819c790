"""Mahalanobis distance on an exponentially weighted correlation matrix.

Mahalanobis, "On the generalised distance in statistics" (1936); the correlation matrix gets a
ridge on its diagonal. Factorisation and substitution go over the features of one node at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, njit
from numpy.typing import NDArray

from sim_core.config import MahalanobisDetector
from sim_core.detectors.base import (
    LARGEST_SCORE,
    DetectorState,
    Stationary,
    empty_scores,
    flows_innermost,
    judging_rows,
    spread_rows,
)
from sim_core.detectors.moments import LANES, SMALLEST_VARIANCE
from sim_core.randomness import Streams


class Mahalanobis(Stationary):
    """Squared Mahalanobis distance divided by the number of features."""

    def __init__(self, config: MahalanobisDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._config = config

    def init(self, n_nodes: int, warmup: NDArray[np.float32], *, first: int = 0) -> DetectorState:
        """Return mean `[n_nodes, D]`, covariance and factor `[n_nodes, D, D]` of the warm-up."""
        n_rows, n_flows, n_features = warmup.shape
        state = {
            "mean": np.zeros((n_rows, n_features)),
            "covariance": np.zeros((n_rows, n_features, n_features)),
            "factor": np.zeros((n_rows, n_features, n_features)),
        }
        everything = np.ones((n_rows, n_flows), dtype=np.bool_)
        # Twice: deviations from the mean, once it is known, lose no digits.
        for _ in range(2):
            self._move(state, warmup, everything, rate=1.0)
        return {name: spread_rows(values, n_nodes) for name, values in state.items()}

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`: y with L y = z by forward substitution, mean of y squared."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        mean, covariance, factor = state["mean"], state["covariance"], state["factor"]
        _score(flows, judging_rows(rows), mean, covariance, factor, score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Move the moments towards those of the masked flows, and factorise anew."""
        self._move(state, x, mask, rate=self._config.learning_rate)

    def _move(
        self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_], *, rate: float
    ) -> None:
        flows = flows_innermost(x)
        mean, covariance, factor = state["mean"], state["covariance"], state["factor"]
        _learn(flows, mask, mean, covariance, factor, rate, self._config.ridge)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba has no types
def _score(x: Any, rows: Any, mean: Any, covariance: Any, factor: Any, score: Any) -> None:
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    limit, share = float32(LARGEST_SCORE), float32(1 / n_features)
    solved = np.empty((n_features, n_flows), np.float32)
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        out = score[j]
        out[:] = float32(0)
        for d in range(n_features):
            center, row, y = float32(mean[i, d]), x[j, d], solved[d]
            inverse = float32(1 / np.sqrt(max(covariance[i, d, d], SMALLEST_VARIANCE)))
            for b in range(n_flows):
                y[b] = (row[b] - center) * inverse
            for k in range(d):
                weight, other = float32(factor[i, d, k]), solved[k]
                for b in range(n_flows):
                    y[b] -= weight * other[b]
            pivot = float32(1 / factor[i, d, d])
            for b in range(n_flows):
                y[b] *= pivot
                out[b] += y[b] * y[b]
        for b in range(n_flows):
            scaled = out[b] * share
            out[b] = scaled if scaled < limit else limit


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _learn(
    x: Any, mask: Any, mean: Any, covariance: Any, factor: Any, rate: float, ridge: float
) -> None:
    """Move the moments by the masked flows of x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    padded = (n_flows + LANES - 1) // LANES * LANES
    deviation = np.zeros((n_features, padded), np.float32)
    ones = np.ones(padded, np.float32)
    lanes, moved = np.empty(LANES), np.empty(n_features)
    for i in range(n_nodes):
        count = 0
        for b in range(n_flows):
            count += mask[i, b]
        if count == 0:
            continue
        for d in range(n_features):
            center, row, target = float32(mean[i, d]), x[i, d], deviation[d]
            for b in range(n_flows):
                target[b] = row[b] - center if mask[i, b] else float32(0)
            moved[d] = rate * (_product(target, ones, lanes) / count)
        for d in range(n_features):
            for k in range(d + 1):
                product = _product(deviation[d], deviation[k], lanes) / count
                covariance[i, d, k] = (
                    (1 - rate) * covariance[i, d, k] + rate * product - moved[d] * moved[k]
                )
                covariance[i, k, d] = covariance[i, d, k]
        for d in range(n_features):
            mean[i, d] += moved[d]
        _factorise(covariance[i], ridge, factor[i])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _product(left: Any, right: Any, lanes: Any) -> float:
    """Return the inner product of two rows whose length is a multiple of LANES."""
    lanes[:] = 0.0
    for start in range(0, left.shape[0], LANES):
        for lane in range(LANES):
            lanes[lane] += float64(left[start + lane]) * float64(right[start + lane])
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _factorise(covariance: Any, ridge: float, factor: Any) -> None:
    """Write the lower Cholesky factor of correlation + ridge, `[n_features, n_features]`."""
    n_features = covariance.shape[0]
    inverse = np.empty(n_features)
    for d in range(n_features):
        inverse[d] = 1 / np.sqrt(max(covariance[d, d], SMALLEST_VARIANCE))
    for j in range(n_features):
        for i in range(j, n_features):
            entry = 1.0 + ridge if i == j else covariance[i, j] * inverse[i] * inverse[j]
            for k in range(j):
                entry -= factor[i, k] * factor[j, k]
            factor[i, j] = np.sqrt(max(entry, ridge)) if i == j else entry / factor[j, j]
