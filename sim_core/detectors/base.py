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
    """Scores and learns flows for many nodes at once.

    State is passed in slices: any function may be called with the rows of some nodes only, and what
    becomes of a node must not depend on which others are there. State is changed in place, so that a
    step allocates nothing. What can be derived from the state (a fitted forest) may be kept by the
    detector, outside of it, as long as it is made again where it is missing.
    """

    def init(
        self, n_nodes: int, warmup: NDArray[np.float32], *, first: int = 0
    ) -> DetectorState:
        """Return the state of nodes from `first` on after benign flows.

        Args:
            n_nodes: Nodes in this slice.
            warmup: Their flows `[n_nodes, n_warmup, n_features]`, or `[1, ...]`, a pool for all.
            first: Number of the first node, for detectors that use random numbers.
        """

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`, >= 0, higher is stranger, of x `[n, n_flows, n_features]`.

        Row j of x is judged by row j of the state, or by row `rows[j]`. Changes nothing.
        """

    def learn(
        self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> None:
        """Learn the flows where `mask` `[n_nodes, n_flows]` is true."""

    def advance(
        self, state: DetectorState, x: NDArray[np.float32], alarmed: NDArray[np.bool_]
    ) -> None:
        """Move what follows every flow, learned or not: the statistics of control charts.

        `alarmed` `[n_nodes]`: the score of a flow of this step was above the node's threshold.
        """

    def forget(
        self,
        state: DetectorState,
        rows: NDArray[np.int64],
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        radius: float,
    ) -> None:
        """Drop kept flows within `radius` (root mean square) of confirmed signatures.

        Row `rows[k]` of the state has received signature k: `centroid`, `scale` `[n, n_features]`.
        """


class Stationary:
    """A detector without charts and windows: nothing to advance or to forget."""

    def advance(
        self, state: DetectorState, x: NDArray[np.float32], alarmed: NDArray[np.bool_]
    ) -> None:
        """Do nothing."""

    def forget(
        self,
        state: DetectorState,
        rows: NDArray[np.int64],
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        radius: float,
    ) -> None:
        """Do nothing."""


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
