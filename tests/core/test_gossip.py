"""Gossip and flood: the law of gossip time on the complete graph, and what calls cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sim_core.consensus import Outcome
from tests.core.test_topology import adjacency_of
from tests.network_tools import Wire, network_config

WITHIN = 3.29
"""Standard errors of a 99.9 % interval."""
Chain = NDArray[np.float64]


def push_chain(n: int, p: float) -> Chain:
    """Return P(i informed become j) in a round of calls that each arrive with probability p."""
    chain = np.zeros((n + 1, n + 1))
    for i in range(1, n + 1):
        informed = np.zeros(n + 1)
        informed[i] = 1
        for _ in range(i):  # callers one by one: does this one find somebody new?
            finds = p * (n - np.arange(n + 1)) / (n - 1)
            informed = informed * (1 - finds) + np.roll(informed * finds, 1)
        chain[i] = informed
    return chain


def pull_chain(n: int, p: float) -> Chain:
    """Return P(i informed become j) where each of the others calls one node."""
    chain = np.zeros((n + 1, n + 1))
    for i in range(1, n + 1):
        chain[i, i:] = stats.binom.pmf(np.arange(n - i + 1), n - i, p * i / (n - 1))
    return chain


def push_pull_chain(n: int, p: float) -> Chain:
    """Return P(i informed become j) where everybody calls and both sides learn."""
    pushed, chain = push_chain(n, p), np.zeros((n + 1, n + 1))
    for i in range(1, n + 1):
        for j in range(i, n + 1):  # whom no push reached may still have called an informed node
            called = stats.binom.pmf(np.arange(n - j + 1), n - j, p * i / (n - 1))
            chain[i, j:] += pushed[i, j] * called
    return chain


CHAINS = {"push": push_chain, "pull": pull_chain, "push_pull": push_pull_chain}


def exact_time(kind: str, n: int, p: float) -> tuple[float, float]:
    """Return mean and standard deviation of the rounds until all n are informed."""
    step = CHAINS[kind](n, p)[1:n, 1:n]
    gone = np.linalg.inv(np.eye(n - 1) - step)
    mean = gone.sum(axis=1)
    second = gone @ (2 * mean - 1)
    return float(mean[0]), float(np.sqrt(second[0] - mean[0] ** 2))


def gossip_times(kind: str, n: int, p: float, n_runs: int) -> NDArray[np.int64]:
    """Return the steps until everyone held the one proposal, in runs of their own."""
    config = network_config(n, way={"kind": kind, "loss": 1 - p})
    times = np.empty(n_runs, dtype=np.int64)
    for replicate in range(n_runs):
        wire = Wire(config, replicate)
        wire.publish([replicate % n])
        wire.run_step()
        while not wire.held.all():
            assert wire.step < 1_000, "somebody is never called"
            wire.run_step()
        times[replicate] = wire.step - 1
    return times


def check_time(kind: str, n: int, p: float, n_runs: int) -> None:
    mean, sd = exact_time(kind, n, p)
    times = gossip_times(kind, n, p, n_runs)
    assert times.mean() == pytest.approx(mean, abs=WITHIN * sd / np.sqrt(n_runs))
    assert times.std() == pytest.approx(sd, rel=0.15)


@pytest.mark.parametrize(
    ("n", "push", "sd", "pull"),
    [
        (8, 5.3779, 1.2244, 4.5262),
        (16, 7.4138, 1.3161, 6.1403),
        (32, 9.3293, 1.3370, 7.6079),
        (128, 12.9310, 1.3303, 10.2407),
    ],
)
def test_chain_of_this_test_gives_the_published_gossip_times(
    n: int, push: float, sd: float, pull: float
):
    assert exact_time("push", n, 1.0) == pytest.approx((push, sd), abs=1e-4)
    assert exact_time("pull", n, 1.0)[0] == pytest.approx(pull, abs=1e-4)


def test_chain_of_this_test_gives_the_published_lossy_times():
    assert exact_time("push", 64, 0.5) == pytest.approx((20.4740, 3.2184), abs=1e-4)
    assert exact_time("push", 64, 0.9) == pytest.approx((12.1937, 1.5481), abs=1e-4)


@pytest.mark.parametrize("n", [8, 32, 128])
@pytest.mark.parametrize("kind", ["push", "pull"])
def test_gossip_time_on_the_complete_graph(kind: str, n: int):
    check_time(kind, n, 1.0, 1_500)


@pytest.mark.parametrize(
    ("kind", "n", "p"),
    [
        ("push", 64, 0.5),
        ("push", 64, 0.9),
        ("push", 5, 0.4),
        ("pull", 20, 0.6),
        ("push_pull", 24, 1.0),
        ("push_pull", 24, 0.7),
    ],
)
def test_gossip_time_with_loss_and_for_other_numbers(kind: str, n: int, p: float):
    check_time(kind, n, p, 1_500)


def test_published_time_of_push_among_a_thousand():
    times = gossip_times("push", 1_024, 1.0, 300)
    assert times.mean() == pytest.approx(18.0967, abs=WITHIN * 1.3184 / np.sqrt(300))


def test_calls_go_to_all_others_alike_and_never_to_oneself():
    n, n_steps = 6, 4_000
    wire = Wire(network_config(n, way={"kind": "push", "fanout": 3}))
    count = np.zeros(n)
    for _ in range(n_steps):
        wire.publish([2])
        wire.network["held"][:, 0] = np.where(np.arange(n) == 2, 1, 0)
        wire.step += 1
        wire.travel()
        count += wire.held[:, 0]
        wire.network["taken"][:] = False
        wire.proposals = wire.proposals.take(slice(0, 0))
    assert count[2] == n_steps  # it had it before
    reached = 1 - (1 - 1 / (n - 1)) ** 3
    error = WITHIN * np.sqrt(n_steps * reached * (1 - reached))
    assert np.delete(count, 2) == pytest.approx(n_steps * reached, abs=error)


def reached_at(wire: Wire, steps: int) -> NDArray[np.int64]:
    """Return the step in which each node first held proposal 0, -1 is never."""
    first = np.full(wire.n_nodes, -1)
    for _ in range(steps):
        wire.travel()
        first[wire.held[:, 0] & (first < 0)] = wire.step
        wire.retire()
    return first


def distances(links: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    distance = np.full(len(links), -1)
    reached = np.arange(len(links)) == start
    for steps in range(len(links)):
        distance[reached & (distance < 0)] = steps
        reached = reached | (links @ reached > 0)
    return distance


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_flood_takes_the_shortest_paths_and_sends_once_over_each_edge(latency: int):
    topology = {"kind": "random", "mean_degree": 4.0}
    wire = Wire(network_config(60, topology, {"kind": "flood", "latency": latency}))
    wire.publish([5])
    links = adjacency_of(wire.topology, wire.network)
    distance = distances(links, 5)
    sent, first = 0, np.full(60, -1)
    for _ in range(60 * (latency + 1)):
        sent += wire.travel().sent
        first[wire.held[:, 0] & (first < 0)] = wire.step
        wire.retire()
    expected = np.where(distance > 0, distance * (latency + 1), distance)
    np.testing.assert_array_equal(first, expected)
    assert sent == links[distance >= 0].sum()


def test_flood_loses_each_senders_calls_on_their_own():
    wire = Wire(network_config(3_000, way={"kind": "flood", "loss": 0.3}))
    wire.publish([0])
    wire.run_step()
    arrived = wire.run_step()
    n = 2_999
    assert (arrived.sent, arrived.delivered + arrived.lost) == (n, n)
    assert arrived.lost / n == pytest.approx(0.3, abs=WITHIN * np.sqrt(0.21 / n))


def test_flood_waits_for_a_node_that_is_down_to_send_what_it_has():
    wire = Wire(network_config(5, "ring", "flood"))
    wire.publish([0])
    wire.run_step()
    wire.up = np.arange(5) != 0
    assert wire.run_step().sent == 0
    wire.up = wire.joined
    assert wire.run_step().sent == 2
    np.testing.assert_array_equal(wire.held[:, 0], [True, True, False, False, True])


@pytest.mark.parametrize("kind", ["push", "pull", "push_pull"])
@pytest.mark.parametrize("latency", [1, 4])
def test_latency_delays_the_same_calls(kind: str, latency: int):
    swift, slow = (Wire(network_config(12, way={"kind": kind, "latency": n})) for n in (0, latency))
    for wire in (swift, slow):
        wire.publish([3])
        wire.run_step()
    swift.travel()
    want = swift.held.copy()
    for _ in range(latency):
        slow.run_step()
        assert slow.held.sum() == 1
    slow.travel()
    np.testing.assert_array_equal(slow.held & want, want)


def test_who_is_down_on_arrival_loses_the_message():
    wire = Wire(network_config(2, way={"kind": "push", "latency": 2}))
    wire.publish([0])
    wire.run_step()
    assert (wire.run_step().in_flight, wire.step) == (1, 2)
    wire.run_step()
    wire.up = np.array([True, False])
    arrived = wire.run_step()  # of the call two steps ago, and one to a node that is down
    assert (arrived.sent, arrived.lost, arrived.in_flight) == (1, 2, 1)
    assert not wire.held[1, 0]


def test_what_was_lost_on_arrival_does_not_come_later():
    wire = Wire(network_config(2, way={"kind": "push", "latency": 2}))
    wire.publish([0])
    wire.run_step()
    wire.run_step()  # the only call
    wire.up = np.zeros(2, dtype=bool)
    arrived = [wire.run_step() for _ in range(2)]
    assert [a.lost for a in arrived] == [0, 1]
    wire.up = np.array([False, True])
    arrived = [wire.run_step() for _ in range(6)]
    assert not wire.held[1, 0]
    assert [(a.delivered, a.in_flight) for a in arrived] == [(0, 0)] * 6


def test_messages_of_each_kind_of_call():
    def costs(kind: str, proposers: list[int], batch: int) -> tuple[int, ...]:
        wire = Wire(network_config(2, way={"kind": kind, "batch": batch}))
        wire.publish(proposers)
        wire.run_step()
        arrived = wire.run_step()
        return arrived.sent, arrived.delivered, arrived.proposal_copies

    assert costs("push", [0] * 5, 2) == (3, 3, 5)
    assert costs("push", [0, 1, 1], 2) == (2, 2, 3)
    assert costs("push", [], 2) == (0, 0, 0)
    assert costs("pull", [0] * 5, 2) == (2 + 3, 5, 5)
    assert costs("pull", [], 2) == (2, 2, 0)
    assert costs("push_pull", [0] * 5, 2) == (3 + 1 + 3, 7, 10)  # pushed, and pulled as well
    assert costs("push_pull", [], 2) == (2, 2, 0)
    assert costs("flood", [0] * 5, 2) == (3, 3, 5)


@pytest.mark.parametrize(("kind", "again"), [("pull", 2), ("push_pull", 4)])
def test_only_what_the_caller_lacks_is_answered(kind: str, again: int):
    wire = Wire(network_config(2, way={"kind": kind, "batch": 2}))
    wire.publish([0, 0, 0, 1])
    wire.run_step()
    mine = {"pull": 1 + 1, "push_pull": 2 + 1}[kind]
    assert wire.run_step().sent == mine + 1 + 2
    assert wire.held.all()
    arrived = wire.run_step()
    assert (arrived.sent, arrived.proposal_copies) == (again, {"pull": 0, "push_pull": 8}[kind])


def test_a_lost_call_costs_its_messages_and_no_answer():
    n = 4_000
    for kind, share in (("pull", 0.25), ("push_pull", 0.25)):
        wire = Wire(network_config(n, way={"kind": kind, "loss": share}))
        wire.run_step()
        arrived = wire.run_step()
        assert arrived.sent == n
        error = WITHIN * np.sqrt(share * (1 - share) / n)
        assert arrived.lost / n == pytest.approx(share, abs=error)


def test_a_decision_starts_at_the_proposer_when_it_is_up_and_takes_one_message():
    wire = Wire(network_config(3, way="push"))
    wire.publish([1])
    wire.decide([0])
    wire.run_step()
    wire.up = np.array([True, False, True])
    assert wire.run_step().sent == 0
    wire.up = wire.joined
    arrived = wire.run_step()
    assert (arrived.sent, arrived.delivered, arrived.decision_copies) == (1, 1, 1)
    assert (arrived.row.tolist(), arrived.node.tolist()) == ([0], [1])
    arrived = wire.run_step()  # now it calls
    assert (arrived.sent, len(arrived.node)) == (1, 1)


def test_a_decided_proposal_travels_no_more_only_its_decision():
    wire = Wire(network_config(40, way="push"))
    wire.publish([0])
    for _ in range(3):
        wire.run_step()
    wire.travel()
    wire.decide([0], Outcome.REJECTED)
    wire.retire()
    had = wire.held[:, 0].copy()
    for _ in range(20):
        arrived = wire.travel()
        assert arrived.proposal_copies == 0
        assert not len(arrived.row), "a rejection goes into no blacklist"
        if wire.informed.all():
            break
        np.testing.assert_array_equal(wire.held[:, 0], had)
        wire.retire()
    assert wire.informed.all()
    assert not wire.retire().any()


def test_nodes_that_have_not_joined_are_not_called_on_the_complete_graph():
    wire = Wire(network_config(50, way={"kind": "push", "fanout": 4}))
    wire.joined = wire.up = np.arange(50) % 5 == 0
    wire.publish([10])
    lost = 0
    for _ in range(30):
        lost += wire.run_step().lost
    assert lost == 0
    np.testing.assert_array_equal(wire.held[:, 0], wire.joined)


def test_a_single_node_and_one_without_neighbours_call_nobody(tmp_path: Path):
    path = tmp_path / "edges"
    path.write_text("0 1\n")
    for way in ("push", "pull", "push_pull", "flood"):
        alone: list[Any] = [network_config(1, way=way)]
        alone.append(network_config(3, {"kind": "edge_list", "path": str(path)}, way))
        for config in alone:
            wire = Wire(config)
            wire.publish([wire.n_nodes - 1])
            wire.up = np.arange(wire.n_nodes) == wire.n_nodes - 1
            assert sum(wire.run_step().sent for _ in range(5)) == 0


@pytest.mark.parametrize("kind", ["push", "pull", "push_pull", "flood"])
def test_a_node_more_changes_no_other_nodes_calls_on_a_ring(kind: str):
    held = []
    for n in (40, 41):
        wire = Wire(network_config(n, {"kind": "ring"}, {"kind": kind, "loss": 0.3}))
        wire.publish([20])
        for _ in range(10):
            wire.run_step()
        held.append(wire.held[5:35, 0])
    np.testing.assert_array_equal(*held)
