"""Running z-scores over exponentially weighted moments (`sim_core.detectors.moments`).

With `aggregate=max`, known moments, learning off and a fixed threshold of L it is the chart of
Shewhart, "Economic control of quality of manufactured product" (1931), with limits at L sigma.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, njit
from numpy.typing import NDArray

from sim_core.config import ZScoreDetector
from sim_core.detectors.base import (
    LARGEST_SCORE,
    DetectorState,
    Stationary,
    empty_scores,
    flows_innermost,
    judging_rows,
)
from sim_core.detectors.moments import initial_moments, learn_moments
from sim_core.randomness import Streams

ROBUST_WIDTH = 3.0


class ZScore(Stationary):
    """Mean of squared z, largest absolute z, or upper tail of the largest z, over the features."""

    def __init__(self, config: ZScoreDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._config = config

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
        """Return mean and variance at the start, `[n_nodes, n_features]` each."""
        return initial_moments(n_nodes, warmup, self._config.moments)

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        judge = AGGREGATES[self._config.aggregate]
        judge(flows, judging_rows(rows), state["mean"], state["variance"], score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Move the moments towards those of the masked flows."""
        config = self._config
        width = ROBUST_WIDTH if config.robust else 0.0
        learn_moments(state, x, mask, config.learning_rate, width)


@njit(cache=True, nogil=True)
def _mean_square(x: Any, rows: Any, mean: Any, variance: Any, score: Any) -> None:
    """Write the mean of squared z over the features of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    limit, share = float32(LARGEST_SCORE), float32(1 / n_features)
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        out = score[j]
        out[:] = float32(0)
        for d in range(n_features):
            center, inverse = float32(mean[i, d]), float32(1 / np.sqrt(variance[i, d]))
            row = x[j, d]
            for b in range(n_flows):
                z = (row[b] - center) * inverse
                out[b] += z * z
        for b in range(n_flows):
            out[b] = np.minimum(out[b] * share, limit)


@njit(cache=True, nogil=True)
def _largest(x: Any, rows: Any, mean: Any, variance: Any, score: Any) -> None:
    """Write the largest absolute z over the features of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        out = score[j]
        out[:] = float32(0)
        for d in range(n_features):
            center, inverse = float32(mean[i, d]), float32(1 / np.sqrt(variance[i, d]))
            row = x[j, d]
            for b in range(n_flows):
                out[b] = np.maximum(out[b], np.abs((row[b] - center) * inverse))


@njit(cache=True, nogil=True)
def _upper_tail(x: Any, rows: Any, mean: Any, variance: Any, score: Any) -> None:
    """Write -log(1 - Phi(z)) of the largest z over the features of x `[n, n_features, n_flows]`.

    On either side of 0 by the tail that is small, so that no digits are lost.
    """
    n, n_features, n_flows = x.shape
    root = math.sqrt(0.5)
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        out = score[j]
        out[:] = float32(-LARGEST_SCORE)
        for d in range(n_features):
            center, inverse = float32(mean[i, d]), float32(1 / np.sqrt(variance[i, d]))
            row = x[j, d]
            for b in range(n_flows):
                out[b] = np.maximum(out[b], (row[b] - center) * inverse)
        for b in range(n_flows):
            z = np.float64(out[b])
            if z < 0:
                out[b] = -math.log1p(-0.5 * math.erfc(-z * root))
            else:
                tail = 0.5 * math.erfc(z * root)
                out[b] = min(-math.log(tail), LARGEST_SCORE) if tail > 0 else LARGEST_SCORE


AGGREGATES = {"mean_square": _mean_square, "max": _largest, "upper_tail": _upper_tail}
"""What `detector.aggregate` names."""
