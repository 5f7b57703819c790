"""Who learns of proposals and decisions, and when.

Both kinds here ignore the topology: the ledger is read by everyone, isolated nodes by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Deliveries:
    """What one step of dissemination brought."""

    held: Mask
    """Which node newly holds which proposal `[n_proposals, n_nodes]`."""
    informed: Mask
    """Which node newly knows which decision `[n_proposals, n_nodes]`."""
    sent: int = 0
    delivered: int = 0
    lost: int = 0
    in_flight: int = 0


class Dissemination(Protocol):
    """A way for proposals and decisions to travel."""

    shared: bool
    """Whether proposals are seen by the ledger of all, or stay with their proposer."""

    def electorate(self, proposers: NDArray[Any], n_nodes: int) -> Mask:
        """Return who may vote on each proposal `[n_proposals, n_nodes]`."""

    def travel(
        self,
        *,
        old: Mask,
        decided: Mask,
        held: Mask,
        informed: Mask,
        electorate: Mask,
        up: Mask,
    ) -> Deliveries:
        """Return what nodes learn in this step.

        Args:
            old: Proposals published in an earlier step `[n_proposals]`.
            decided: Proposals decided in an earlier step `[n_proposals]`.
            held: Who holds which proposal `[n_proposals, n_nodes]`.
            informed: Who knows which decision.
            electorate: Whom a proposal concerns.
            up: Nodes that are up `[n_nodes]`.
        """


class SharedLedger:
    """Everyone who is up reads the ledger once a step: what was there before the step is known."""

    shared = True

    def electorate(self, proposers: NDArray[Any], n_nodes: int) -> Mask:
        """Return all nodes for each proposal."""
        return np.ones((len(proposers), n_nodes), dtype=np.bool_)

    def travel(
        self,
        *,
        old: Mask,
        decided: Mask,
        held: Mask,
        informed: Mask,
        electorate: Mask,
        up: Mask,
    ) -> Deliveries:
        """Return everything that was published before; each item read is one message."""
        newly_held = old[:, None] & up & electorate & ~held
        newly_informed = decided[:, None] & up & electorate & ~informed
        read = int(newly_held.sum() + newly_informed.sum())
        return Deliveries(newly_held, newly_informed, sent=read, delivered=read)


class Isolated(SharedLedger):
    """Nobody learns of anybody's proposals: each node is the electorate of its own."""

    shared = False

    def electorate(self, proposers: NDArray[Any], n_nodes: int) -> Mask:
        """Return the proposer alone for each proposal."""
        own: Mask = np.arange(n_nodes) == np.asarray(proposers)[:, None]
        return own

    def travel(
        self,
        *,
        old: Mask,
        decided: Mask,
        held: Mask,
        informed: Mask,
        electorate: Mask,
        up: Mask,
    ) -> Deliveries:
        """Return the proposers' own decisions; nothing is sent."""
        own = super().travel(
            old=old,
            decided=decided,
            held=held,
            informed=informed,
            electorate=electorate,
            up=up,
        )
        return Deliveries(own.held, own.informed)


DISSEMINATIONS: dict[str, type[SharedLedger]] = {
    "ledger": SharedLedger,
    "none": Isolated,
}


def make_dissemination(kind: str) -> Dissemination:
    """Return the dissemination that `config.dissemination.kind` names."""
    return DISSEMINATIONS[kind]()
