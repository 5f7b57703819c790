"""How many replicates a question needs."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    guess = _normal_approximation(effect / sd, alpha, power, samples=1 if is_paired else 2)
    return None if guess > MOST else _smallest(is_enough, guess)


def _normal_approximation(d: float, alpha: float, power: float, *, samples: int) -> int:
    """Return about how many are needed, from which the search begins (Guenther 1981)."""
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha / 2))
    n = samples * ((z + float(ndtri(power))) / d) ** 2 + z**2 / (2 * samples)
    return max(2, math.ceil(min(n, MOST + 1)))


def _smallest(is_enough: Callable[[int], bool], guess: int) -> int:
    """Return the smallest number from 2 that is enough, looked for in growing strides."""
    stride = 1
    if is_enough(guess):
        high = guess
        while high - stride >= 2 and is_enough(high - stride):
            high, stride = high - stride, 2 * stride
        low = max(high - stride, 1)
    else:
        low = guess
        while not is_enough(low + stride):
            low, stride = low + stride, 2 * stride
        high = low + stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
