"""Isolation Forest on a sliding window, refitted now and then, or one forest that all nodes share.

The trees are derived (`sim_core.detectors.isolation_trees`): the state holds the flows that a forest
was grown from and the number of refits, which name the random numbers. Forests are kept beside the state
and grown, bit for bit, where they are missing: after a refit, or after a restart from a checkpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, njit, uint64
from numpy.typing import NDArray

from sim_core.config import IsolationForestDetector
from sim_core.detectors.base import DetectorState, Stationary, empty_scores, flows_innermost
from sim_core.detectors.isolation_trees import grow_forest, score_flows, tree_height
from sim_core.detectors.window import drop_flows, initial_window, keep_flows
from sim_core.randomness import Streams

SHARED_NODE = 0xFFFF_FFFF
"""Number in the random counters of the forest that belongs to nobody."""


class Forests:
    """Forests in rows of arrays that grow when more nodes ask, each with the mark of its origin."""

    def __init__(self, config: IsolationForestDetector, streams: Streams) -> None:
        """Start without any."""
        self._samples = config.samples
        self._key = streams.key("detector")
        inner = 2 ** tree_height(config.samples) - 1
        self.feature = np.zeros((0, config.trees, inner), dtype=np.int16)
        self.split = np.zeros((0, config.trees, inner), dtype=np.float32)
        self.length = np.zeros((0, config.trees, inner + 1), dtype=np.float32)
        self.size = np.zeros(0, dtype=np.int64)
        self._mark = np.zeros(0, dtype=np.int64)
        self._slot = np.zeros(0, dtype=np.int64)

    def slots(self, node: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each node's forest, after room has been made for new ones."""
        if node.size and node.max() >= len(self._slot):
            more = np.full(node.max() + 1 - len(self._slot), -1, dtype=np.int64)
            self._slot = np.concatenate([self._slot, more])
        new = np.unique(node[self._slot[node] < 0])
        if new.size:
            held = int(self._slot.max(initial=-1)) + 1
            self._slot[new] = held + np.arange(len(new))
            self._make_room(held + len(new))
        return self._slot[node]

    def missing(self, slots: NDArray[np.int64], mark: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices, one per forest, whose forest is not grown from what `mark` names."""
        stale = np.flatnonzero((self._mark[slots] != mark) | (self.size[slots] < 0))
        return stale[np.unique(slots[stale], return_index=True)[1]] if stale.size else stale

    def grow(
        self, slot: int, flows: NDArray[np.float32], *, node: int, refits: int, mark: int
    ) -> None:
        """Grow the forest of a row from `flows` `[n, n_features]`; from fewer than two there is none."""
        self._mark[slot], self.size[slot] = mark, min(len(flows), self._samples)
        if len(flows) > 1:
            arrays = self.feature[slot], self.split[slot], self.length[slot]
            grow_forest(flows, self._samples, node, refits, *self._key, *arrays)

    def _make_room(self, needed: int) -> None:
        """Let there be `needed` rows or more; rows that are not grown have size -1."""
        extra = needed - len(self.size)
        if extra <= 0:
            return
        extra = max(extra, len(self.size) // 2)
        for name in ("feature", "split", "length", "_mark"):
            old = getattr(self, name)
            more = np.zeros((extra, *old.shape[1:]), dtype=old.dtype)
            setattr(self, name, np.concatenate([old, more]))
        self.size = np.concatenate([self.size, np.full(extra, -1, dtype=np.int64)])


class IsolationForest(Stationary):
    """2^(-mean path length / c(samples)), in (0, 1); 0.5 is where a flow is like the others."""

    def __init__(self, config: IsolationForestDetector, streams: Streams) -> None:
        """Keep the settings; forests are grown when they are first needed."""
        self._config = config
        self._forests = Forests(config, streams)

    def prepare(self, common: NDArray[np.float32]) -> None:
        """Grow the forest that all nodes share, where they do."""
        if self._config.shared:
            flows = np.ascontiguousarray(common.reshape(-1, common.shape[2]))
            slot = int(self._forests.slots(np.zeros(1, dtype=np.int64))[0])
            self._forests.grow(slot, flows, node=SHARED_NODE, refits=0, mark=0)

    def init(self, n_nodes: int, warmup: NDArray[np.float32], *, first: int = 0) -> DetectorState:
        """Return the window of the last warm-up flows and the copy that the forest is grown from.

        `node` `[n_nodes]` is the absolute number; `snapshot` `[n_nodes, window, n_features]` holds
        `fitted` flows and is named by `mark`; `age` counts steps in which something was learned.
        With a shared forest only `node` is left.
        """
        node = np.arange(first, first + n_nodes)
        if self._config.shared:
            return {"node": node}
        state = initial_window(n_nodes, warmup, self._config.window)
        zeros = np.zeros(n_nodes, dtype=np.int64)
        return state | {
            "node": node,
            "snapshot": state["window"].copy(),
            "fitted": state["filled"].copy(),
            "refits": zeros,
            "age": zeros.copy(),
            "mark": _marks(node, zeros, state["filled"], state["window"]),
        }

    def score(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        rows: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return scores `[n, n_flows]`.

        Raises:
            RuntimeError: the forest is shared and `prepare` was not called.
        """
        flows = flows_innermost(x)
        score = empty_scores(flows)
        forests = self._forests
        slots = self._fitted_slots(state, np.arange(len(flows)) if rows is None else rows)
        arrays = forests.size, forests.feature, forests.split, forests.length
        score_flows(flows, slots, *arrays, score)
        return score

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Keep the masked flows; a node whose turn it is takes its window for the next forest."""
        if self._config.shared:
            return
        keep_flows(state, flows_innermost(x), mask)
        learned = mask.any(axis=1)
        state["age"] += learned
        turn = (state["age"] + state["node"]) % self._config.refit_every == 0
        due = np.flatnonzero(turn & learned)
        state["snapshot"][due] = state["window"][due]
        state["fitted"][due] = state["filled"][due]
        state["refits"][due] += 1
        names = "node", "refits", "fitted", "snapshot"
        state["mark"][due] = _marks(*(state[name][due] for name in names))

    def forget(
        self,
        state: DetectorState,
        rows: NDArray[np.int64],
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        radius: float,
    ) -> None:
        """Drop kept flows within `radius` of confirmed signatures; the next refit is without them."""
        if not self._config.shared:
            drop_flows(state, rows, centroid, scale, radius)

    def _fitted_slots(self, state: DetectorState, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return the row of the forest that each of `rows` scores with, grown where missing."""
        forests = self._forests
        if self._config.shared:
            if not len(forests.size):
                raise RuntimeError("a shared isolation forest scores only after prepare(common)")
            return np.zeros(len(rows), dtype=np.int64)
        slots = forests.slots(state["node"][rows])
        for index in forests.missing(slots, state["mark"][rows]):
            i = rows[index]
            forests.grow(
                slots[index],
                state["snapshot"][i, : state["fitted"][i]],
                node=state["node"][i],
                refits=state["refits"][i],
                mark=state["mark"][i],
            )
        return slots


@njit(cache=True, nogil=True)
def _mark(node: int, refits: int, fitted: int, bits: Any) -> Any:
    """Return 63 bits that name a forest: FNV-1a, in words, over all that it is grown from."""
    prime = uint64(0x100000001B3)
    mark = uint64(0xCBF29CE484222325)
    for part in (node, refits, fitted):
        mark = (mark ^ uint64(part)) * prime
    for word in bits:
        mark = (mark ^ uint64(word)) * prime
        mark ^= mark >> uint64(29)
    return int64(mark >> uint64(1))


def _marks(
    node: NDArray[np.int64],
    refits: NDArray[np.int64],
    fitted: NDArray[np.int64],
    flows: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Return the mark of each node's flows `[n_nodes, window, n_features]`."""
    bits = flows.reshape(len(node), flows.shape[1] * flows.shape[2]).view(np.uint32)
    n_features = flows.shape[2]
    marks = np.empty(len(node), dtype=np.int64)
    for k in range(len(node)):
        marks[k] = _mark(node[k], refits[k], fitted[k], bits[k, : fitted[k] * n_features])
    return marks
