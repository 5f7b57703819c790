"""Who is whose neighbour: the complete graph, NetworkX's graphs, and the edges of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.errors import DataError
from sim_core.randomness import Streams

Network = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of all nodes as compressed sparse rows, ascending in each row, without doubles."""

    indptr: NDArray[np.int64]
    """Where each node's neighbours begin in `indices` `[n_nodes + 1]`."""
    indices: NDArray[np.int32]

    @classmethod
    def of_edges(cls, edges: NDArray[np.int64], n_nodes: int) -> Neighbours:
        """Return the neighbours that undirected edges `[n_edges, 2]` make.

        >>> Neighbours.of_edges(np.array([[2, 0], [0, 1], [1, 0]]), 4).indices
        array([1, 2, 0, 0], dtype=int32)
        """
        both = np.concatenate([edges, edges[:, ::-1]])
        key = np.unique(both[:, 0] * n_nodes + both[:, 1])
        degree = np.bincount(key // n_nodes, minlength=n_nodes)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(degree)])
        return cls(indptr, (key % n_nodes).astype(np.int32))

    @property
    def degree(self) -> NDArray[np.int64]:
        """Number of neighbours of each node `[n_nodes]`."""
        return np.diff(self.indptr)


class Topology:
    """Who is whose neighbour; this class is the complete graph, which nobody writes down."""

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        self.kind = config.topology.kind
        self.config = config
        self.streams = streams
        self.n_nodes = config.simulation.nodes

    def neighbours(self, network: Network) -> Neighbours | None:
        """Return everyone's neighbours; None is the complete graph: all others."""
        del network
        return None

    def init(self, network: Network) -> None:
        """Put what nodes carry from step to step into the state."""

    def walk(self, network: Network, up: NDArray[np.bool_], step: int) -> None:
        """Let nodes that are up move, where the topology is spatial."""


class GraphTopology(Topology):
    """A graph that NetworkX makes and that stays as it is."""

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        super().__init__(config, streams)
        self._neighbours = Neighbours.of_edges(self._edges(), self.n_nodes)

    def neighbours(self, network: Network) -> Neighbours:
        """Return the neighbours in this graph."""
        del network
        return self._neighbours

    def _edges(self) -> NDArray[np.int64]:
        if self.n_nodes == 1:
            return np.zeros((0, 2), dtype=np.int64)
        seed = int(self.streams.generator("topology").integers(1 << 63))
        ends = np.fromiter(_ends(_graph(self.config.topology, self.n_nodes, seed)), dtype=np.int64)
        return ends.reshape(-1, 2)


def _graph(topology: Any, n_nodes: int, seed: int) -> Any:
    """Return the NetworkX graph of two nodes at least that a configuration describes.

    Sources: Watts and Strogatz, "Collective dynamics of 'small-world' networks" (1998); Barabási and
    Albert, "Emergence of scaling in random networks" (1999); Batagelj and Brandes, "Efficient
    generation of large random networks" (2005), for Gilbert's G(n, p) in time linear in the edges.
    """
    import networkx as nx  # takes half a second, and the complete graph needs none of it

    match topology.kind:
        case "ring":
            return nx.circulant_graph(n_nodes, list(range(1, topology.neighbours // 2 + 1)))
        case "small_world":
            return nx.watts_strogatz_graph(n_nodes, topology.neighbours, topology.rewire, seed=seed)
        case "scale_free":
            return nx.barabasi_albert_graph(n_nodes, topology.attachments, seed=seed)
        case "random":
            share = min(1.0, topology.mean_degree / (n_nodes - 1))
            return nx.fast_gnp_random_graph(n_nodes, share, seed=seed)
    raise AssertionError(topology.kind)


def _ends(graph: Any) -> Iterator[int]:
    for edge in graph.edges():
        yield from edge


class EdgeListTopology(GraphTopology):
    """The edges of a text file; nodes without an edge have no neighbours."""

    def _edges(self) -> NDArray[np.int64]:
        topology: Any = self.config.topology
        if topology.path is None:
            raise DataError(
                "topology=edge_list needs topology.path=FILE, a text file with two node numbers a line"
            )
        return read_edges(Path(topology.path), self.n_nodes)


NODE = re.compile(r"[0-9]{1,18}")


def read_edges(path: Path, n_nodes: int) -> NDArray[np.int64]:
    """Return the edges `[n_edges, 2]` of a text file with two node numbers per line.

    Numbers are separated by a comma or blanks; what follows `#` is a comment.

    Raises:
        DataError: the file cannot be read, or a line is no edge between two of the nodes.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"topology.path={path} cannot be read ({error}): name a text file with two node "
            "numbers per line"
        ) from error
    edges = []
    for number, line in enumerate(text.splitlines(), start=1):
        if content := line.partition("#")[0].strip():
            edges.append(_edge(content, n_nodes, f"{path}, line {number}"))
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def _edge(content: str, n_nodes: int, where: str) -> tuple[int, int]:
    """Return the two nodes that a line names."""
    parts = content.replace(",", " ").split()
    if len(parts) != 2 or not all(NODE.fullmatch(part) for part in parts):
        raise DataError(f"{where}: expected two node numbers (from 0), found {content[:80]!r}")
    a, b = int(parts[0]), int(parts[1])
    if max(a, b) >= n_nodes:
        raise DataError(
            f"{where}: node {max(a, b)} is not in a network of simulation.nodes={n_nodes}, whose "
            f"nodes are 0 to {n_nodes - 1}"
        )
    if a == b:
        raise DataError(f"{where}: node {a} cannot be its own neighbour; take the line out")
    return a, b


def topology_files(config: ModelConfig) -> tuple[Path, ...]:
    """Return the files whose content the topology depends on.

    >>> topology_files(ModelConfig())
    ()
    """
    path = getattr(config.topology, "path", None)
    return () if path is None else (Path(path),)
