"""Votes that are independent: juries with and without liars, and Byzantine quorums."""

from __future__ import annotations

import numpy as np
from scipy import stats


def jury_right(n: int, p: float, *, always_wrong: int = 0) -> float:
    """Return the probability that more than half of n voters are right.

    Condorcet, "Essai sur l'application de l'analyse" (1785): each of the others is right with
    probability p, independently; `always_wrong` voters never are.

    >>> round(jury_right(11, 0.6), 6), round(jury_right(21, 0.7, always_wrong=8), 6)
    (0.753498, 0.202478)
    """
    return float(stats.binom.sf(n // 2, n - always_wrong, p))


def largest_minority(n: int) -> int:
    """Return the largest number f of liars that n > 3f nodes bear.

    >>> [largest_minority(n) for n in (3, 4, 31)]
    [0, 1, 10]
    """
    return (n - 1) // 3


def bft_quorum(n: int) -> int:
    """Return floor((n + f) / 2) + 1: two such quorums share an honest node.

    Malkhi and Reiter, "Byzantine quorum systems" (1998), section 4; 2f + 1 where n = 3f + 1.

    >>> [bft_quorum(n) for n in (4, 7, 11)]
    [3, 5, 8]
    """
    return (n + largest_minority(n)) // 2 + 1


def bft_confirms(n: int, liars: int, accepting: float, *, liars_accept: bool) -> float:
    """Return the probability that a Byzantine quorum of n confirms.

    Lamport, Shostak and Pease, "The Byzantine generals problem" (1982): honest nodes accept with
    probability `accepting`, independently; liars all accept, or none does (they are silent).

    >>> round(bft_confirms(10, 3, 0.95, liars_accept=False), 6)
    0.698337
    >>> round(bft_confirms(7, 2, 0.05, liars_accept=True), 6)
    0.001158
    """
    needed = bft_quorum(n) - (liars if liars_accept else 0)
    return float(stats.binom.sf(needed - 1, n - liars, accepting))


def bft_committee_confirms(n: int, nodes: int, liars: int, accepting: float) -> float:
    """Return the probability that a committee of n, drawn from all nodes, confirms.

    The number of liars in it, all of whom accept, is hypergeometric.

    >>> round(bft_committee_confirms(4, 4, 1, 0.05), 5) == round(
    ...     bft_confirms(4, 1, 0.05, liars_accept=True), 5)
    True
    """
    drawn = np.arange(n + 1)
    weight = stats.hypergeom.pmf(drawn, nodes, liars, n)
    confirms = stats.binom.sf(bft_quorum(n) - drawn - 1, n - drawn, accepting)
    return float(weight @ confirms)
