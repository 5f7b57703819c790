"""Histogram-based outlier score, exponentially forgetting.

Goldstein and Dengel, "Histogram-based outlier score (HBOS)", KI 2012, poster and demo track, with
static bins, whose heights are divided by the largest; alpha and the tolerance at the ends of the range
are those of PyOD's `HBOS`. (PyOD takes densities, which makes alpha depend on a feature's unit.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, njit
from numpy.typing import NDArray

from sim_core.config import HbosDetector
from sim_core.detectors.base import (
    DetectorState,
    Stationary,
    empty_scores,
    flows_innermost,
    judging_rows,
    spread_rows,
)
from sim_core.randomness import Streams

_Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

ALPHA = 0.1
"""Added to heights, so that an empty bin has a logarithm."""
TOLERANCE = 0.5
"""Bin widths beyond the range of the warm-up that still belong to the outermost bin."""


class Hbos(Stationary):
    """Sum over the features of log2((1 + alpha) / (height + alpha)), 0 in the fullest bins.

    What lies beyond the range is learned in two bins of their own, which count at least as much
    as the emptiest bin inside.
    """

    def __init__(self, config: HbosDetector, _streams: Streams) -> None:
        """Keep the settings; nothing here is random."""
        self._config = config

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - nothing here is random
    ) -> DetectorState:
        """Return the histograms of the warm-up.

        `low` and `width` of the bins `[n_nodes, n_features]`; `share` of flows and `bits` of
        strangeness of each bin `[n_nodes, n_features, bins + 2]`, the last two below and above the range.
        """
        n_rows, n_flows, n_features = warmup.shape
        low, high = warmup.min(axis=1).astype(np.float64), warmup.max(axis=1).astype(np.float64)
        constant = low == high
        low, high = np.where(constant, low - 0.5, low), np.where(constant, high + 0.5, high)
        shape = (n_rows, n_features, self._config.bins + 2)
        state = {
            "low": low,
            "width": (high - low) / self._config.bins,
            "share": np.zeros(shape),
            "bits": np.zeros(shape, dtype=np.float32),
        }
        everything = np.ones((n_rows, n_flows), dtype=np.bool_)
        _learn(flows_innermost(warmup), everything, *_parts(state), 1.0)
        return {name: spread_rows(values, n_nodes) for name, values in state.items()}

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`."""
        flows = flows_innermost(x)
        score = empty_scores(flows)
        _score(flows, judging_rows(rows), state["low"], state["width"], state["bits"], score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Move the shares towards those of the masked flows."""
        _learn(flows_innermost(x), mask, *_parts(state), self._config.learning_rate)


def _parts(state: DetectorState) -> _Parts:
    return state["low"], state["width"], state["share"], state["bits"]


@njit(cache=True, nogil=True)
def _bin(value: Any, low: float, width: float, bins: int) -> int:
    """Return the bin of a value as NumPy's `histogram` has it; `bins` is below, `bins` + 1 above."""
    place = (float64(value) - low) / width
    if place < -TOLERANCE:
        return bins
    if place > bins + TOLERANCE:
        return bins + 1
    k = min(max(int(place), 0), bins - 1)
    if k > 0 and float64(value) < low + k * width:
        k -= 1
    elif k < bins - 1 and float64(value) >= low + (k + 1) * width:
        k += 1
    return k


@njit(cache=True, nogil=True)
def _score(x: Any, rows: Any, low: Any, width: Any, bits: Any, score: Any) -> None:
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    bins = bits.shape[2] - 2
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        score[j, :] = float32(0)
        for d in range(n_features):
            for b in range(n_flows):
                score[j, b] += bits[i, d, _bin(x[j, d, b], low[i, d], width[i, d], bins)]


@njit(cache=True, nogil=True)
def _learn(x: Any, mask: Any, low: Any, width: Any, share: Any, bits: Any, rate: float) -> None:
    """Move shares by the masked flows of x `[n_nodes, n_features, n_flows]`; write bits anew."""
    n_nodes, n_features, n_flows = x.shape
    bins = share.shape[2] - 2
    found = np.empty(bins + 2, np.int64)
    for i in range(n_nodes):
        count = 0
        for b in range(n_flows):
            count += mask[i, b]
        if count == 0:
            continue
        for d in range(n_features):
            found[:] = 0
            for b in range(n_flows):
                if mask[i, b]:
                    found[_bin(x[i, d, b], low[i, d], width[i, d], bins)] += 1
            for k in range(bins + 2):
                share[i, d, k] = (1 - rate) * share[i, d, k] + rate * (found[k] / count)
            emptiest, fullest = share[i, d, :bins].min(), share[i, d].max()
            for k in range(bins + 2):
                height = max(share[i, d, k], emptiest) / fullest
                bits[i, d, k] = np.log2((1 + ALPHA) / (height + ALPHA))
