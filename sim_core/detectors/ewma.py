"""Exponentially weighted moving average control chart of each feature, two-sided.

Roberts, "Control chart tests based on geometric moving averages", Technometrics 1 (1959). The
statistic starts at zero and is compared with its asymptotic limits, so that the score is in units of
its standard deviation and a fixed threshold is the L of the tables (Lucas and Saccucci 1990).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, njit
from numpy.typing import NDArray

from sim_core.config import EwmaDetector
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


class Ewma(Stationary):
    """Largest absolute statistic over the features, in units of its standard deviation.

    The order of a step's flows is their order in time, and a flow's score is the statistic after it.
    """

    def __init__(self, config: EwmaDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._config = config
        self._limit = float(np.sqrt(config.weight / (2 - config.weight)))

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
        """Return mean, variance and statistic at the start, `[n_nodes, n_features]` each."""
        moments = initial_moments(n_nodes, warmup, self._config.moments)
        return {**moments, "statistic": np.zeros_like(moments["mean"])}

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`: the statistic after each flow, from where the state is."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        mean, variance, statistic = state["mean"], state["variance"], state["statistic"]
        weight = self._config.weight
        _score(flows, judging_rows(rows), mean, variance, statistic, weight, self._limit, score)
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
        """Move the statistics over all flows of the step; where alarmed, they start anew."""
        mean, variance, statistic = state["mean"], state["variance"], state["statistic"]
        _advance(flows_innermost(x), up, alarmed, mean, variance, statistic, self._config.weight)


@njit(cache=True, nogil=True)
def _score(
    x: Any,
    rows: Any,
    mean: Any,
    variance: Any,
    statistic: Any,
    weight: float,
    sd: float,
    score: Any,
) -> None:
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        score[j, :] = float32(0)
        for d in range(n_features):
            center, scale = mean[i, d], weight / np.sqrt(variance[i, d])
            w = statistic[i, d]
            for b in range(n_flows):
                w = (1 - weight) * w + (float64(x[j, d, b]) - center) * scale
                score[j, b] = max(score[j, b], float32(min(abs(w) / sd, LARGEST_SCORE)))


@njit(cache=True, nogil=True)
def _advance(
    x: Any, up: Any, alarmed: Any, mean: Any, variance: Any, statistic: Any, weight: float
) -> None:
    """Move the statistics over x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        if not up[i]:
            continue
        for d in range(n_features):
            center, scale = mean[i, d], weight / np.sqrt(variance[i, d])
            w = statistic[i, d]
            for b in range(n_flows):
                w = (1 - weight) * w + (float64(x[i, d, b]) - center) * scale
            statistic[i, d] = 0.0 if alarmed[i] else w
