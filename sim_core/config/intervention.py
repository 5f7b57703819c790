"""What changes in the midst of a run."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sim_core.config.base import Frozen
from sim_core.config.protocol import AdversaryConfig, ConsensusConfig
from sim_core.config.signatures import SignatureConfig, VotingConfig

SECTIONS = ("consensus", "adversary", "voting", "signature")
"""What an intervention can replace."""


class InterventionConfig(Frozen):
    """Another policy from a step on, after the same history.

    Each section that is given replaces the run's own as a whole.
    """

    step: int | None = Field(None, ge=1, le=10_000_000)
    """First step in which it holds; null: never. At or beyond the horizon it waits until the run grows
    beyond it."""
    consensus: ConsensusConfig | None = None
    """Another consensus rule, with as many voters; null: as before."""
    adversary: AdversaryConfig | None = None
    """Other liars; null: as before. Sybils can be neither before nor after."""
    voting: VotingConfig | None = None
    """Another way to judge signatures; null: as before."""
    signature: SignatureConfig | None = None
    """Other signatures; null: as before."""

    @property
    def replaced(self) -> dict[str, Any]:
        """The sections that are replaced, by name."""
        found = {name: getattr(self, name) for name in SECTIONS}
        return {name: section for name, section in found.items() if section is not None}
