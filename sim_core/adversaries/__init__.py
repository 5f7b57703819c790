"""Adversaries: who lies, and how; one registry of strategies. Liars never see the truth."""

from __future__ import annotations

from sim_core.adversaries.membership import choose_liars, joined_nodes, wake
from sim_core.adversaries.strategies import ADVERSARIES, Adversary, Ballot, make_adversary

__all__ = [
    "ADVERSARIES",
    "Adversary",
    "Ballot",
    "choose_liars",
    "joined_nodes",
    "make_adversary",
    "wake",
]
