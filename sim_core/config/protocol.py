"""How proposals are decided, and who breaks the protocol."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim_core.config.base import Frozen, Share


class ConsensusBase(Frozen):
    """What all consensus rules have in common."""

    min_turnout: Share = 0.5
    """Share of the registered voters that must have cast a vote, else the proposal expires."""
    vote_deadline: int = Field(5, ge=1, le=10_000)
    """Steps after which a proposal is decided at the latest."""
    committee: int | None = Field(None, ge=1)
    """Voters that are drawn for each proposal; without it all nodes, or 100 where there are over
    1,000 nodes."""


class ShareBase(ConsensusBase):
    """What rules have in common that count shares."""

    base: Literal["cast", "all"] = "cast"
    """Shares are taken of the votes cast, or of all registered voters."""


class MajorityConsensus(ShareBase):
    """More than half accept."""

    kind: Literal["majority"] = "majority"


class SupermajorityConsensus(ShareBase):
    """At least a share accepts."""

    kind: Literal["supermajority"] = "supermajority"
    share: float = Field(2 / 3, gt=0.5, le=1)
    """Share that must accept."""


class WeightedConsensus(ShareBase):
    """More than half accept, votes weighted by the voters' reputation."""

    kind: Literal["weighted"] = "weighted"


class BftConsensus(ConsensusBase):
    """Byzantine quorum: floor((n + f) / 2) + 1 of n registered voters, f = floor((n - 1) / 3).

    A one-shot quorum without equivocation (Lamport, Shostak and Pease 1982; Malkhi and Reiter 1998),
    not a replicated state machine.
    """

    kind: Literal["bft"] = "bft"


ConsensusConfig = Annotated[
    MajorityConsensus | SupermajorityConsensus | WeightedConsensus | BftConsensus,
    Field(discriminator="kind"),
]


class NoAdversary(Frozen):
    """All nodes are honest."""

    kind: Literal["none"] = "none"


class AdversaryBase(Frozen):
    """What all adversaries have in common."""

    share: Share = 0.2
    """Share of the nodes that lie."""
    count: int | None = Field(None, ge=0)
    """Number of liars, in place of the share."""


class SilentAdversary(AdversaryBase):
    """Never proposes, never votes."""

    kind: Literal["silent"] = "silent"


class RandomVoterAdversary(AdversaryBase):
    """Votes by lot."""

    kind: Literal["random_voter"] = "random_voter"
    accept_probability: Share = 0.5
    """Probability that it accepts."""


class FlipperAdversary(AdversaryBase):
    """Votes the opposite of what its own detector says."""

    kind: Literal["flipper"] = "flipper"


class PoisonerAdversary(AdversaryBase):
    """Proposes signatures over its own ordinary traffic, so that confirming them blocks it."""

    kind: Literal["poisoner"] = "poisoner"


class ColluderAdversary(AdversaryBase):
    """Poisoners that accept each other's proposals and reject all others."""

    kind: Literal["colluder"] = "colluder"


class SleeperAdversary(AdversaryBase):
    """Honest until its reputation is high, then a colluder for good."""

    kind: Literal["sleeper"] = "sleeper"
    wake_reputation: float = Field(0.8, gt=0, lt=1)
    """Mean reputation at which it turns."""


class SybilAdversary(AdversaryBase):
    """Colluders that join the network together, late."""

    kind: Literal["sybil"] = "sybil"
    join_step: int = Field(30, ge=1)
    """Step in which they join; before, they are not there."""


AdversaryConfig = Annotated[
    NoAdversary
    | SilentAdversary
    | RandomVoterAdversary
    | FlipperAdversary
    | PoisonerAdversary
    | ColluderAdversary
    | SleeperAdversary
    | SybilAdversary,
    Field(discriminator="kind"),
]
