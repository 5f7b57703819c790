"""How far a worm gets: the chain binomial model of Reed and Frost on the complete graph.

Abbey, "An examination of the Reed-Frost theory of epidemics" (1952): everybody who is infectious
infects each susceptible one with probability p, independently, in one generation, and is then removed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats


def new_infections(susceptible: int, infectious: int, p: float) -> NDArray[np.float64]:
    """Return the probability of each number of infections until the epidemic is over.

    Visits states (infected so far, infectious now) in the order in which infections come.

    >>> pmf = new_infections(50, 1, 1.5 / 50)
    >>> round(float(pmf @ np.arange(51)), 4), round(float(pmf[0]), 5)
    (17.5162, 0.21807)
    """
    visits = np.zeros((susceptible + 1, max(susceptible, infectious) + 1))
    visits[0, infectious] = 1
    for so_far in range(susceptible + 1):
        left = susceptible - so_far
        for now in np.flatnonzero(visits[so_far, 1:]) + 1:
            more = stats.binom.pmf(np.arange(left + 1), left, -np.expm1(now * np.log1p(-p)))
            chance = visits[so_far, now]
            visits[so_far, 0] += chance * more[0]
            for new in range(1, left + 1):
                visits[so_far + new, new] += chance * more[new]
    over: NDArray[np.float64] = visits[:, 0]
    return over


def generations_beyond(susceptible: int, infectious: int, p: float, limit: int) -> float:
    """Return the probability that somebody is infectious for the first time after `limit` steps.

    >>> generations_beyond(50, 1, 1.5 / 50, 0)
    1.0
    """
    chances: dict[tuple[int, int], float] = {(susceptible, infectious): 1.0}
    for _ in range(limit):
        after: dict[tuple[int, int], float] = {}
        for (left, now), chance in chances.items():
            more = stats.binom.pmf(np.arange(left + 1), left, -np.expm1(now * np.log1p(-p)))
            for new in range(1, left + 1):
                key = (left - new, new)
                after[key] = after.get(key, 0.0) + chance * float(more[new])
        chances = after
    return sum(chances.values())


def final_share(reproduction: float, initial_share: float = 0.0) -> float:
    """Return the share ever infected in a large population, the initial ones included.

    The solution of 1 - r = (1 - initial) exp(-R0 r), the larger one where there are two (Kermack and
    McKendrick 1927); without initial share it holds where the epidemic does not die out early.

    >>> [round(final_share(r0), 6) for r0 in (1.5, 2, 3)]
    [0.582812, 0.796812, 0.94048]
    """

    def excess(share: float) -> float:
        return 1 - share - (1 - initial_share) * float(np.exp(-reproduction * share))

    if initial_share == 0:
        if reproduction <= 1:
            return 0.0
        return float(optimize.brentq(excess, 1e-9 + (reproduction - 1) / reproduction**2, 1))
    return float(optimize.brentq(excess, initial_share / 2, 1))
