"""What every topology in the registry must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_core.network import TOPOLOGIES, Topology, make_topology
from sim_core.randomness import Streams
from tests.network_tools import network_config

every_kind = pytest.mark.parametrize("kind", TOPOLOGIES)
every_size = pytest.mark.parametrize("n_nodes", [1, 5, 64, 200])


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Return a function from kind and size to a topology and the state it lives in."""

    def made(kind: str, n_nodes: int, replicate: int = 0) -> tuple[Topology, dict[str, Any]]:
        group: dict[str, Any] = {"kind": kind}
        if kind == "edge_list":
            group["path"] = str(tmp_path / "edges.csv")
            Path(group["path"]).write_text("".join(f"{i},{i // 2}\n" for i in range(1, n_nodes)))
        if kind == "lattice":
            group["walk_rate"] = 0.5
        topology = make_topology(network_config(n_nodes, group), Streams(2, replicate))
        network: dict[str, Any] = {}
        topology.init(network)
        return topology, network

    return made


@every_kind
@every_size
def test_neighbours_are_symmetric_sorted_and_never_oneself(make: Any, kind: str, n_nodes: int):
    topology, network = make(kind, n_nodes)
    for step in range(3):
        neighbours = topology.neighbours(network)
        if neighbours is None:
            assert kind == "complete"
            return
        assert (neighbours.indptr.dtype, neighbours.indices.dtype) == (np.int64, np.int32)
        assert (neighbours.indptr[0], neighbours.indptr[-1]) == (0, len(neighbours.indices))
        node = np.repeat(np.arange(n_nodes), neighbours.degree)
        pairs = list(zip(node.tolist(), neighbours.indices.tolist(), strict=True))
        assert pairs == sorted(set(pairs)), "ascending in each row, no doubles"
        assert {(b, a) for a, b in pairs} == set(pairs)
        assert all(a != b for a, b in pairs)
        topology.walk(network, np.ones(n_nodes, dtype=bool), step)


@every_kind
def test_the_same_streams_give_the_same_neighbours_and_walks(make: Any, kind: str):
    (first, network), (again, other) = make(kind, 64), make(kind, 64)
    for step in range(3):
        one, two = first.neighbours(network), again.neighbours(other)
        if one is not None:
            np.testing.assert_array_equal(one.indptr, two.indptr)
            np.testing.assert_array_equal(one.indices, two.indices)
        first.walk(network, np.ones(64, dtype=bool), step)
        again.walk(other, np.ones(64, dtype=bool), step)


@every_kind
def test_state_is_arrays_with_a_row_per_node(make: Any, kind: str):
    topology, network = make(kind, 64)
    topology.walk(network, np.ones(64, dtype=bool), 0)
    assert all(isinstance(a, np.ndarray) and len(a) == 64 for a in network.values())
    assert ("position" in network) == (kind == "lattice")
