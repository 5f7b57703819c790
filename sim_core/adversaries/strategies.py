"""What liars do in place of the honest protocol."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig, SignatureConfig
from sim_core.randomness import BLOCK_NODES, Streams


class Ballot(IntEnum):
    """A vote, as the ledger stores it (2 bits)."""

    NONE = 0
    ACCEPT = 1
    REJECT = 2
    ABSTAIN = 3


class Adversary(Protocol):
    """Changes to the honest protocol, applied to the liars alone."""

    def supporting_flows(
        self,
        support: NDArray[np.bool_],
        score: NDArray[np.float32],
        flagged: NDArray[np.bool_],
        config: SignatureConfig,
    ) -> NDArray[np.bool_]:
        """Return the flows that the liars make signatures of.

        `support` `[n_liars, n_flows]` are the flows that an honest node in their place would use.
        """

    def ballots(self, opinion: NDArray[np.uint8], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the liars' ballots from their honest opinions; `own`: they are the proposer."""


class Honest:
    """No adversary."""

    def supporting_flows(
        self,
        support: NDArray[np.bool_],
        score: NDArray[np.float32],
        flagged: NDArray[np.bool_],
        config: SignatureConfig,
    ) -> NDArray[np.bool_]:
        """Return `support` unchanged."""
        del score, flagged, config
        return support

    def ballots(self, opinion: NDArray[np.uint8], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the honest opinion."""
        del own
        return opinion


class Flipper(Honest):
    """Votes the opposite of what its own detector says; proposes like an honest node."""

    def ballots(self, opinion: NDArray[np.uint8], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return accept for reject and reject for accept."""
        del own
        flipped = np.array(
            [Ballot.NONE, Ballot.REJECT, Ballot.ACCEPT, Ballot.ABSTAIN], dtype=np.uint8
        )
        return flipped[opinion]


class Poisoner(Honest):
    """Proposes signatures over its own ordinary flows and accepts them; votes honestly otherwise.

    It takes the flows that its detector finds most ordinary, twice `min_support` of them: they lie
    close together, so where other nodes carry other services the signature looks like an attack.
    """

    def supporting_flows(
        self,
        support: NDArray[np.bool_],
        score: NDArray[np.float32],
        flagged: NDArray[np.bool_],
        config: SignatureConfig,
    ) -> NDArray[np.bool_]:
        """Return the least strange unflagged flows of each liar."""
        del support
        rank = np.argsort(np.where(flagged, np.inf, score), axis=1, kind="stable")
        chosen = np.zeros(flagged.shape, dtype=np.bool_)
        n_chosen = min(2 * config.min_support, flagged.shape[1])
        np.put_along_axis(chosen, rank[:, :n_chosen], True, axis=1)
        return chosen & ~flagged

    def ballots(self, opinion: NDArray[np.uint8], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the honest opinion, and accept for its own proposal."""
        return np.where(own, np.uint8(Ballot.ACCEPT), opinion)


ADVERSARIES: dict[str, Callable[[], Adversary]] = {
    "none": Honest,
    "flipper": Flipper,
    "poisoner": Poisoner,
}


def make_adversary(config: ModelConfig) -> Adversary:
    """Return the strategy that `config.adversary.kind` names."""
    return ADVERSARIES[config.adversary.kind]()


def choose_liars(config: ModelConfig, streams: Streams) -> NDArray[np.bool_]:
    """Return which nodes lie, `[n_nodes]`: a prefix of one random order of the nodes.

    A larger share contains a smaller one, and a node added to the network takes its place in the
    order without changing that of the others.
    """
    n_nodes = config.simulation.nodes
    settings: Any = config.adversary
    liars = np.zeros(n_nodes, dtype=np.bool_)
    if settings.kind == "none":
        return liars
    count = round(settings.share * n_nodes) if settings.count is None else settings.count
    order = streams.per_node("adversary", n_nodes, lambda rng: rng.random(BLOCK_NODES))
    liars[np.argsort(order, kind="stable")[:count]] = True
    return liars
