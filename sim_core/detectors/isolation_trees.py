"""Isolation trees in compiled form: how they are grown, and how deep a flow falls.

Liu, Ting and Zhou, "Isolation forest", ICDM 2008, and "Isolation-based anomaly detection", ACM TKDD 6
(2012). As in scikit-learn, a split takes one of the features that are not constant at its node.

A tree is complete and in heap order: `split` and `feature` `[2^height - 1]` of inner nodes, `length`
`[2^height]` at the bottom. Where a branch ends early, splits of infinity lead to the leftmost bottom
node below, so that every flow takes `height` steps without asking whether it has arrived.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, int16, int64, njit, uint32, uint64

from sim_core.philox import philox4x32

EULER = 0.5772156649015329
NEUTRAL_SCORE = 0.5
"""Of flows at a node whose window is too small to grow a tree from."""


@njit(cache=True, nogil=True)
def average_path(size: int) -> float:
    """Return c(n), the mean path length of an unsuccessful search among n flows (equation 1).

    >>> round(average_path(256), 4)
    10.2448
    """
    if size <= 1:
        return 0.0
    if size == 2:
        return 1.0
    return float(2 * (np.log(size - 1.0) + EULER) - 2 * (size - 1.0) / size)


@njit(cache=True, nogil=True)
def tree_height(size: int) -> int:
    """Return ceil(log2 n), at which trees of n flows end.

    >>> tree_height(256), tree_height(257), tree_height(2)
    (8, 9, 1)
    """
    height = 1
    while (1 << height) < size:
        height += 1
    return height


@njit(cache=True, nogil=True)
def grow_forest(
    flows: Any, samples: int, node: int, refit: int, k0: Any, k1: Any, feature: Any, split: Any,
    length: Any,
) -> None:  # fmt: skip
    """Write a forest grown from random samples of `flows` `[n, n_features]`, at least two.

    Args:
        flows: What to sample from, without replacement.
        samples: Flows per tree, if there are as many.
        node: Absolute number of the node, for the random counters.
        refit: How many refits there were, likewise.
        k0: Key of the random numbers.
        k1: Key of the random numbers.
        feature: Written `[trees, at least 2^height - 1]`.
        split: Written, likewise.
        length: Written: path lengths `[trees, at least 2^height]`.
    """
    n, n_features = flows.shape
    size = min(n, samples)
    height = tree_height(size)
    inner = (1 << height) - 1
    words = np.empty((size + 3 * inner + 3) // 4 * 4, np.uint32)
    order, chosen = np.arange(n), np.empty(size, np.int64)
    values = np.empty((n_features, size), np.float32)
    edge = np.zeros((2, 2 * inner + 1), np.int64)
    for t in range(feature.shape[0]):
        for q in range(words.shape[0] // 4):
            w0, w1, w2, w3 = philox4x32(uint32(q), uint32(t), uint32(node), uint32(refit), k0, k1)
            words[4 * q], words[4 * q + 1], words[4 * q + 2], words[4 * q + 3] = w0, w1, w2, w3
        for s in range(size):
            other = s + _below(words[s], n - s)
            order[s], order[other] = order[other], order[s]
        for d in range(n_features):
            for s in range(size):
                values[d, s] = flows[order[s], d]
        for s in range(size):
            chosen[s] = s
        _grow(values, chosen, words[size:], height, edge, feature[t], split[t], length[t])
        # The next tree must not depend on how this one sampled.
        for s in range(n):
            order[s] = s


@njit(cache=True, nogil=True)
def _below(word: Any, bound: int) -> Any:
    """Return a whole number below `bound` from 32 random bits."""
    return int64((uint64(word) * uint64(bound)) >> uint64(32))


@njit(cache=True, nogil=True)
def _grow(
    values: Any, order: Any, words: Any, height: int, edge: Any, feature: Any, split: Any,
    length: Any,
) -> None:  # fmt: skip
    """Write one tree of `values` `[n_features, size]`; `order` is sorted into its branches."""
    inner = (1 << height) - 1
    feature[:] = int16(0)
    split[:] = float32(np.inf)
    edge[:, :] = -1
    edge[0, 0], edge[1, 0] = 0, values.shape[1]
    depth = 0
    for k in range(2 * inner + 1):
        if k + 1 >= 1 << (depth + 1):
            depth += 1
        first, last = edge[0, k], edge[1, k]
        if first < 0:
            continue
        d, low, high = -1, float32(0), float32(0)
        if k < inner and last - first > 1:
            d, low, high = _pick(values, order[first:last], words[3 * k], words[3 * k + 1])
        if d < 0:
            bottom = ((k + 1) << (height - depth)) - 1 - inner
            length[bottom] = float32(depth + average_path(last - first))
            continue
        share = float32(words[3 * k + 2] >> uint32(8)) * float32(2.0**-24)
        at = low + share * (high - low)
        if at >= high:
            at = low
        feature[k], split[k] = d, at
        middle = _part(values[d], order, first, last, at)
        edge[0, 2 * k + 1], edge[1, 2 * k + 1] = first, middle
        edge[0, 2 * k + 2], edge[1, 2 * k + 2] = middle, last


@njit(cache=True, nogil=True)
def _pick(values: Any, order: Any, word: Any, second: Any) -> Any:
    """Return a random feature that is not constant, or -1, and its range."""
    n_features = values.shape[0]
    d = _below(word, n_features)
    low, high = _range(values[d], order)
    if low < high:
        return d, low, high
    varying = 0
    for other in range(n_features):
        low, high = _range(values[other], order)
        varying += low < high
    if varying == 0:
        return -1, low, high
    rank = _below(second, varying)
    for other in range(n_features):
        low, high = _range(values[other], order)
        if low < high:
            if rank == 0:
                return other, low, high
            rank -= 1
    return -1, low, high


@njit(cache=True, nogil=True)
def _range(row: Any, order: Any) -> Any:
    low = high = row[order[0]]
    for index in order:
        low, high = min(low, row[index]), max(high, row[index])
    return low, high


@njit(cache=True, nogil=True)
def _part(row: Any, order: Any, first: int, last: int, at: Any) -> int:
    """Return where the right branch begins, after those not above `at` have been put first."""
    i = first
    for j in range(first, last):
        index = order[j]
        if row[index] <= at:
            order[j] = order[i]
            order[i] = index
            i += 1
    return i


@njit(cache=True, nogil=True)
def score_flows(
    x: Any, slots: Any, size: Any, feature: Any, split: Any, length: Any, score: Any
) -> None:
    """Write 2^(-E[h] / c(size)) for x `[n, n_features, n_flows]` by the forest `slots[j]` each.

    Args:
        x: Flows.
        slots: Row of the forests `[n]`.
        size: Flows that each forest's trees were grown from `[n_forests]`.
        feature: `[n_forests, trees, inner]`, as the two that follow.
        split: Splits.
        length: Path lengths.
        score: Written `[n, n_flows]`.
    """
    n, n_features, n_flows = x.shape
    n_trees = feature.shape[1]
    flows = np.empty((n_flows, n_features), np.float32)
    place, total = np.empty(n_flows, np.int64), np.empty(n_flows, np.float32)
    for j in range(n):
        f = slots[j]
        if size[f] < 2:
            score[j, :] = float32(NEUTRAL_SCORE)
            continue
        for b in range(n_flows):
            for d in range(n_features):
                flows[b, d] = x[j, d, b]
        total[:] = float32(0)
        height = tree_height(size[f])
        inner = (1 << height) - 1
        for t in range(n_trees):
            which, where, depth = feature[f, t], split[f, t], length[f, t]
            place[:] = 0
            for _ in range(height):
                for b in range(n_flows):
                    k = place[b]
                    place[b] = 2 * k + 1 + (flows[b, which[k]] > where[k])
            for b in range(n_flows):
                total[b] += depth[place[b] - inner]
        scale = -1.0 / (n_trees * average_path(size[f]))
        for b in range(n_flows):
            score[j, b] = float32(2.0 ** (total[b] * scale))
