"""Tabular cumulative sum control chart of each feature, two-sided.

Page, "Continuous inspection schemes", Biometrika 41 (1954). Both sums start at zero; a fixed threshold
is the decision interval h of the tables, in standard deviations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, njit
from numpy.typing import NDArray

from sim_core.config import CusumDetector
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

_Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


class Cusum(Stationary):
    """Larger of the upper and the lower sum, largest over the features.

    The order of a step's flows is their order in time, and a flow's score is the statistic after it.
    """

    def __init__(self, config: CusumDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._config = config

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
        """Return mean, variance and both sums at the start, `[n_nodes, n_features]` each."""
        moments = initial_moments(n_nodes, warmup, self._config.moments)
        zeros = np.zeros_like(moments["mean"])
        return {**moments, "upper": zeros, "lower": zeros.copy()}

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`: the sums after each flow, from where the state is."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        mean, variance, upper, lower = _parts(state)
        slack = self._config.slack
        _score(flows, judging_rows(rows), mean, variance, upper, lower, slack, score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Move the moments towards those of the masked flows."""
        learn_moments(state, x, mask, self._config.learning_rate)

    def advance(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        up: NDArray[np.bool_],
        alarmed: NDArray[np.bool_],
    ) -> None:
        """Move the sums over all flows of the step; where alarmed, they start anew."""
        _advance(flows_innermost(x), up, alarmed, *_parts(state), self._config.slack)


def _parts(state: DetectorState) -> _Parts:
    return state["mean"], state["variance"], state["upper"], state["lower"]


@njit(cache=True, nogil=True)
def _score(
    x: Any, rows: Any, mean: Any, variance: Any, upper: Any, lower: Any, slack: float, score: Any
) -> None:
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        score[j, :] = float32(0)
        for d in range(n_features):
            center, inverse = mean[i, d], 1 / np.sqrt(variance[i, d])
            up, down = upper[i, d], lower[i, d]
            for b in range(n_flows):
                z = (float64(x[j, d, b]) - center) * inverse
                up, down = max(0.0, up + z - slack), max(0.0, down - z - slack)
                score[j, b] = max(score[j, b], float32(min(max(up, down), LARGEST_SCORE)))


@njit(cache=True, nogil=True)
def _advance(
    x: Any, up: Any, alarmed: Any, mean: Any, variance: Any, upper: Any, lower: Any, slack: float
) -> None:
    """Move the sums over x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        if not up[i]:
            continue
        for d in range(n_features):
            center, inverse = mean[i, d], 1 / np.sqrt(variance[i, d])
            above, below = upper[i, d], lower[i, d]
            for b in range(n_flows):
                z = (float64(x[i, d, b]) - center) * inverse
                above, below = max(0.0, above + z - slack), max(0.0, below - z - slack)
            upper[i, d] = 0.0 if alarmed[i] else above
            lower[i, d] = 0.0 if alarmed[i] else below
