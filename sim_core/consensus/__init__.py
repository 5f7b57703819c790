"""Consensus rules: from tallies to outcomes, one registry."""

from __future__ import annotations

from sim_core.consensus.rules import RULES, Outcome, decide

__all__ = ["RULES", "Outcome", "decide"]
