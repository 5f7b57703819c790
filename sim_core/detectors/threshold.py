"""When a score is an alarm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.config import Threshold


def upper_quantile(score: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return, per node, the smallest score that at most `share` of the node's scores exceed.

    >>> upper_quantile(np.array([[1, 2, 3, 4]], dtype=np.float32), 0.25)
    array([3.], dtype=float32)
    """
    n_flows = score.shape[1]
    above = int(np.floor(share * n_flows + 1e-9))
    rank = max(n_flows - 1 - above, 0)
    quantile: NDArray[np.float32] = np.partition(score, rank, axis=1)[:, rank]
    return quantile


def initial_thresholds(
    config: Threshold, warmup_score: NDArray[np.float32], n_nodes: int
) -> NDArray[np.float32]:
    """Return each node's threshold `[n_nodes]` after warm-up `[n_nodes or 1, n_warmup]`."""
    if config.mode == "calibrated":
        return np.broadcast_to(upper_quantile(warmup_score, config.share), n_nodes).copy()
    return np.full(n_nodes, config.value, dtype=np.float32)


def thresholds_of_step(
    config: Threshold, kept: NDArray[np.float32], score: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the thresholds `[n_nodes]` that hold in a step with these scores."""
    return upper_quantile(score, config.share) if config.mode == "quantile" else kept
