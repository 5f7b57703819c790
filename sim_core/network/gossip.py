"""Push, pull and push-pull gossip, and flood: proposals and decisions travel by calls.

Gossip: Demers et al., "Epidemic algorithms for replicated database maintenance" (PODC 1987). Rounds
are synchronous: what a call hands over is what was held at the beginning of the step, and who learns
something calls with it from the next step on. A decision starts with its proposer, whom the ledger
tells by one message in the step after it, or as soon as it is up again.

A call is lost as a whole with probability `loss`, and so is one to a node that is down. On the
complete graph only nodes that have joined are called; on others a neighbour that has not joined is
like one that is down.

With `latency` the callee's answer is what it has when it is called; only what carries proposals or
decisions takes time, a pull's request is there at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.network import bits, calls
from sim_core.network.dissemination import (
    DECISION_COPIES,
    DELIVERED,
    SENT,
    Dissemination,
    Exchange,
    Words,
)
from sim_core.network.topology import Network, Topology
from sim_core.randomness import Streams
from sim_core.state import Proposals

Out = tuple[Words, Words, NDArray[np.int64]]
"""Where calls put what they hand over: proposals, decisions, and messages per receiver."""
NONE = np.zeros(0, dtype=np.int64)


class Messages(Dissemination):
    """What all ways have in common that send messages to neighbours.

    State with latency L > 0: `due_held`, `due_informed` `[L, n_nodes, n_words]` and `due_messages`
    `[L, n_nodes]`: what arrives at step t is in row t % L.
    """

    def __init__(self, config: ModelConfig, streams: Streams, topology: Topology) -> None:
        super().__init__(config, streams, topology)
        way: Any = config.dissemination
        self.latency: int = way.latency
        self.batch: int = way.batch
        self.loss = np.uint64(round(way.loss * 2**32))
        """A word of 32 bits below this means that a call is lost."""
        if self.latency:
            self.bitsets = (*self.bitsets, "due_held", "due_informed")

    def init(self) -> Network:
        """Return the state before step 0, that of the topology in it."""
        network = super().init()
        if self.latency:
            for name in ("due_held", "due_informed"):
                network[name] = np.zeros((self.latency, self.n_nodes, 1), dtype=np.uint64)
            network["due_messages"] = np.zeros((self.latency, self.n_nodes), dtype=np.int64)
        return network

    def _exchange(self, network: Network, decided: Proposals, now: Exchange) -> None:
        out: Out = (now.gained_held, now.gained_informed, NONE)
        if self.latency:
            turn = now.step % self.latency
            out = (
                network["due_held"][turn],
                network["due_informed"][turn],
                network["due_messages"][turn],
            )
            calls.receive(*out, now.up, now.gained_held, now.gained_informed, now.counts)
        self._call(network, now, out)
        near = now.up[decided.proposer]
        told = bits.tell_nodes(
            now.informed, now.gained_informed, decided.proposer[near], decided.slot[near]
        )
        now.counts[[SENT, DELIVERED, DECISION_COPIES]] += told

    def _call(self, network: Network, now: Exchange, out: Out) -> None:
        """Add what calls hand over to `out`, whose messages are empty where there is no latency."""
        raise NotImplementedError

    def _in_flight(self, network: Network) -> int:
        return int(network["due_messages"].sum()) if self.latency else 0

    def _rows(self, network: Network) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the neighbours for compiled code, empty for the complete graph."""
        neighbours = self.topology.neighbours(network)
        if neighbours is None:
            return NONE, np.zeros(0, dtype=np.int32)
        return neighbours.indptr, neighbours.indices


class Push(Messages):
    """Who has something that travels calls random neighbours and hands over all of it."""

    pushes, pulls = True, False

    def _call(self, network: Network, now: Exchange, out: Out) -> None:
        way: Any = self.config.dissemination
        calls.call_random_neighbours(
            self.pushes, self.pulls, way.fanout, self.batch, self.loss,
            now.held, now.informed, now.pending, now.decided, now.up,
            *self._rows(network), *_members(now.joined),
            now.step, *self.streams.key("dissemination"), *out, now.counts,
        )  # fmt: skip


class Pull(Push):
    """Every node calls random neighbours and is handed what they have and it lacks."""

    pushes, pulls = False, True


class PushPull(Push):
    """Every node calls random neighbours, hands over all it has and is handed what it lacks."""

    pushes, pulls = True, True


class Flood(Messages):
    """What a node has learned it sends once to all neighbours, in the next step that it is up.

    State: `fresh_held` and `fresh_informed` `[n_nodes, n_words]`: learned and not yet sent.
    """

    bitsets = (*Messages.bitsets, "fresh_held", "fresh_informed")

    def publish(self, network: Network, new: Proposals) -> None:
        """Give new proposals their slots; they are fresh at their proposers."""
        super().publish(network, new)
        bits.set_bits(network["fresh_held"], new.proposer, new.slot)

    def _call(self, network: Network, now: Exchange, out: Out) -> None:
        fresh_held, fresh_informed = network["fresh_held"], network["fresh_informed"]
        calls.call_all_neighbours(
            self.batch, self.loss, fresh_held, fresh_informed, now.pending, now.decided,
            now.up, now.joined, *self._rows(network),
            now.step, *self.streams.key("dissemination"), *out, now.counts,
        )  # fmt: skip
        calls.drop_sent(fresh_held, now.pending, now.up)
        calls.drop_sent(fresh_informed, now.decided, now.up)

    def _note_news(self, network: Network, now: Exchange) -> None:
        network["fresh_held"] |= now.gained_held
        network["fresh_informed"] |= now.gained_informed


def _members(joined: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return who has joined (empty: all have), and each node's place among them.

    >>> _members(np.array([True, False, True]))
    (array([0, 2]), array([0, 1, 1]))
    """
    if joined.all():
        return NONE, np.arange(len(joined))
    return np.flatnonzero(joined), np.cumsum(joined) - joined
