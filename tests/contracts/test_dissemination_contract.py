"""What every dissemination in the registry must do, over topologies, churn and late joiners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from sim_core.consensus import Outcome
from sim_core.network import DISSEMINATIONS, Deliveries
from tests.network_tools import Wire, network_config, unpacked

N_NODES = 20
EXTRAS: dict[str, list[dict[str, Any]]] = {
    kind: [{}, {"latency": 2, "loss": 0.2, "batch": 2}]
    for kind in ("push", "pull", "push_pull", "flood")
}
WAYS = [{"kind": k, "lifetime": 60} | e for k in DISSEMINATIONS for e in EXTRAS.get(k, [{}])]
TOPOLOGIES: list[dict[str, Any]] = [
    {"kind": "complete"},
    {"kind": "ring", "neighbours": 4},
    {"kind": "lattice", "walk_rate": 0.3},
    {"kind": "scale_free"},
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
every_topology = pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t["kind"])


@dataclass
class Moment:
    """The wire after phase 5 of a step, what arrived, and what was known before."""

    wire: Wire
    arrived: Deliveries
    before: dict[str, Any]
    up: Any


def story(topology: dict[str, Any], way: dict[str, Any], steps: int = 60) -> Iterator[Moment]:
    """Yield the steps of a run with churn and late joiners, new proposals and decisions."""
    wire, rng = Wire(network_config(N_NODES, topology, way)), np.random.default_rng(5)
    wire.joined = np.arange(N_NODES) < 15
    for step in range(steps):
        if step == 20:
            wire.joined = np.ones(N_NODES, dtype=bool)
        wire.up = rng.random(N_NODES) < 0.8
        if step < steps / 2:
            wire.publish(rng.choice(np.flatnonzero(wire.joined), size=rng.integers(5)))
        before = {k: v.copy() for k, v in wire.network.items()}
        yield Moment(wire, wire.travel(), before, wire.up & wire.joined)
        pending = np.flatnonzero(wire.proposals.outcome == Outcome.PENDING)
        rows = pending[rng.random(len(pending)) < 0.15]
        wire.decide(rows, Outcome.CONFIRMED if step % 3 else Outcome.EXPIRED)
        wire.retire()


@every_way
@every_topology
def test_only_news_that_travel_arrive_and_only_at_nodes_that_are_up(
    topology: dict[str, Any], way: dict[str, Any]
):
    for moment in story(topology, way):
        proposals, step, before = moment.wire.proposals, moment.wire.step, moment.before
        if not moment.arrived.held.size:
            assert way["kind"] == "none"
            continue
        published = proposals.slot[proposals.step < step]
        decided = proposals.slot[(proposals.decided >= 0) & (proposals.decided < step)]
        for name, allowed in (("held", published), ("informed", decided)):
            new, old = unpacked(getattr(moment.arrived, name)), unpacked(before[name])
            after = unpacked(moment.wire.network[name])
            assert not (new & old).any()
            np.testing.assert_array_equal(after, old | new)
            assert not new[~moment.up].any()
            assert not np.delete(new, allowed, axis=1).any()


@every_way
@every_topology
def test_pairs_are_the_confirmed_decisions_that_arrived_in_order(
    topology: dict[str, Any], way: dict[str, Any]
):
    seen: set[tuple[int, int]] = set()
    for moment in story(topology, way):
        proposals, arrived = moment.wire.proposals, moment.arrived
        pairs = list(zip(arrived.row.tolist(), arrived.node.tolist(), strict=True))
        assert pairs == sorted(set(pairs))
        assert (proposals.outcome[arrived.row] == Outcome.CONFIRMED).all()
        assert (proposals.decided[arrived.row] < moment.wire.step).all()
        assert moment.up[arrived.node].all()
        numbered = {(int(proposals.number[row]), node) for row, node in pairs}
        assert not numbered & seen, "everyone is informed once"
        seen |= numbered
        if arrived.informed.size:
            confirmed = np.flatnonzero(proposals.outcome == Outcome.CONFIRMED)
            new = unpacked(arrived.informed)[:, proposals.slot[confirmed]]
            index, node = np.nonzero(new.T)
            assert pairs == list(zip(confirmed[index].tolist(), node.tolist(), strict=True))
    assert seen


@every_way
@every_topology
def test_messages_of_a_run_balance(topology: dict[str, Any], way: dict[str, Any]):
    sent = delivered = lost = 0
    for moment in story(topology, way):
        arrived = moment.arrived
        sent, delivered = sent + arrived.sent, delivered + arrived.delivered
        lost += arrived.lost
        counts = (arrived.sent, arrived.delivered, arrived.lost, arrived.in_flight)
        counts += (arrived.proposal_copies, arrived.decision_copies)
        assert all(type(count) is int and count >= 0 for count in counts)
        assert sent == delivered + lost + arrived.in_flight
    assert (sent > 0) == (way["kind"] != "none")
    assert (lost > 0) == (way["kind"] in EXTRAS), "calls to nodes that are down"


@every_way
@every_topology
def test_everyone_knows_in_the_end_and_all_slots_come_back(
    topology: dict[str, Any], way: dict[str, Any]
):
    patient = way | {"lifetime": 1_000}
    wire = Wire(network_config(N_NODES, topology, patient))
    wire.publish(range(6))
    informed: set[tuple[int, int]] = set()
    flood_may_fail = way["kind"] == "flood" and "loss" in way
    for step in range(400):
        arrived = wire.travel()
        number = wire.proposals.number[arrived.row].tolist()
        informed |= set(zip(number, arrived.node.tolist(), strict=True))
        if step == 200:
            held = wire.way.holding(wire.network, wire.proposals, np.arange(6))
            assert held.all() or flood_may_fail
            wire.decide(slice(None))
        wire.retire()
    everyone = range(N_NODES)
    concerned = {(i, j) for i in range(6) for j in ([i] if way["kind"] == "none" else everyone)}
    assert informed == concerned or (flood_may_fail and informed < concerned)
    assert len(wire.proposals) == 0 or flood_may_fail
    if not flood_may_fail and way["kind"] != "none":
        assert not wire.network["taken"].any()
        for name in ("held", "informed", "due_held", "due_informed"):
            assert not wire.network.get(name, np.zeros(1)).any()


@every_way
def test_holding_is_told_per_seat_and_empty_seats_hold_nothing(way: dict[str, Any]):
    wire = Wire(network_config(N_NODES, way=way))
    wire.publish([4, 7])
    wire.travel()
    held = wire.way.holding(wire.network, wire.proposals, np.array([1, 0]))
    assert held.shape == (2, wire.n_seats)
    if wire.n_seats == 1:
        assert held.all()
    else:
        np.testing.assert_array_equal(np.argwhere(held), [[0, 7], [1, 4]])
    wire.proposals.voters[:] = -1
    assert not wire.way.holding(wire.network, wire.proposals, np.arange(2)).any()


@every_way
def test_pending_proposals_stay_and_decisions_go_after_their_lifetime(way: dict[str, Any]):
    wire = Wire(network_config(N_NODES, way=way | {"lifetime": 5}))
    wire.publish([0, 1])
    wire.travel()
    wire.decide([1])
    wire.retire()
    wire.up = np.zeros(N_NODES, dtype=bool)
    for step in range(1, 10):
        assert len(wire.proposals) == (2 if step <= 5 else 1)
        wire.run_step()
    assert wire.proposals.number.tolist() == [0]


@pytest.mark.parametrize("kind", [k for k in DISSEMINATIONS if k != "none"])
def test_slots_are_the_lowest_free_ones_and_more_words_come_when_needed(kind: str):
    way: dict[str, Any] = {"kind": kind, "lifetime": 1}
    if kind in EXTRAS:
        way["latency"] = 2
    wire = Wire(network_config(N_NODES, way=way))
    wire.publish(np.arange(70) % N_NODES)
    assert wire.proposals.slot.tolist() == list(range(70))
    assert wire.network["held"].shape == (N_NODES, 2)
    for _ in range(4):
        wire.run_step()
    wire.travel()
    gone = np.array([3, 65, 10])
    wire.decide(gone)
    wire.retire()
    wire.run_step()
    wire.publish([0, 1, 2, 3])
    assert wire.proposals.slot[-4:].tolist() == [3, 10, 65, 70]
    if kind != "centralised":
        np.testing.assert_array_equal(np.argwhere(wire.held[:, -4:]), [[i, i] for i in range(4)])
    assert not wire.informed[:, -4:].any()


@every_way
@every_topology
def test_a_copy_of_the_state_goes_on_alike(topology: dict[str, Any], way: dict[str, Any]):
    moments = [story(topology, way, 30), story(topology, way, 30)]
    for one, two in zip(*moments, strict=True):
        for name in ("row", "node", "held", "informed", "sent", "lost", "in_flight"):
            np.testing.assert_array_equal(getattr(one.arrived, name), getattr(two.arrived, name))
        two.wire.network.update({k: v.copy() for k, v in two.wire.network.items()})


@every_way
def test_a_decision_that_all_who_have_joined_know_travels_no_more(way: dict[str, Any]):
    reliable = {k: v for k, v in way.items() if k != "loss"} | {"lifetime": 1_000}
    wire = Wire(network_config(N_NODES, way=reliable))
    wire.joined = wire.up = np.arange(N_NODES) < 6
    wire.publish([0])
    wire.travel()
    wire.decide([0])
    wire.retire()
    for _ in range(60):
        wire.run_step()
    assert len(wire.proposals) == 0
