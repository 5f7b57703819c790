"""Consensus rules: when a proposal is confirmed, rejected or expired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import (
    BftConsensus,
    ConsensusBase,
    MajorityConsensus,
    SupermajorityConsensus,
    WeightedConsensus,
)

Counts = NDArray[np.int64]
Rule = Callable[[Any, Counts, Counts], NDArray[np.bool_]]
"""(config, votes to accept, votes that shares are taken of) -> whether that confirms."""
WEIGHT_UNIT = 65_536
"""Weight of a vote whose voter's mean reputation is 1; weights are whole, so that sums are exact."""


class Outcome(IntEnum):
    """What became of a proposal, as the ledger stores it."""

    PENDING = 0
    CONFIRMED = 1
    REJECTED = 2
    EXPIRED = 3


@dataclass(frozen=True)
class Tally:
    """Votes on proposals, counted or weighed; arrays `[n_proposals]`."""

    accept: Counts
    reject: Counts
    registered: Counts
    """All who may vote."""
    outstanding: Counts
    """Those who may vote and have neither voted nor abstained."""

    @classmethod
    def join(cls, parts: Sequence[Tally]) -> Tally:
        """Return the votes of several parts, of which there is one at least, in their order."""
        return cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )

    def take(self, rows: NDArray[np.int64]) -> Tally:
        """Return the votes on some of the proposals."""
        return Tally(
            self.accept[rows], self.reject[rows], self.registered[rows], self.outstanding[rows]
        )


def majority(
    config: MajorityConsensus | WeightedConsensus, accept: Counts, base: Counts
) -> NDArray[np.bool_]:
    """Return whether more than half accept.

    >>> majority(MajorityConsensus(), np.array([5, 6]), np.array([10, 10]))
    array([False,  True])
    """
    del config
    more: NDArray[np.bool_] = 2 * accept > base
    return more


def supermajority(
    config: SupermajorityConsensus, accept: Counts, base: Counts
) -> NDArray[np.bool_]:
    """Return whether at least `config.share` accept.

    >>> supermajority(SupermajorityConsensus(share=2 / 3), np.array([5, 6]), np.array([9, 9]))
    array([False,  True])
    """
    enough: NDArray[np.bool_] = (accept > 0) & (accept >= np.ceil(config.share * base - 1e-9))
    return enough


def byzantine_quorum(n: Counts) -> Counts:
    """Return the votes that two quorums need to share an honest voter, with f < n / 3 liars.

    Malkhi and Reiter, "Byzantine quorum systems" (1998): floor((n + f) / 2) + 1.

    >>> byzantine_quorum(np.array([1, 4, 10, 31]))
    array([ 1,  3,  7, 21])
    """
    f = (n - 1) // 3
    return (n + f) // 2 + 1


def bft(config: BftConsensus, accept: Counts, base: Counts) -> NDArray[np.bool_]:
    """Return whether a Byzantine quorum of all registered voters accepts.

    >>> bft(BftConsensus(), np.array([2, 3]), np.array([4, 4]))
    array([False,  True])
    """
    del config
    enough: NDArray[np.bool_] = accept >= byzantine_quorum(base)
    return enough


RULES: dict[str, Rule] = {
    "majority": majority,
    "supermajority": supermajority,
    "weighted": majority,
    "bft": bft,
}


def vote_weights(reputation: NDArray[np.float64]) -> Counts:
    """Return the weight of each node's vote from its Beta counts `[n_nodes, 2]`.

    >>> vote_weights(np.array([[1.0, 1.0], [3.0, 1.0]]))
    array([32768, 49152])
    """
    agreed, differed = reputation[:, 0], reputation[:, 1]
    weights: Counts = np.floor(WEIGHT_UNIT * agreed / (agreed + differed)).astype(np.int64)
    return weights


def decide(
    config: ConsensusBase, votes: Tally, weights: Tally, due: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return an `Outcome` per proposal; PENDING where outstanding votes can still change it.

    Votes that are missing at the deadline never come; abstentions count as not cast, so over all
    registered voters they count against. A proposal without `min_turnout` expires.

    Args:
        config: The rule and its settings.
        votes: Heads, of which turnout is taken.
        weights: What the rule counts: the heads, or their weights.
        due: Whether the deadline is reached `[n_proposals]`.
    """
    kind: str = config.kind  # type: ignore[attr-defined]  # every member of the union has it
    rule = RULES[kind]
    over_all = getattr(config, "base", "all") == "all"
    turnout = votes.accept + votes.reject
    needed = np.ceil(config.min_turnout * votes.registered - 1e-9)
    cast = weights.accept + weights.reject
    reach = weights.registered if over_all else cast + weights.outstanding
    surely_confirmed = rule(config, weights.accept, reach)
    surely_rejected = ~rule(config, weights.accept + weights.outstanding, reach)
    final = due | (votes.outstanding == 0)
    confirmed = rule(config, weights.accept, weights.registered if over_all else cast)
    outcome = np.where(surely_rejected, int(Outcome.REJECTED), int(Outcome.PENDING))
    outcome[surely_confirmed] = int(Outcome.CONFIRMED)
    outcome[final & confirmed] = int(Outcome.CONFIRMED)
    outcome[final & ~confirmed] = int(Outcome.REJECTED)
    lacking = turnout < needed
    hopeless = turnout + votes.outstanding < needed
    outcome[lacking] = int(Outcome.PENDING)
    outcome[lacking & (final | hopeless)] = int(Outcome.EXPIRED)
    return outcome.astype(np.uint8)
