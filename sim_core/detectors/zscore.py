"""Running z-scores: exponentially weighted mean and variance of each feature.

Finch, "Incremental calculation of weighted mean and variance" (2009), section 9, a step's flows
taken as one batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ZScoreDetector
from sim_core.detectors.base import (
    SMALLEST_VARIANCE,
    DetectorState,
    clip_to,
    first_moments,
    masked_deviation,
    spread_rows,
)

ROBUST_WIDTH = 3.0


class ZScore:
    """Mean of squared z, or largest absolute z, over the features."""

    def __init__(self, config: ZScoreDetector) -> None:
        """Keep the settings."""
        self._config = config

    def init(self, n_nodes: int, warmup: NDArray[np.float32]) -> DetectorState:
        """Return mean and variance of the warm-up, `[n_nodes, n_features]` each."""
        mean, variance = first_moments(warmup)
        return {
            "mean": spread_rows(mean, n_nodes),
            "variance": spread_rows(variance, n_nodes),
        }

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`."""
        mean, variance = state["mean"], state["variance"]
        if rows is not None:
            mean, variance = mean[rows], variance[rows]
        z = x - mean.astype(np.float32)[:, None]
        z *= (1 / np.sqrt(variance)).astype(np.float32)[:, None]
        if self._config.aggregate == "max":
            largest: NDArray[np.float32] = np.abs(z).max(axis=2)
            return largest
        scores: NDArray[np.float32] = np.einsum("nbd,nbd->nb", z, z) / np.float32(x.shape[2])
        return scores

    def learn(
        self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> DetectorState:
        """Return the moments moved towards those of the masked flows."""
        mean, variance = state["mean"], state["variance"]
        if self._config.robust:
            x = clip_to(x, mean, np.sqrt(variance), ROBUST_WIDTH)
        deviation, count, shift = masked_deviation(x, mean, mask)
        square = np.einsum("nbd,nbd->nd", deviation, deviation).astype(np.float64) / count
        rate = self._config.learning_rate * mask.any(axis=1, keepdims=True)
        moved = rate * shift
        return {
            "mean": mean + moved,
            "variance": np.maximum(
                (1 - rate) * variance + rate * square - moved**2, SMALLEST_VARIANCE
            ),
        }
