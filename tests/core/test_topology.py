"""Who is whose neighbour: against NetworkX, plain definitions, and files with mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from sim_core.errors import DataError
from sim_core.network import Topology, make_topology, topology_files
from sim_core.network.topology import read_edges
from sim_core.randomness import Streams
from tests.network_tools import network_config


def make(n_nodes: int, replicate: int = 0, **topology: Any) -> tuple[Topology, dict[str, Any]]:
    made = make_topology(network_config(n_nodes, topology), Streams(3, replicate))
    network: dict[str, Any] = {}
    made.init(network)
    return made, network


def adjacency(n_nodes: int, **topology: Any) -> np.ndarray:
    made, network = make(n_nodes, **topology)
    return adjacency_of(made, network)


def adjacency_of(made: Topology, network: dict[str, Any]) -> np.ndarray:
    neighbours = made.neighbours(network)
    assert neighbours is not None
    matrix = np.zeros((made.n_nodes, made.n_nodes), dtype=np.int64)
    node = np.repeat(np.arange(made.n_nodes), neighbours.degree)
    np.add.at(matrix, (node, neighbours.indices), 1)
    return matrix


def moore(position: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return who is within one cell of whom on a torus, by the definition."""
    near = np.ones((len(position), len(position)), dtype=np.int64)
    for axis, size in enumerate((rows, columns)):
        apart = np.abs(position[:, None, axis] - position[None, :, axis])
        near &= np.minimum(apart, size - apart) <= 1
    np.fill_diagonal(near, 0)
    return near


def test_complete_graph_is_not_written_down():
    made, network = make(1_000_000, kind="complete")
    assert made.neighbours(network) is None
    assert not network


