"""Committees are drawn by the proposal's number alone, evenly, and only where they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim_core.config import ModelConfig
from sim_core.consensus import draw_voters
from sim_core.philox import philox4x32
from sim_core.randomness import Streams

LEVEL = 1e-4
"""Probability with which a test of a hypothesis fails though it holds; the draws are fixed."""


def configured(nodes: int, committee: int | None = None, dissemination: str = "ledger") -> Any:
    return ModelConfig.model_validate(
        {
            "simulation": {"nodes": nodes},
            "consensus": {"kind": "majority", "committee": committee},
            "dissemination": {"kind": dissemination},
        }
    )


def drawn(config: ModelConfig, numbers: Any, joined: Any = None, *, seed: int = 1) -> Any:
    numbers = np.asarray(numbers, dtype=np.int64)
    if joined is None:
        joined = np.ones(config.simulation.nodes, dtype=bool)
    return draw_voters(config, Streams(seed, 0), numbers, numbers % len(joined), joined)


@given(
    nodes=st.integers(1, 200),
    seats=st.integers(1, 200),
    joined=st.integers(0, 2**200 - 1),
    numbers=st.lists(st.integers(0, 2**32 - 1), max_size=5),
)
def test_voters_are_different_joined_nodes_ascending_before_empty_seats(
    nodes: int, seats: int, joined: int, numbers: list[int]
):
    there = np.array([joined >> node & 1 for node in range(nodes)], dtype=bool)
    config = configured(nodes, seats)
    voters = drawn(config, numbers, there)
    assert (voters.shape, voters.dtype) == ((len(numbers), config.n_voters), np.int32)
    n_taken = min(int(there.sum()), config.n_voters)
    for row in voters:
        taken = row[:n_taken]
        assert (np.diff(taken) > 0).all()
        assert there[taken].all()
        assert (row[n_taken:] == -1).all()


def test_committee_is_by_the_numbers_of_its_proposal_alone():
    config, numbers = configured(500, 20), np.arange(40)
    together = drawn(config, numbers)
    assert [drawn(config, [k])[0].tolist() for k in numbers] == together.tolist()
    order = np.random.default_rng(0).permutation(40)
    assert (drawn(config, numbers[order]) == together[order]).all()
    proposers = [np.full(40, node, dtype=np.int64) for node in (0, 499)]
    everybody = np.ones(500, dtype=bool)
    for proposer in proposers:
        found = draw_voters(config, Streams(1, 0), numbers, proposer, everybody)
        assert (found == together).all(), "a proposer has no seat of its own"
    assert len({tuple(row) for row in together}) == 40
    assert (drawn(config, numbers, seed=2) != together).any()


def test_committee_is_drawn_from_the_documented_numbers():
    """Word 0 of the counters (0, 0, 0, number), (1, 0, 0, number), ... scaled to the nodes."""
    config, streams = configured(50, 12), Streams(7, 3)
    key = streams.key("committee")
    joined = np.arange(50) % 5 > 0
    word = philox4x32.py_func
    for number in (0, 1, 99_999):
        chosen: list[int] = []
        call = 0
        while len(chosen) < 12:
            with np.errstate(over="ignore"):
                counter = (np.uint32(call), np.uint32(0), np.uint32(0), np.uint32(number))
                node = int(word(*counter, *key)[0]) * 50 >> 32
            if joined[node] and node not in chosen:
                chosen.append(node)
            call += 1
        zero = np.zeros(1, dtype=np.int64)
        found = draw_voters(config, streams, zero + number, zero, joined)
        assert found[0].tolist() == sorted(chosen)


def test_every_node_is_drawn_as_often_as_any_other():
    """Counts of a node are Bin(n, k / N), negatively correlated: chi-square with N - 1 degrees.

    Summed over nodes, (count - mean)^2 / (n p (1 - p)) x (N - 1) / N is chi-square with N - 1.
    """
    n_nodes, n_seats, n = 60, 9, 20_000
    counts = np.bincount(drawn(configured(n_nodes, n_seats), np.arange(n)).ravel())
    p = n_seats / n_nodes
    statistic = ((counts - n * p) ** 2).sum() / (n * p * (1 - p)) * (n_nodes - 1) / n_nodes
    low, high = stats.chi2.interval(1 - LEVEL, n_nodes - 1)
    assert low < statistic < high


def test_every_committee_is_as_likely_as_any_other():
    """All 84 committees of 3 among the 9 of 12 nodes that have joined."""
    joined = np.ones(12, dtype=bool)
    joined[[0, 5, 11]] = False
    voters = drawn(configured(12, 3), np.arange(42_000), joined)
    names, counts = np.unique(voters @ np.array([144, 12, 1]), return_counts=True)
    assert len(names) == 84
    assert stats.chisquare(counts).pvalue > LEVEL


def test_where_everyone_has_a_seat_adding_nodes_changes_nothing_for_the_others():
    for nodes in (1, 7, 100, 1_000):
        few, more = drawn(configured(nodes), [0, 3]), drawn(configured(nodes + 1), [0, 3])
        assert few.shape == (2, nodes)
        if nodes < 1_000:
            assert (more[:, :nodes] == few).all()
            assert (more[:, nodes] == nodes).all()
        else:
            assert more.shape == (2, 100), "beyond 1,000 nodes a committee votes"


def test_latecomers_have_no_seat_before_they_join():
    config = configured(10)
    early = np.arange(10) % 3 > 0
    assert drawn(config, [4], early)[0].tolist() == [1, 2, 4, 5, 7, 8, -1, -1, -1, -1]
    assert drawn(config, [4])[0].tolist() == list(range(10))
    assert drawn(config, [4], np.zeros(10, dtype=bool))[0].tolist() == [-1] * 10


@pytest.mark.parametrize("kind", ["none", "centralised"])
def test_isolated_nodes_and_the_centre_decide_alone(kind: str):
    config = configured(2_000, dissemination=kind)
    proposer = np.array([1_999, 0, 7])
    voters = draw_voters(config, Streams(1, 0), np.arange(3), proposer, np.ones(2_000, dtype=bool))
    assert voters.tolist() == [[1_999], [0], [7]]


def test_a_large_network_draws_no_more_numbers_than_seats_need():
    """Candidates are nearly all new: 100 of 100,000 nodes take about 100 calls each."""
    voters = drawn(configured(100_000), np.arange(200))
    assert voters.shape == (200, 100)
    mean = voters.mean()
    error = stats.norm.isf(LEVEL / 2) * 100_000 / np.sqrt(12 * voters.size)
    assert abs(mean - 49_999.5) < error
