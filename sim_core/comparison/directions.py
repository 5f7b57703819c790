"""Which way a metric is better."""

from __future__ import annotations

from enum import StrEnum


class Direction(StrEnum):
    """What is better of two values of a metric."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"
    """It depends on the question: a difference is called higher or lower, never better."""


BETTER_HIGHER = frozenset(
    [
        "auroc",
        "detected_share",
        "f1",
        "immunity_share",
        "mcc",
        "precision",
        "recall",
        "steps_per_minute",
    ]
)
BETTER_LOWER = frozenset(
    [
        "benign_blocked",
        "benign_blocked_share",
        "bytes_sent",
        "cost",
        "cpu_seconds",
        "decision_steps",
        "detection_delay_steps",
        "expirations",
        "false_confirmations",
        "first_flag_delay_steps",
        "immunity_delay_steps",
        "infected_share",
        "messages_lost",
        "messages_sent",
        "missed",
        "peak_rss_mb",
        "wall_seconds",
    ]
)
DEPENDS = frozenset(["rejections", "run_length_steps", "true_confirmations"])
"""Rejecting is right or wrong with the signature; a first alarm is late or, without attacks, early;
nodes that each confirm their own signature confirm more than a network that shares one."""
WITHIN_ONE = frozenset(
    [
        "auroc",
        "benign_blocked_share",
        "detected_share",
        "f1",
        "immunity_share",
        "infected_share",
        "precision",
        "recall",
    ]
)
"""Shares and scores from 0 to 1."""


def direction_of(metric: str) -> Direction:
    """Return which way a metric is better; of unknown ones, neither.

    >>> direction_of("f1"), direction_of("missed"), direction_of("rejections")
    (<Direction.HIGHER: 'higher'>, <Direction.LOWER: 'lower'>, <Direction.NEITHER: 'neither'>)
    """
    if metric in BETTER_HIGHER:
        return Direction.HIGHER
    return Direction.LOWER if metric in BETTER_LOWER else Direction.NEITHER
