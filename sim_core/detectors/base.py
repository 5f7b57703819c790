"""What every detector offers, and how flows are laid out for compiled passes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DetectorState = dict[str, NDArray[Any]]
"""Arrays with a leading axis of nodes: whatever the detector learns."""

COMMON_NODES = 64
"""Nodes whose warm-up flows a detector that all nodes share is grown from."""
LARGEST_SCORE = np.finfo(np.float32).max
"""What a score that would overflow is cut to: scores are finite."""
_OWN_ROWS = np.zeros(0, dtype=np.int64)


class Detector(Protocol):
    """Scores and learns flows for many nodes at once.

    State is passed in slices: any function may be called with the rows of some nodes only, and what
    becomes of a node must not depend on which others are there. State is changed in place, so that a
    step allocates nothing. What can be derived from the state (a fitted forest) may be kept by the
    detector, outside of it, as long as it is made again where it is missing.
    """

    def prepare(self, common: NDArray[np.float32]) -> None:
        """Take what all nodes start from, before `init` and before a restored state is used.

        Args:
            common: Benign flows `[m, n_warmup, n_features]`: the pool, or those of the first
                `COMMON_NODES` nodes, whichever nodes this detector is asked about.
        """

    def init(self, n_nodes: int, warmup: NDArray[np.float32], *, first: int = 0) -> DetectorState:
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

    def learn(self, state: DetectorState, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Learn the flows where `mask` `[n_nodes, n_flows]` is true."""

    def advance(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        up: NDArray[np.bool_],
        alarmed: NDArray[np.bool_],
    ) -> None:
        """Move what follows every flow, learned or not: the statistics of control charts.

        Args:
            state: The state of these nodes.
            x: Their flows `[n_nodes, n_flows, n_features]`.
            up: Nodes that see them; the others stay as they are `[n_nodes]`.
            alarmed: The score of a flow of this step was above the node's threshold `[n_nodes]`.
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
    """A detector without charts and windows: nothing to share, to advance or to forget."""

    def prepare(self, common: NDArray[np.float32]) -> None:
        """Do nothing."""

    def advance(
        self,
        state: DetectorState,
        x: NDArray[np.float32],
        up: NDArray[np.bool_],
        alarmed: NDArray[np.bool_],
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


def flows_innermost(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return flows `[n, n_flows, n_features]` as `[n, n_features, n_flows]`, stored in this order.

    Copies nothing where x is a transposed view of such an array, as traffic is.
    """
    return np.ascontiguousarray(x.transpose(0, 2, 1))


def judging_rows(rows: NDArray[Any] | None) -> NDArray[np.int64]:
    """Return the rows of the state that judge, for compiled code: empty where row j judges row j."""
    return _OWN_ROWS if rows is None else np.ascontiguousarray(rows, dtype=np.int64)


def empty_scores(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return room for the scores `[n, n_flows]` of x `[n, n_features, n_flows]`."""
    return np.empty((x.shape[0], x.shape[2]), dtype=np.float32)


def spread_rows(values: NDArray[Any], n_nodes: int) -> NDArray[Any]:
    """Return values `[n_nodes, ...]`, a single shared row repeated for each node."""
    return np.repeat(values, n_nodes, axis=0) if len(values) == 1 != n_nodes else values
