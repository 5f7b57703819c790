"""Majority and supermajority: when a proposal is confirmed, rejected or expired."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ConsensusBase, MajorityConsensus, SupermajorityConsensus

Counts = NDArray[np.int64]
Rule = Callable[[Any, Counts, Counts], NDArray[np.bool_]]
"""(config, votes to accept, votes that shares are taken of) -> whether that confirms."""


class Outcome(IntEnum):
    """What became of a proposal, as the ledger stores it."""

    PENDING = 0
    CONFIRMED = 1
    REJECTED = 2
    EXPIRED = 3


def majority(config: MajorityConsensus, accept: Counts, base: Counts) -> NDArray[np.bool_]:
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


RULES: dict[str, Rule] = {"majority": majority, "supermajority": supermajority}


def decide(
    config: ConsensusBase,
    accept: Counts,
    reject: Counts,
    registered: Counts,
    outstanding: Counts,
    due: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Return an `Outcome` per proposal; PENDING where outstanding votes can still change it.

    Votes that are missing at the deadline never come; abstentions count as not cast, so over all
    registered nodes they count against. A proposal without `min_turnout` expires.

    Args:
        config: The rule and its settings.
        accept: Votes to accept `[n_proposals]`.
        reject: Votes to reject.
        registered: Nodes that may vote.
        outstanding: Nodes that may vote and have neither voted nor abstained.
        due: Whether the deadline is reached.
    """
    kind: str = config.kind  # type: ignore[attr-defined]  # every member of the union has it
    rule = RULES[kind]
    cast = accept + reject
    over_all = config.base == "all"
    needed = np.ceil(config.min_turnout * registered - 1e-9)
    turnout = cast >= needed
    reach = registered if over_all else cast + outstanding
    surely_confirmed = rule(config, accept, reach)
    surely_rejected = ~rule(config, accept + outstanding, reach)
    final = due | (outstanding == 0)
    confirmed = rule(config, accept, registered if over_all else cast)
    at_last = np.where(confirmed, Outcome.CONFIRMED, Outcome.REJECTED)
    early = np.where(
        surely_confirmed,
        Outcome.CONFIRMED,
        np.where(surely_rejected, Outcome.REJECTED, Outcome.PENDING),
    )
    outcome = np.where(final, at_last, early)
    hopeless = cast + outstanding < needed
    without = np.where(final | hopeless, Outcome.EXPIRED, Outcome.PENDING)
    return np.where(turnout, outcome, without).astype(np.uint8)
