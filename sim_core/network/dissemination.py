"""How proposals and decisions reach nodes: what all ways have in common, and those without calls.

A proposal travels while it is pending, from the step after its publication; its decision travels
from the step after it fell. Who holds which proposal and who is informed of which decision are bits
(see `bits`): each proposal has a slot, the lowest that is free, and gives it back when its decision
has stopped travelling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.network import bits
from sim_core.network.topology import Network, Topology
from sim_core.randomness import Streams
from sim_core.state import Proposals

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]
SENT, DELIVERED, LOST, PROPOSAL_COPIES, DECISION_COPIES, N_COUNTS = range(6)
"""Places in the counts of a step."""


@dataclass(frozen=True)
class Deliveries:
    """What one step of dissemination brought, and what it cost."""

    row: NDArray[np.int64]
    """Rows of the confirmed proposals whose decision reached a node, by row, then by node."""
    node: NDArray[np.int64]
    """The node that each of these reached."""
    held: Words
    """Bits of proposals that a node newly holds `[n_nodes, n_words]`, or empty."""
    informed: Words
    """Bits of decisions that a node is newly informed of `[n_nodes, n_words]`, or empty."""
    sent: int = 0
    """Messages sent in this step; over a run sent = delivered + lost + in flight."""
    delivered: int = 0
    lost: int = 0
    in_flight: int = 0
    """Messages that are under way after this step."""
    proposal_copies: int = 0
    """Copies of proposals in the messages sent in this step."""
    decision_copies: int = 0


@dataclass(frozen=True)
class Exchange:
    """One step's exchange: what nodes have at its beginning, and arrays for what it brings."""

    step: int
    up: Mask
    """Nodes that are up and have joined `[n_nodes]`."""
    joined: Mask
    pending: Words
    """Bits of the proposals that travel `[n_words]`."""
    decided: Words
    """Bits of the proposals whose decision travels."""
    held: Words
    """Who holds which proposal `[n_nodes, n_words]`."""
    informed: Words
    gained_held: Words
    """What nodes are handed in this step, all zero at its beginning."""
    gained_informed: Words
    counts: NDArray[np.int64]
    """Messages and copies, in the order of SENT, DELIVERED, ..."""


