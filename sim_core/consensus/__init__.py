"""Consensus: who votes on a proposal, and what their votes make of it; one registry of rules."""

from __future__ import annotations

from sim_core.consensus.committee import draw_voters
from sim_core.consensus.rules import RULES, Outcome, Tally, decide, vote_weights

__all__ = ["RULES", "Outcome", "Tally", "decide", "draw_voters", "vote_weights"]
