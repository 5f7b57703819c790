"""Exponentially weighted mean and variance of each node and feature.

Finch, "Incremental calculation of weighted mean and variance" (2009), section 9, a step's flows
taken as one batch.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import float32, float64, njit
from numpy.typing import NDArray

from sim_core.detectors.base import DetectorState, flows_innermost, spread_rows

SMALLEST_VARIANCE = 1e-6
"""In squared standard deviations of benign traffic: keeps a constant feature from dividing by 0."""
LANES = 16
"""Partial sums that a sum over flows is made of, so that it vectorises in one fixed order."""


def initial_moments(
    n_nodes: int, warmup: NDArray[np.float32], known: Literal["warmup", "known"] = "warmup"
) -> DetectorState:
    """Return mean and variance `[n_nodes, n_features]` of warm-up flows, or 0 and 1 if `known`.

    >>> flows = np.array([[[1.0], [3.0]]], dtype=np.float32)
    >>> initial_moments(2, flows)
    {'mean': array([[2.],
           [2.]]), 'variance': array([[1.],
           [1.]])}
    """
    n_rows, _, n_features = warmup.shape
    if known == "known":
        shape = (n_nodes, n_features)
        return {"mean": np.zeros(shape), "variance": np.ones(shape)}
    mean, variance = np.empty((2, n_rows, n_features))
    _first_moments(flows_innermost(warmup), mean, variance)
    return {"mean": spread_rows(mean, n_nodes), "variance": spread_rows(variance, n_nodes)}


def learn_moments(
    state: DetectorState,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    rate: float,
    width: float = 0.0,
) -> None:
    """Move the moments by `rate` towards those of the masked flows, in place.

    Args:
        state: Holds `mean` and `variance`.
        x: Flows `[n_nodes, n_flows, n_features]`.
        mask: Which flows to learn `[n_nodes, n_flows]`; a node without any keeps its moments.
        rate: Weight of this step.
        width: Values are clipped to so many standard deviations; 0 does not clip.
    """
    flows, mean, variance = flows_innermost(x), state["mean"], state["variance"]
    if width > 0:
        clipped = np.empty_like(flows)
        _clip(flows, mean, variance, width, clipped)
        flows = clipped
    _learn(flows, mask, mean, variance, rate)


@njit(cache=True, nogil=True)
def _first_moments(x: Any, mean: Any, variance: Any) -> None:
    """Write the moments of x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        for d in range(n_features):
            total, square = 0.0, 0.0
            for b in range(n_flows):
                total += float64(x[i, d, b])
            center = total / n_flows
            for b in range(n_flows):
                square += (float64(x[i, d, b]) - center) ** 2
            mean[i, d] = center
            variance[i, d] = max(square / n_flows, SMALLEST_VARIANCE)


@njit(cache=True, nogil=True)
def _clip(x: Any, mean: Any, variance: Any, width: float, clipped: Any) -> None:
    """Write x `[n_nodes, n_features, n_flows]` clipped to `width` standard deviations."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        for d in range(n_features):
            reach = width * np.sqrt(variance[i, d])
            low, high = float32(mean[i, d] - reach), float32(mean[i, d] + reach)
            for b in range(n_flows):
                clipped[i, d, b] = np.minimum(np.maximum(x[i, d, b], low), high)


@njit(cache=True, nogil=True)
def _learn(x: Any, mask: Any, mean: Any, variance: Any, rate: float) -> None:
    """Move mean and variance by the masked flows of x `[n_nodes, n_features, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    whole = n_flows // LANES * LANES
    weight = np.empty(n_flows, np.float32)
    total, square = np.empty(LANES), np.empty(LANES)
    for i in range(n_nodes):
        count = 0
        for b in range(n_flows):
            weight[b] = float32(mask[i, b])
            count += mask[i, b]
        if count == 0:
            continue
        for d in range(n_features):
            center, row = float32(mean[i, d]), x[i, d]
            total[:] = 0.0
            square[:] = 0.0
            for start in range(0, n_flows - LANES + 1, LANES):
                for lane in range(LANES):
                    z = float64((row[start + lane] - center) * weight[start + lane])
                    total[lane] += z
                    square[lane] += z * z
            for lane in range(n_flows - whole):
                z = float64((row[whole + lane] - center) * weight[whole + lane])
                total[lane] += z
                square[lane] += z * z
            first, second = 0.0, 0.0
            for lane in range(LANES):
                first += total[lane]
                second += square[lane]
            moved = rate * (first / count)
            mean[i, d] += moved
            grown = (1 - rate) * variance[i, d] + rate * (second / count) - moved * moved
            variance[i, d] = max(grown, SMALLEST_VARIANCE)