class Dissemination:
    """A way for proposals and decisions to travel; a subclass says how in `_exchange`.

    State: `held` and `informed`, uint64 `[n_nodes, n_words]`, and `taken`, which slots are in use
    `[64 n_words]`; the words of all arrays of bits are their last axis.
    """

    shared = True
    """Whether signatures are compared with everybody's, or each node keeps to its own."""
    bitsets: tuple[str, ...] = ("held", "informed")
    """Names of the arrays of bits in the state."""

    def __init__(self, config: ModelConfig, streams: Streams, topology: Topology) -> None:
        self.config = config
        self.streams = streams
        self.topology = topology
        self.n_nodes = config.simulation.nodes

    def init(self) -> Network:
        """Return the state before step 0, that of the topology in it."""
        network: Network = {}
        self.topology.init(network)
        for name in self.bitsets:
            network[name] = np.zeros((self.n_nodes, 1), dtype=np.uint64)
        network["taken"] = np.zeros(bits.WORD_BITS, dtype=np.bool_)
        return network

    def publish(self, network: Network, new: Proposals) -> None:
        """Give new proposals their slots, in place, and let their proposers hold them."""
        missing = len(new) - int(np.count_nonzero(~network["taken"]))
        if missing > 0:
            self._grow(network, -(-missing // bits.WORD_BITS))
        new.slot[:] = np.flatnonzero(~network["taken"])[: len(new)]
        network["taken"][new.slot] = True
        bits.set_bits(network["held"], new.proposer, new.slot)

    def travel(
        self, network: Network, proposals: Proposals, step: int, up: Mask, joined: Mask
    ) -> Deliveries:
        """Phase 5: hand over what travels; return what arrived and what it cost."""
        held, informed, slot = network["held"], network["informed"], proposals.slot
        is_pending = (proposals.outcome == Outcome.PENDING) & (proposals.step < step)
        is_decided = (proposals.decided >= 0) & (proposals.decided < step)
        now = Exchange(
            step=step,
            up=up & joined,
            joined=joined,
            pending=bits.slots_mask(slot, is_pending, held.shape[1]),
            decided=bits.slots_mask(slot, is_decided, held.shape[1]),
            held=held,
            informed=informed,
            gained_held=np.zeros_like(held),
            gained_informed=np.zeros_like(informed),
            counts=np.zeros(N_COUNTS, dtype=np.int64),
        )
        self._exchange(network, proposals.take(is_decided), now)
        bits.add_news(held, now.gained_held)
        bits.add_news(informed, now.gained_informed)
        self._note_news(network, now)
        is_confirmed = is_decided & (proposals.outcome == Outcome.CONFIRMED)
        row, node = bits.set_pairs(now.gained_informed, slot, is_confirmed)
        return Deliveries(
            row,
            node,
            now.gained_held,
            now.gained_informed,
            sent=int(now.counts[SENT]),
            delivered=int(now.counts[DELIVERED]),
            lost=int(now.counts[LOST]),
            in_flight=self._in_flight(network),
            proposal_copies=int(now.counts[PROPOSAL_COPIES]),
            decision_copies=int(now.counts[DECISION_COPIES]),
        )

    def holding(self, network: Network, proposals: Proposals, rows: NDArray[np.int64]) -> Mask:
        """Return whether the voter in each seat holds that proposal `[len(rows), n_voters]`."""
        held = np.zeros((len(rows), proposals.voters.shape[1]), dtype=np.bool_)
        bits.seats_held(network["held"], proposals.voters, proposals.slot, rows, held)
        return held

    def retire(self, network: Network, proposals: Proposals, step: int, joined: Mask) -> Mask:
        """Phase 8: return which proposals stay `[n]`, and free the slots of the others.

        Pending ones stay; a decision stays until all nodes that have joined are informed, and for
        its lifetime at most.
        """
        lifetime = self.config.dissemination.lifetime
        is_decided = proposals.decided >= 0
        stays: Mask = ~is_decided | (step - proposals.decided < lifetime)
        if is_decided.any():
            known = bits.known_to_all(network["informed"], joined)
            word = known[proposals.slot // bits.WORD_BITS]
            bit = (proposals.slot % bits.WORD_BITS).astype(np.uint64)
            stays &= ~is_decided | ((word >> bit) & np.uint64(1) == 0)
        if not stays.all():
            self._free(network, proposals.slot, ~stays)
        return stays

    def _exchange(self, network: Network, decided: Proposals, now: Exchange) -> None:
        """Add what nodes are handed to the gains of `now`, and what it costs to its counts.

        `decided` are the proposals whose decision travels.
        """
        raise NotImplementedError

    def _note_news(self, network: Network, now: Exchange) -> None:
        """Keep what the next step must know of this one's news."""

    def _in_flight(self, network: Network) -> int:
        """Return the number of messages that are under way."""
        del network
        return 0

    def _grow(self, network: Network, n_words: int) -> None:
        """Add words to all arrays of bits."""
        for name in self.bitsets:
            width = [(0, 0)] * (network[name].ndim - 1) + [(0, n_words)]
            network[name] = np.pad(network[name], width)
        network["taken"] = np.pad(network["taken"], (0, n_words * bits.WORD_BITS))

    def _free(self, network: Network, slot: NDArray[np.int64], gone: Mask) -> None:
        """Give slots back: no node holds, knows or is sent what was in them."""
        kept = ~bits.slots_mask(slot, gone, network["held"].shape[1])
        for name in self.bitsets:
            network[name] &= kept
        network["taken"][slot[gone]] = False


class SharedLedger(Dissemination):
    """Everyone who is up reads the ledger once a step; each item read is one message."""

    def _exchange(self, network: Network, decided: Proposals, now: Exchange) -> None:
        del network, decided
        bits.fill_rows(now.gained_held, now.up, now.pending)
        bits.fill_rows(now.gained_informed, now.up, now.decided)
        now.counts[PROPOSAL_COPIES] = bits.count_news(now.held, now.gained_held)
        now.counts[DECISION_COPIES] = bits.count_news(now.informed, now.gained_informed)
        read = now.counts[PROPOSAL_COPIES] + now.counts[DECISION_COPIES]
        now.counts[[SENT, DELIVERED]] = read


class Centralised(Dissemination):
    """A centre decides alone; nodes send it their traffic and read its decisions.

    Proposals stay with the centre, which votes at once. Each node that is up sends one message a
    step, its traffic; each decision read is one message.
    """

    def publish(self, network: Network, new: Proposals) -> None:
        """Give new proposals their slots; no node holds them."""
        super().publish(network, new)
        network["held"][:] = 0

    def holding(self, network: Network, proposals: Proposals, rows: NDArray[np.int64]) -> Mask:
        """Return that the centre holds everything."""
        del network
        held: Mask = proposals.voters[rows] >= 0
        return held

    def _exchange(self, network: Network, decided: Proposals, now: Exchange) -> None:
        del network, decided
        bits.fill_rows(now.gained_informed, now.up, now.decided)
        now.counts[DECISION_COPIES] = bits.count_news(now.informed, now.gained_informed)
        now.counts[[SENT, DELIVERED]] = now.counts[DECISION_COPIES] + np.count_nonzero(now.up)


class Isolated(Dissemination):
    """Nobody learns of anybody's proposals: each node decides on its own; nothing is sent.

    State: `reached`, the nodes that were up in the last step `[n_nodes]`; there are no bits, since
    there is a proposal per node and not one for all.
    """

    shared = False
    bitsets = ()

    def init(self) -> Network:
        """Return the state before step 0, that of the topology in it."""
        network: Network = {"reached": np.zeros(self.n_nodes, dtype=np.bool_)}
        self.topology.init(network)
        return network

    def publish(self, network: Network, new: Proposals) -> None:
        """Leave new proposals with their proposers, without slots."""
        del network
        new.slot[:] = -1

    def travel(
        self, network: Network, proposals: Proposals, step: int, up: Mask, joined: Mask
    ) -> Deliveries:
        """Phase 5: let proposers that are up take in what they decided in earlier steps."""
        network["reached"] = up & joined
        is_confirmed = proposals.outcome == Outcome.CONFIRMED
        is_due = is_confirmed & (proposals.decided >= 0) & (proposals.decided < step)
        row = np.flatnonzero(is_due & network["reached"][proposals.proposer])
        none: Words = np.zeros((self.n_nodes, 0), dtype=np.uint64)
        return Deliveries(row, proposals.proposer[row], none, none)

    def holding(self, network: Network, proposals: Proposals, rows: NDArray[np.int64]) -> Mask:
        """Return that proposers hold their own."""
        del network
        own: Mask = proposals.voters[rows] == proposals.proposer[rows, None]
        return own

    def retire(self, network: Network, proposals: Proposals, step: int, joined: Mask) -> Mask:
        """Phase 8: return which proposals stay: pending ones, and those not yet taken in."""
        del joined
        age = step - proposals.decided
        is_over = (age > 0) & network["reached"][proposals.proposer]
        is_over |= age >= self.config.dissemination.lifetime
        stays: Mask = (proposals.decided < 0) | ~is_over
        return stays
