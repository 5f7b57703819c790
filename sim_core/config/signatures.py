"""How signatures are made, and how they are judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim_core.config.base import Frozen, Positive, Share


class SignatureConfig(Frozen):
    """How flagged flows become a signature, and what a signature matches."""

    min_support: int = Field(3, ge=1, le=1_000)
    """Flagged flows, not covered by the blacklist, that a node needs for a proposal."""
    cooldown_steps: int = Field(10, ge=0, le=100_000)
    """Steps between two proposals of one node."""
    match_radius: Positive = 2.0
    """Largest root mean square distance to the centroid, in scales, that is a match."""
    min_scale: Positive = 0.5
    """Smallest scale of a feature, in standard deviations of benign traffic."""


class VotingConfig(Frozen):
    """How an honest node judges a signature."""

    mode: Literal["detector", "competence"] = "detector"
    """`detector`: by its own detector and recent flows; `competence`: right with a probability."""
    competence: Share = 0.8
    """Probability of a right vote in mode `competence`."""
    min_history: int = Field(8, ge=0, le=32)
    """Recent flows below which a node abstains."""
    max_benign_coverage: Share = 0.05
    """Largest share of its recent flows that an acceptable signature may cover."""
    unseen: Literal["judge", "abstain"] = "judge"
    """What to do where too few recent flows lie near the centroid."""
    unseen_neighbours: int = Field(3, ge=1, le=32)
    """How many recent flows must lie near the centroid for it to count as seen."""
    unseen_radius: Positive = 4.0
    """What is near: root mean square distance in the signature's scales."""
