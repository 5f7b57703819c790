"""How many replicates a question needs."""

from __future__ import annotations

import math
from typing import Any

POWER = 0.8
MOST = 1_000_000
CERTAIN = 37.0
"""Effect over its standard error beyond which the noncentral t distribution underflows."""


def replicates_needed(
    effect: float, sd: float, *, alpha: float, is_paired: bool, power: float = POWER
) -> int | None:
    """Return how many replicates show an effect of this size with this power, by a t test.

    The effect is one that would matter, never the one that was seen: power for the effect that was
    seen says no more than its p-value does (Hoenig and Heisey 2001).

    Args:
        effect: Smallest difference that is to be shown.
        sd: Standard deviation of paired differences, or within each of two samples.
        alpha: Level of the test.
        is_paired: Whether each replicate is compared with its own baseline.
        power: Probability with which the effect is to be shown.

    Returns:
        Pairs, or replicates of each of the two points; None if it is more than a million.

    >>> replicates_needed(0.5, 1.0, alpha=0.05, is_paired=True)
    34
    """
    if sd == 0:
        return 2
    from statsmodels.stats.power import TTestIndPower, TTestPower

    test: Any = TTestPower() if is_paired else TTestIndPower()

    def is_enough(n: int) -> bool:
        if effect / sd * math.sqrt(n if is_paired else n / 2) > CERTAIN and n > 3:
            return True
        # one tail: the other adds nothing at such powers, and is NaN for some n (scipy 1.17)
        return bool(test.power(effect / sd, n, alpha / 2, alternative="larger") >= power)

    high = 2
    while not is_enough(high):
        if high >= MOST:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return max(high, 2)
