"""The last flows that each node learned, for detectors that are fitted to a window.

A node's rows are a ring: `window` `[n_nodes, size, n_features]`, of which `filled` are taken, and
`following`, the row that is written next. A ring that is not full is in order of time from row 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, njit
from numpy.typing import NDArray

from sim_core.detectors.base import DetectorState


def initial_window(n_nodes: int, warmup: NDArray[np.float32], size: int) -> DetectorState:
    """Return the ring with the last flows of the warm-up `[n_nodes or 1, n_warmup, n_features]`.

    >>> flows = np.arange(6, dtype=np.float32).reshape(1, 6, 1)
    >>> initial_window(1, flows, 4)["window"].ravel().tolist()
    [2.0, 3.0, 4.0, 5.0]
    """
    _, n_warmup, n_features = warmup.shape
    filled = min(n_warmup, size)
    window = np.zeros((n_nodes, size, n_features), dtype=np.float32)
    window[:, :filled] = warmup[:, n_warmup - filled :]
    return {
        "window": window,
        "filled": np.full(n_nodes, filled, dtype=np.int64),
        "following": np.full(n_nodes, filled % size, dtype=np.int64),
    }


def keep_flows(state: DetectorState, flows: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    """Write the masked flows of `[n_nodes, n_features, n_flows]` into the rings."""
    _keep(flows, mask, state["window"], state["filled"], state["following"])


def drop_flows(
    state: DetectorState,
    rows: NDArray[np.int64],
    centroid: NDArray[np.float32],
    scale: NDArray[np.float32],
    radius: float,
) -> NDArray[np.bool_]:
    """Return which of `rows` lost flows: those within `radius` of their signature are dropped."""
    lost = np.zeros(len(rows), dtype=np.bool_)
    ring = state["window"], state["filled"], state["following"]
    _drop(np.ascontiguousarray(rows, dtype=np.int64), centroid, scale, radius, *ring, lost)
    return lost


@njit(cache=True, nogil=True)
def _keep(x: Any, mask: Any, window: Any, filled: Any, following: Any) -> None:
    n_nodes, n_features, n_flows = x.shape
    size = window.shape[1]
    for i in range(n_nodes):
        for b in range(n_flows):
            if mask[i, b]:
                for d in range(n_features):
                    window[i, following[i], d] = x[i, d, b]
                following[i] = (following[i] + 1) % size
                filled[i] = min(filled[i] + 1, size)


@njit(cache=True, nogil=True)
def _drop(
    rows: Any, centroid: Any, scale: Any, radius: float, window: Any, filled: Any, following: Any,
    lost: Any,
) -> None:  # fmt: skip
    size, n_features = window.shape[1], window.shape[2]
    limit = float32(radius * radius * n_features)
    kept = np.empty((size, n_features), np.float32)
    for k in range(rows.shape[0]):
        i = rows[k]
        oldest = following[i] if filled[i] == size else 0
        count = 0
        for age in range(filled[i]):
            row = window[i, (oldest + age) % size]
            distance = float32(0)
            for d in range(n_features):
                z = (row[d] - centroid[k, d]) * (float32(1) / scale[k, d])
                distance += z * z
            if distance > limit:
                kept[count] = row
                count += 1
        if count < filled[i]:
            lost[k] = True
            window[i, :count] = kept[:count]
            filled[i], following[i] = count, count % size
