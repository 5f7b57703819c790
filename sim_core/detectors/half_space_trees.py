"""Streaming half-space trees.

Tan, Ting and Liu, "Fast anomaly detection for streaming data", IJCAI 2011. Trees are grown without
data: each draws a work range around the range of the warm-up (section 3.1) and halves it along random
features; what is learned is how many flows fall into each half-space. The masses of the last full
window score while those of the running one are counted. As in River's `HalfSpaceTrees`, a flow's mass
is the sum of mass times 2^depth over its path, not only at the end of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int64, njit
from numpy.typing import NDArray

from sim_core.config import HalfSpaceTreesDetector
from sim_core.detectors.base import (
    DetectorState,
    Stationary,
    empty_scores,
    flows_innermost,
    judging_rows,
    spread_rows,
)
from sim_core.randomness import Streams

_Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


class HalfSpaceTrees(Stationary):
    """log2((largest possible mass + 1) / (mass + 1)): 0 where all flows are, more where few are."""

    def __init__(self, config: HalfSpaceTreesDetector, streams: Streams) -> None:
        """Keep the settings; the trees are grown when the number of features is known."""
        self._config = config
        self._streams = streams
        self._trees: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    def init(
        self,
        n_nodes: int,
        warmup: NDArray[np.float32],
        *,
        first: int = 0,  # noqa: ARG002 - all nodes have the same trees
    ) -> DetectorState:
        """Return the masses of the last window of the warm-up.

        `low` and `span` of the warm-up `[n_nodes, n_features]`; masses of the windows that scores and
        that is counted, `reference` and `latest` `[n_nodes, trees, 2^(height + 1) - 1]`; number
        of their flows, `total` and `count` `[n_nodes]`.
        """
        config = self._config
        n_rows, n_warmup, n_features = warmup.shape
        low = warmup.min(axis=1)
        span = warmup.max(axis=1) - low
        shape = (n_rows, config.trees, 2 ** (config.height + 1) - 1)
        total = min(n_warmup, config.window)
        state = {
            "low": low,
            "span": np.where(span > 0, span, np.float32(1)),
            "reference": np.zeros(shape, dtype=np.int32),
            "latest": np.zeros(shape, dtype=np.int32),
            "total": np.full(n_rows, total, dtype=np.int64),
            "count": np.zeros(n_rows, dtype=np.int64),
        }
        last = flows_innermost(warmup[:, n_warmup - total :])
        everything = np.ones((n_rows, total), dtype=np.bool_)
        _learn(last, everything, *_parts(state), *self._grown(n_features), total)
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
        low, span, reference, _, total, _ = _parts(state)
        limit = self._config.size_limit
        trees = self._grown(flows.shape[1])
        _score(flows, judging_rows(rows), low, span, reference, total, *trees, limit, score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count the masked flows; a full window becomes the one that scores."""
        trees = self._grown(x.shape[2])
        _learn(flows_innermost(x), mask, *_parts(state), *trees, self._config.window)

    def _grown(self, n_features: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return feature and split `[trees, 2^height - 1]` of the half-spaces, grown once."""
        if n_features not in self._trees:
            n_trees, n_inner = self._config.trees, 2**self._config.height - 1
            uniform = self._streams.uniforms("detector", n_trees, n_features + n_inner)
            feature = np.empty((n_trees, n_inner), dtype=np.int64)
            split = np.empty((n_trees, n_inner), dtype=np.float32)
            _grow(uniform[:, :n_features].copy(), uniform[:, n_features:].copy(), feature, split)
            self._trees[n_features] = feature, split
        return self._trees[n_features]


def _parts(state: DetectorState) -> _Parts:
    return (
        state["low"],
        state["span"],
        state["reference"],
        state["latest"],
        state["total"],
        state["count"],
    )


@njit(cache=True, nogil=True)
def _grow(place: Any, choice: Any, feature: Any, split: Any) -> None:
    """Write feature and split of each half-space of trees in heap order.

    Args:
        place: Centre of each tree's work range, in ranges of the warm-up `[trees, n_features]`.
        choice: Uniform numbers that choose features `[trees, 2^height - 1]`.
        feature: Written `[trees, 2^height - 1]`.
        split: Written `[trees, 2^height - 1]`.
    """
    n_trees, n_features = place.shape
    for t in range(n_trees):
        for k in range(choice.shape[1]):
            d = int64(choice[t, k] * n_features)
            reach = 2 * max(place[t, d], 1 - place[t, d])
            low, high = place[t, d] - reach, place[t, d] + reach
            depth = 0
            while (k + 1) >> (depth + 1) > 0:
                depth += 1
            for level in range(depth):
                above = ((k + 1) >> (depth - level)) - 1
                if feature[t, above] == d:
                    if ((k + 1) >> (depth - level - 1)) & 1:
                        low = (low + high) / 2
                    else:
                        high = (low + high) / 2
            feature[t, k], split[t, k] = d, (low + high) / 2


@njit(cache=True, nogil=True)
def _score(
    x: Any, rows: Any, low: Any, span: Any, reference: Any, total: Any, feature: Any, split: Any,
    size_limit: float, score: Any,
) -> None:  # fmt: skip
    """Write the scores of x `[n, n_features, n_flows]`."""
    n, n_features, n_flows = x.shape
    n_trees, n_inner = feature.shape
    place = np.empty(n_features, np.float32)
    for j in range(n):
        i = rows[j] if rows.shape[0] else j
        limit = size_limit * total[i]
        largest = float64(total[i]) * n_trees * (2 * n_inner + 1)
        for b in range(n_flows):
            for d in range(n_features):
                place[d] = (x[j, d, b] - low[i, d]) / span[i, d]
            mass = 0
            for t in range(n_trees):
                k, weight = 0, 1
                while True:
                    mass += int64(reference[i, t, k]) * weight
                    if reference[i, t, k] < limit or k >= n_inner:
                        break
                    k = 2 * k + 1 + (place[feature[t, k]] > split[t, k])
                    weight *= 2
            score[j, b] = float32(np.log2((largest + 1) / (mass + 1)))


@njit(cache=True, nogil=True)
def _learn(
    x: Any, mask: Any, low: Any, span: Any, reference: Any, latest: Any, total: Any, count: Any,
    feature: Any, split: Any, window: int,
) -> None:  # fmt: skip
    """Count the masked flows of x `[n_nodes, n_features, n_flows]`, in their order."""
    n_nodes, n_features, n_flows = x.shape
    n_trees, n_inner = feature.shape
    place = np.empty(n_features, np.float32)
    for i in range(n_nodes):
        for b in range(n_flows):
            if not mask[i, b]:
                continue
            for d in range(n_features):
                place[d] = (x[i, d, b] - low[i, d]) / span[i, d]
            for t in range(n_trees):
                k = 0
                latest[i, t, 0] += 1
                while k < n_inner:
                    k = 2 * k + 1 + (place[feature[t, k]] > split[t, k])
                    latest[i, t, k] += 1
            count[i] += 1
            if count[i] >= window:
                reference[i, :, :] = latest[i]
                latest[i, :, :] = 0
                total[i], count[i] = count[i], 0
