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

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
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


@njit(cache=True, nogil=True)
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
            out[b] = np.minimum(out[b] * share, limit)


@njit(cache=True, nogil=True)
def _learn(
    x: Any, mask: Any, mean: Any, covariance: Any, factor: Any, rate: float, ridge: float
) -> None:
    """Move the moments by the masked flows of x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    padded = (n_flows + LANES - 1) // LANES * LANES
    # The row of ones makes the sums of deviations one more row of products.
    deviation = np.zeros((n_features + 1, padded))
    deviation[n_features, :n_flows] = 1.0
    lanes, product = np.empty(LANES), np.empty((n_features + 1, n_features))
    for i in range(n_nodes):
        count = 0
        for b in range(n_flows):
            count += mask[i, b]
        if count == 0:
            continue
        for d in range(n_features):
            center = float32(mean[i, d])
            for b in range(n_flows):
                deviation[d, b] = float64((x[i, d, b] - center) * float32(mask[i, b]))
        for d in range(n_features + 1):
            left = deviation[d]
            for k in range(min(d + 1, n_features)):
                right = deviation[k]
                lanes[:] = 0.0
                for start in range(0, padded, LANES):
                    for lane in range(LANES):
                        lanes[lane] += left[start + lane] * right[start + lane]
                total = 0.0
                for lane in range(LANES):
                    total += lanes[lane]
                product[d, k] = total / count
        _move(product, mean[i], covariance[i], rate)
        _factorise(covariance[i], ridge, factor[i])


@njit(cache=True, nogil=True)
def _move(product: Any, mean: Any, covariance: Any, rate: float) -> None:
    """Move a node's moments; the last row of products is the mean deviation."""
    n_features = mean.shape[0]
    shift = product[n_features]
    for d in range(n_features):
        for k in range(d + 1):
            moved = (
                (1 - rate) * covariance[d, k]
                + rate * product[d, k]
                - rate * shift[d] * (rate * shift[k])
            )
            covariance[d, k] = moved
            covariance[k, d] = moved
    for d in range(n_features):
        mean[d] += rate * shift[d]


@njit(cache=True, nogil=True)
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
