"""What every detector offers, and the moments that several of them learn."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DetectorState = dict[str, NDArray[Any]]
"""Arrays with a leading axis of nodes: whatever the detector learns."""

SMALLEST_VARIANCE = 1e-6
"""In squared standard deviations of benign traffic: keeps a constant feature from dividing by 0."""


class Detector(Protocol):
    """Scores and learns flows for all nodes at once, without randomness of its own."""

    def init(self, n_nodes: int, warmup: NDArray[np.float32]) -> DetectorState:
        """Return the state after benign flows `[n_nodes or 1, n_warmup, n_features]`."""

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`, >= 0, higher is stranger, of x `[n, n_flows, n_features]`.

        Row j of x is judged by node j, or by node `rows[j]`.
        """

    def learn(
        self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> DetectorState:
        """Return the state after the flows where `mask` `[n_nodes, n_flows]` is true."""


def first_moments(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance `[n, n_features]` of x `[n, n_flows, n_features]`."""
    exact = x.astype(np.float64)
    return exact.mean(axis=1), np.maximum(exact.var(axis=1), SMALLEST_VARIANCE)


def spread_rows(values: NDArray[Any], n_nodes: int) -> NDArray[Any]:
    """Return values `[n_nodes, ...]`, a single shared row repeated for each node."""
    return np.repeat(values, n_nodes, axis=0) if len(values) == 1 != n_nodes else values


def clip_to(
    x: NDArray[np.float32],
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    width: float,
) -> NDArray[np.float32]:
    """Return x clipped to `width` standard deviations around each node's mean."""
    low = (mean - width * sd).astype(np.float32)[:, None]
    high = (mean + width * sd).astype(np.float32)[:, None]
    return np.clip(x, low, high)


def masked_deviation(
    x: NDArray[np.float32], mean: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return what one step tells about the moments.

    Returns:
        Deviations from `mean` where masked, else 0, `[n, n_flows, n_features]`; number of masked
        flows, at least 1, `[n, 1]`; and mean deviation `[n, n_features]`.
    """
    deviation: NDArray[np.float32] = x - mean.astype(np.float32)[:, None]
    deviation *= mask[..., None]
    count = np.maximum(mask.sum(axis=1, keepdims=True), 1).astype(np.float64)
    return deviation, count, deviation.sum(axis=1, dtype=np.float64) / count
