"""Adversary strategies: one registry. Liars never see the truth."""

from __future__ import annotations

from sim_core.adversaries.strategies import (
    ADVERSARIES,
    Adversary,
    choose_liars,
    make_adversary,
)

__all__ = ["ADVERSARIES", "Adversary", "choose_liars", "make_adversary"]
