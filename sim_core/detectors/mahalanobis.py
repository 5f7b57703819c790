"""Mahalanobis distance on an exponentially weighted correlation matrix.

Mahalanobis, "On the generalised distance in statistics" (1936); the correlation matrix gets a
ridge on its diagonal. Factorisation and substitution go over the features and are vectorised over
nodes, so that a node's bits do not depend on how many nodes there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import MahalanobisDetector
from sim_core.detectors.base import (
    SMALLEST_VARIANCE,
    DetectorState,
    masked_deviation,
    spread_rows,
)


class Mahalanobis:
    """Squared Mahalanobis distance divided by the number of features."""

    def __init__(self, config: MahalanobisDetector) -> None:
        """Keep the settings."""
        self._config = config

    def init(self, n_nodes: int, warmup: NDArray[np.float32]) -> DetectorState:
        """Return mean `[n_nodes, D]`, covariance and factor `[n_nodes, D, D]` of the warm-up."""
        exact = warmup.astype(np.float64)
        mean: NDArray[np.float64] = exact.mean(axis=1)
        deviation: NDArray[np.float64] = exact - mean[:, None, :]
        covariance = np.einsum("nbi,nbj->nij", deviation, deviation) / warmup.shape[1]
        start = {
            "mean": mean,
            "covariance": covariance,
            "factor": self._factor(covariance),
        }
        return {name: spread_rows(values, n_nodes) for name, values in start.items()}

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`: y with L y = z by forward substitution, mean of y squared."""
        take = slice(None) if rows is None else rows
        mean, covariance, factor = (state[k][take] for k in ("mean", "covariance", "factor"))
        z = x - mean.astype(np.float32)[:, None]
        z *= (1 / _sd(covariance)).astype(np.float32)[:, None]
        lower = factor.astype(np.float32)
        for j in range(x.shape[2]):
            if j:
                z[:, :, j] -= np.einsum("nbk,nk->nb", z[:, :, :j], lower[:, j, :j])
            z[:, :, j] /= lower[:, j, j, None]
        scores: NDArray[np.float32] = np.einsum("nbd,nbd->nb", z, z) / np.float32(x.shape[2])
        return scores

    def learn(
        self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> DetectorState:
        """Return the moments moved towards those of the masked flows, factorised anew."""
        mean, covariance = state["mean"], state["covariance"]
        deviation, count, shift = masked_deviation(x, mean, mask)
        products = np.einsum("nbi,nbj->nij", deviation, deviation).astype(np.float64)
        learned = (mask.sum(axis=1) > 0).astype(np.float64)
        rate: NDArray[np.float64] = self._config.learning_rate * learned[:, None, None]
        moved = rate[:, :, 0] * shift
        covariance = (
            (1 - rate) * covariance
            + rate * products / count[..., None]
            - moved[:, :, None] * moved[:, None, :]
        )
        return {
            "mean": mean + moved,
            "covariance": covariance,
            "factor": self._factor(covariance),
        }

    def _factor(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the lower Cholesky factor of correlation + ridge."""
        sd = _sd(covariance)
        matrix = covariance / (sd[:, :, None] * sd[:, None, :])
        n_features = matrix.shape[1]
        diagonal = np.arange(n_features)
        matrix[:, diagonal, diagonal] = 1.0 + self._config.ridge
        factor = np.zeros_like(matrix)
        for j in range(n_features):
            row = factor[:, j, :j]
            pivot = matrix[:, j, j] - np.einsum("nk,nk->n", row, row)
            factor[:, j, j] = np.sqrt(np.maximum(pivot, self._config.ridge))
            if j + 1 < n_features:
                below = matrix[:, j + 1 :, j] - np.einsum("nik,nk->ni", factor[:, j + 1 :, :j], row)
                factor[:, j + 1 :, j] = below / factor[:, j, j, None]
        return factor


def _sd(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    variance = np.einsum("nii->ni", covariance)
    sd: NDArray[np.float64] = np.sqrt(np.maximum(variance, SMALLEST_VARIANCE))
    return sd