@pytest.mark.parametrize("neighbours", [2, 4, 10])
def test_ring_is_the_circulant_graph(neighbours: int):
    graph = nx.circulant_graph(20, range(1, neighbours // 2 + 1))
    ring = adjacency(20, kind="ring", neighbours=neighbours)
    np.testing.assert_array_equal(ring, nx.to_numpy_array(graph))


def test_small_world_keeps_its_edges_and_without_rewiring_is_the_ring():
    ring = adjacency(60, kind="ring", neighbours=6)
    rewired = adjacency(60, kind="small_world", neighbours=6, rewire=0.3)
    plain = adjacency(60, kind="small_world", neighbours=6, rewire=0.0)
    np.testing.assert_array_equal(plain, ring)
    assert rewired.sum() == ring.sum()
    moved = 1 - (rewired & ring).sum() / ring.sum()
    assert 0.15 < moved < 0.45


def test_scale_free_has_the_edges_of_preferential_attachment_and_hubs():
    n_nodes, attachments = 2_000, 3
    graph = adjacency(n_nodes, kind="scale_free", attachments=attachments)
    degree = graph.sum(axis=1)
    assert graph.sum() == 2 * attachments * (n_nodes - attachments)
    assert degree.min() >= attachments
    assert degree.max() > 10 * degree.mean()  # a random graph's is below 4 times that


def test_random_graph_has_poisson_degrees():
    n_nodes, mean = 3_000, 8.0
    degree = adjacency(n_nodes, kind="random", mean_degree=mean).sum(axis=1)
    error = 3.29 * np.sqrt(2 * mean / n_nodes)  # 99.9 %; an edge counts for two nodes
    assert degree.mean() == pytest.approx(mean, abs=error)
    assert degree.var() == pytest.approx(mean, rel=0.15)


@pytest.mark.parametrize("kind", ["small_world", "scale_free", "random"])
def test_random_graphs_differ_between_replicates_and_repeat_within(kind: str):
    first, again, other = (make(50, r, kind=kind) for r in (0, 0, 1))
    np.testing.assert_array_equal(adjacency_of(*first), adjacency_of(*again))
    assert (adjacency_of(*first) != adjacency_of(*other)).any()


@pytest.mark.parametrize(
    ("n_nodes", "width"),
    [(n, None) for n in (1, 2, 3, 4, 8, 100, 101)]
    + [(n, 3) for n in (3, 5, 6, 9)]
    + [(n, 7) for n in (5, 14, 50)],
)
def test_lattice_neighbours_are_the_nodes_around_counted_once(n_nodes: int, width: int | None):
    made, network = make(n_nodes, kind="lattice", width=width)
    position = network["position"]
    assert len(np.unique(position, axis=0)) == n_nodes, "one node a cell"
    expected = moore(position, made.rows, made.columns)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(adjacency_of(made, network), expected)


def test_full_lattice_gives_everyone_eight_neighbours():
    assert (adjacency(100, kind="lattice").sum(axis=1) == 8).all()


def test_walking_nodes_share_cells_and_have_the_neighbours_of_where_they_are():
    made, network = make(60, kind="lattice", width=7, walk_rate=0.5)
    shared = 0
    for step in range(20):
        made.walk(network, np.ones(60, dtype=bool), step)
        position = network["position"]
        expected = moore(position, made.rows, made.columns)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(adjacency_of(made, network), expected)
        shared += 60 - len(np.unique(position, axis=0))
    assert shared > 0


def test_nodes_walk_one_cell_with_their_rate_in_all_directions_and_not_when_down():
    n_nodes, rate, columns = 10_000, 0.3, 100
    made, network = make(n_nodes, kind="lattice", walk_rate=rate)
    before = network["position"]
    up = np.arange(n_nodes) % 2 == 0
    made.walk(network, up, 5)
    step = (network["position"] - before + 1) % columns  # 0, 1, 2; 1 is to stay
    assert (step <= 2).all()
    moved = (step != 1).any(axis=1)
    assert not moved[~up].any()
    n_up = int(up.sum())
    assert moved[up].mean() == pytest.approx(rate, abs=3.29 * np.sqrt(rate * (1 - rate) / n_up))
    ways = np.bincount(step[moved] @ [3, 1], minlength=9)
    assert ways[4] == 0
    expected = moved.sum() / 8
    assert ((np.delete(ways, 4) - expected) ** 2 / expected).sum() < 24.3  # chi square, 7, 99.9 %


def test_a_restored_position_gives_the_same_neighbours():
    made, network = make(30, kind="lattice", walk_rate=1.0)
    for step in range(5):
        made.walk(network, np.ones(30, dtype=bool), step)
    fresh, _ = make(30, kind="lattice", walk_rate=1.0)
    copied = {"position": network["position"].copy()}
    np.testing.assert_array_equal(adjacency_of(made, network), adjacency_of(fresh, copied))


def test_a_node_more_changes_nobody_elses_walk():
    few, many = (make(n, kind="lattice", width=9, walk_rate=0.5) for n in (81, 82))
    for made, network in (few, many):
        made.walk(network, np.ones(made.n_nodes, dtype=bool), 3)
    apart = few[1]["position"] - many[1]["position"][:81]
    assert (apart[:, 1] == 0).all()
    assert (apart[:, 0] % 9 == 0).mean() > 0.9, "only who crosses the edge comes out elsewhere"


def test_edge_list_is_read_and_doubles_are_merged(tmp_path: Path):
    path = tmp_path / "edges.txt"
    path.write_text("# a comment\n0 1\n1,2  # another\n\n 2 , 1\n1\t0\n")
    expected = np.zeros((4, 4), dtype=np.int64)
    expected[[0, 1, 1, 2], [1, 0, 2, 1]] = 1
    np.testing.assert_array_equal(adjacency(4, kind="edge_list", path=str(path)), expected)
    config = network_config(4, {"kind": "edge_list", "path": str(path)})
    assert topology_files(config) == (path,)


def test_an_empty_edge_list_leaves_everyone_alone(tmp_path: Path):
    path = tmp_path / "edges.txt"
    path.write_text("# nothing\n")
    assert adjacency(3, kind="edge_list", path=str(path)).sum() == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 x", "two node numbers"),
        ("0 1 2", "two node numbers"),
        ("0", "two node numbers"),
        ("-1 2", "two node numbers"),
        ("0.5 2", "two node numbers"),
        ("², 1", "two node numbers"),
        ("0 4", "node 4 is not in a network of simulation.nodes=4"),
        ("2 2", "node 2 cannot be its own neighbour"),
    ],
)
def test_mistakes_in_an_edge_list_name_file_and_line(tmp_path: Path, line: str, says: str):
    path = tmp_path / "edges.txt"
    path.write_text(f"0 1\n# fine\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_edges(path, 4)
    assert f"{path}, line 3" in str(error.value)
    assert says in str(error.value)


def test_a_missing_or_binary_edge_list_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.txt cannot be read"):
        read_edges(tmp_path / "gone.txt", 4)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary cannot be read"):
        read_edges(tmp_path / "binary", 4)
