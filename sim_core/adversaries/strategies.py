"""What liars do in place of the honest protocol."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_core.config import ModelConfig, RandomVoterAdversary, SignatureConfig

Mask = NDArray[np.bool_]
Ballots = NDArray[np.uint8]


class Ballot(IntEnum):
    """A vote, as the ledger stores it (2 bits)."""

    NONE = 0
    ACCEPT = 1
    REJECT = 2
    ABSTAIN = 3


NONE, ACCEPT, REJECT, ABSTAIN = (np.uint8(ballot) for ballot in Ballot)


class Adversary(Protocol):
    """Changes to the honest protocol, applied to the liars alone; they never see the truth."""

    def supporting_flows(
        self,
        support: Mask,
        score: NDArray[np.float32],
        flagged: Mask,
        config: SignatureConfig,
    ) -> Mask:
        """Return the flows that the liars make signatures of.

        `support` `[n_liars, n_flows]` are the flows that an honest node in their place would use.
        """

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return the liars' ballots; `Ballot.NONE` where one casts nothing.

        Args:
            opinion: What an honest node in their place would vote `[n_pairs]`.
            own: Whether the proposal is the voter's own.
            by_liar: Whether a liar has made it.
            luck: A uniform number that belongs to voter and proposal.
        """


class Honest:
    """No adversary."""

    def supporting_flows(
        self,
        support: Mask,
        score: NDArray[np.float32],
        flagged: Mask,
        config: SignatureConfig,
    ) -> Mask:
        """Return `support` unchanged."""
        del score, flagged, config
        return support

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return the honest opinion."""
        del own, by_liar, luck
        return opinion


class Silent(Honest):
    """Never proposes and never votes: a crash fault that still counts as registered."""

    def supporting_flows(
        self,
        support: Mask,
        score: NDArray[np.float32],
        flagged: Mask,
        config: SignatureConfig,
    ) -> Mask:
        """Return no flows."""
        del score, flagged, config
        return np.zeros_like(support)

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return no ballot for anything."""
        del own, by_liar, luck
        return np.full_like(opinion, NONE)


class RandomVoter(Honest):
    """Votes by lot, and proposes like an honest node."""

    def __init__(self, accept_probability: float) -> None:
        """Accept with this probability."""
        self._accept_probability = accept_probability

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return accept where `luck` is below the probability, else reject."""
        del opinion, own, by_liar
        return np.where(luck < self._accept_probability, ACCEPT, REJECT)


class Flipper(Honest):
    """Votes the opposite of what its own detector says; proposes like an honest node."""

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return accept for reject and reject for accept."""
        del own, by_liar, luck
        return np.array([NONE, REJECT, ACCEPT, ABSTAIN])[opinion]


class Poisoner(Honest):
    """Proposes signatures over its own ordinary flows and accepts them; votes honestly otherwise.

    It takes the flows that its detector finds most ordinary, twice `min_support` of them: they lie
    close together, so where other nodes carry other services the signature looks like an attack.
    """

    def supporting_flows(
        self,
        support: Mask,
        score: NDArray[np.float32],
        flagged: Mask,
        config: SignatureConfig,
    ) -> Mask:
        """Return the least strange unflagged flows of each liar."""
        del support
        chosen = np.zeros(flagged.shape, dtype=np.bool_)
        _choose_least(score, flagged, 2 * config.min_support, chosen)
        return chosen

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return the honest opinion, and accept for its own proposal."""
        del by_liar, luck
        return np.where(own, ACCEPT, opinion)


class Colluder(Poisoner):
    """A poisoner that accepts what liars propose and rejects everything else.

    Sleepers are colluders from when they turn, sybils (Douceur, "The Sybil attack", 2002) from when
    they join.
    """

    def ballots(
        self, opinion: Ballots, *, own: Mask, by_liar: Mask, luck: NDArray[np.float64]
    ) -> Ballots:
        """Return accept for proposals of liars, reject for all others."""
        del opinion, own, luck
        return np.where(by_liar, ACCEPT, REJECT)


@njit(cache=True, nogil=True)
def _choose_least(score: Any, flagged: Any, n_chosen: int, chosen: Any) -> None:
    """Choose the `n_chosen` unflagged flows of each row with the least scores, the first of equals."""
    n_rows, n_flows = score.shape
    size = min(n_chosen, n_flows)
    least = np.empty(size, np.int64)
    for i in range(n_rows):
        count = 0
        for j in range(n_flows):
            if flagged[i, j] or (count == size and score[i, j] >= score[i, least[size - 1]]):
                continue
            place = min(count, size - 1)
            while place > 0 and score[i, least[place - 1]] > score[i, j]:
                least[place] = least[place - 1]
                place -= 1
            least[place] = j
            count = min(count + 1, size)
        for place in range(count):
            chosen[i, least[place]] = True


def _random_voter(settings: RandomVoterAdversary) -> RandomVoter:
    return RandomVoter(settings.accept_probability)


ADVERSARIES: dict[str, Callable[[Any], Adversary]] = {
    "none": lambda _: Honest(),
    "silent": lambda _: Silent(),
    "random_voter": _random_voter,
    "flipper": lambda _: Flipper(),
    "poisoner": lambda _: Poisoner(),
    "colluder": lambda _: Colluder(),
    "sleeper": lambda _: Colluder(),
    "sybil": lambda _: Colluder(),
}


def make_adversary(config: ModelConfig) -> Adversary:
    """Return the strategy that `config.adversary.kind` names."""
    return ADVERSARIES[config.adversary.kind](config.adversary)
