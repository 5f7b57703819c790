"""A torus of cells, on which nodes may walk; neighbours are those in the same cell or around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.network.topology import Neighbours, Network, Topology
from sim_core.philox import UNIT, philox4x32
from sim_core.randomness import Streams


def torus_size(n_nodes: int, width: int | None) -> tuple[int, int]:
    """Return rows and columns of the smallest torus of this width with a cell for each node.

    >>> torus_size(10, 4), torus_size(10, None)
    ((3, 4), (3, 4))
    """
    columns = width or math.isqrt(n_nodes - 1) + 1
    return -(-n_nodes // columns), columns


class LatticeTopology(Topology):
    """Nodes in cells of a torus, several in one when they walk (Moore neighbourhood, own cell too).

    State: `position`, row and column of each node, int32 `[n_nodes, 2]`.
    """

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        super().__init__(config, streams)
        lattice: Any = config.topology
        self.walk_rate: float = lattice.walk_rate
        self.rows, self.columns = torus_size(self.n_nodes, lattice.width)
        self._position: NDArray[Any] | None = None
        self._neighbours: Neighbours | None = None

    def init(self, network: Network) -> None:
        """Put nodes on the torus row by row, one a cell."""
        node = np.arange(self.n_nodes, dtype=np.int32)
        network["position"] = np.stack([node // self.columns, node % self.columns], axis=1)

    def neighbours(self, network: Network) -> Neighbours | None:
        """Return who is near; made again when `walk` has put another array into the state."""
        if self._position is not network["position"]:
            self._position = network["position"]
            self._neighbours = Neighbours(*_near(self._position, self.rows, self.columns))
        return self._neighbours

    def walk(self, network: Network, up: NDArray[np.bool_], step: int) -> None:
        """Let each node that is up go to one of the 8 cells around with probability `walk_rate`."""
        if self.walk_rate > 0:
            position = network["position"].copy()
            key = self.streams.key("walk")
            _walk(position, self.rows, self.columns, up, self.walk_rate, step, *key)
            network["position"] = position


@njit(cache=True, nogil=True)
def _walk(
    position: Any, rows: int, columns: int, up: Any, rate: float, step: int, k0: Any, k1: Any
) -> None:
    """Move nodes; word 0 of node and step says whether, word 1 where to."""
    for i in range(position.shape[0]):
        if not up[i]:
            continue
        whether, where, _, _ = philox4x32(uint32(0), uint32(0), uint32(i), uint32(step), k0, k1)
        if whether * UNIT >= rate:
            continue
        cell = np.int64((uint64(where) * uint64(8)) >> uint64(32))
        if cell >= 4:  # cell 4 of the 3 x 3 is the node's own
            cell += 1
        position[i, 0] = (position[i, 0] + cell // 3 - 1 + rows) % rows
        position[i, 1] = (position[i, 1] + cell % 3 - 1 + columns) % columns


@njit(cache=True, nogil=True)
def _near(position: Any, rows: int, columns: int) -> Any:
    """Return compressed sparse rows of who is in the same cell or one around it.

    Nodes are entered into their neighbours' rows in ascending order, so that rows are sorted.
    """
    n_nodes = position.shape[0]
    first, member = _cells(position, rows, columns)
    indptr = np.zeros(n_nodes + 1, np.int64)
    up, down = -min(1, max(0, rows - 2)), min(1, rows - 1)
    left, right = -min(1, max(0, columns - 2)), min(1, columns - 1)
    for i in range(n_nodes):
        count = -1
        for dr in range(up, down + 1):
            for dc in range(left, right + 1):
                r = (position[i, 0] + dr + rows) % rows
                c = (position[i, 1] + dc + columns) % columns
                count += first[r * columns + c + 1] - first[r * columns + c]
        indptr[i + 1] = indptr[i] + count
    indices, end = np.empty(indptr[-1], np.int32), indptr[:-1].copy()
    for i in range(n_nodes):
        for dr in range(up, down + 1):
            for dc in range(left, right + 1):
                r = (position[i, 0] + dr + rows) % rows
                c = (position[i, 1] + dc + columns) % columns
                for place in range(first[r * columns + c], first[r * columns + c + 1]):
                    j = member[place]
                    if j != i:
                        indices[end[j]] = i
                        end[j] += 1
    return indptr, indices


@njit(cache=True, nogil=True)
def _cells(position: Any, rows: int, columns: int) -> Any:
    """Return where each cell's members begin, and the members cell by cell."""
    first = np.zeros(rows * columns + 1, np.int64)
    for i in range(position.shape[0]):
        first[position[i, 0] * columns + position[i, 1] + 1] += 1
    for cell in range(rows * columns):
        first[cell + 1] += first[cell]
    member, end = np.empty(position.shape[0], np.int64), first[:-1].copy()
    for i in range(position.shape[0]):
        cell = position[i, 0] * columns + position[i, 1]
        member[end[cell]] = i
        end[cell] += 1
    return first, member
