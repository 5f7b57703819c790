"""How long a rumour takes on the complete graph.

The number of the informed is a Markov chain: Frieze and Grimmett, "The shortest-path problem for
graphs with random arc-lengths" (1985), section on the telephone call problem; Pittel, "On spreading a
rumor" (1987). Each node calls one uniformly chosen other node per round, and rounds are simultaneous.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Matrix = NDArray[np.float64]
NEGLIGIBLE = 1e-15
"""Probability of longer times that is left out."""


def push_transitions(n: int, *, fanout: int = 1, success: float = 1.0) -> Matrix:
    """Return P[k, m]: that of k informed nodes' calls m are informed, `[n + 1, n + 1]`.

    A call that finds j informed informs another one with probability success (n - j) / (n - 1),
    whoever makes it: k nodes make k x fanout calls, and row k takes as many steps of that chain.

    >>> np.round(push_transitions(4)[2, 2:], 4)
    array([0.1111, 0.6667, 0.2222])
    """
    found = np.arange(n + 1)
    hits = np.clip(success * (n - found) / max(1, n - 1), 0, 1)
    hits[0] = 0
    misses = 1 - hits
    after = np.eye(n + 1)
    for caller in range(1, n + 1):
        rows = after[caller:]
        for _ in range(fanout):
            moved = rows[:, caller:-1] * hits[caller:-1]
            rows[:, caller:] *= misses[caller:]
            rows[:, caller + 1 :] += moved
    return after


def pull_transitions(n: int, *, fanout: int = 1, success: float = 1.0) -> Matrix:
    """Return P[k, m]: each of n - k nodes finds one of k informed, in any of its calls.

    >>> np.round(pull_transitions(4)[2, 2:], 4)
    array([0.1111, 0.4444, 0.4444])
    """
    informed = np.arange(n + 1)[:, None]
    finds = 1 - (1 - success * np.minimum(informed / max(1, n - 1), 1)) ** fanout
    learned = np.arange(n + 1)[None, :] - informed
    chance: Matrix = np.where(
        learned >= 0, stats.binom.pmf(np.maximum(learned, 0), n - informed, finds), 0.0
    )
    return chance


def push_pull_transitions(n: int, *, fanout: int = 1, success: float = 1.0) -> Matrix:
    """Return P[k, m] where each call hands over in both directions.

    Those whom no informed node calls pull, with the numbers informed at the beginning of the round.

    >>> np.round(push_pull_transitions(4)[2, 2:], 4)
    array([0.0123, 0.2716, 0.716 ])
    """
    pushed = push_transitions(n, fanout=fanout, success=success)
    total = np.zeros_like(pushed)
    for k in range(n + 1):
        finds = 1 - (1 - success * min(k / max(1, n - 1), 1)) ** fanout
        for m in np.flatnonzero(pushed[k]):
            pulled = stats.binom.pmf(np.arange(n - m + 1), n - m, finds)
            total[k, m:] += pushed[k, m] * pulled
    return total


def rounds_until_all_know(
    n: int,
    kind: Literal["push", "pull", "push_pull"] = "push",
    *,
    fanout: int = 1,
    success: float = 1.0,
) -> Matrix:
    """Return the probability of each number of rounds from 1 to n - 1 informed, from 0 rounds on.

    >>> pmf = rounds_until_all_know(8, "pull")
    >>> round(float(pmf @ np.arange(len(pmf))), 4)
    4.5262
    """
    make = {
        "push": push_transitions,
        "pull": pull_transitions,
        "push_pull": push_pull_transitions,
    }[kind]
    transitions = make(n, fanout=fanout, success=success)
    now = np.zeros(n + 1)
    now[1] = 1
    done = [float(now[n])]
    while 1 - now[n] > NEGLIGIBLE and (done[-1] < 1):
        now = now @ transitions
        if now[n] - done[-1] <= 0 < done[-1]:
            break
        done.append(float(now[n]))
    return np.diff(np.array(done), prepend=0.0)


def mean_and_variance(pmf: Matrix) -> tuple[float, float]:
    """Return mean and variance of a distribution over 0, 1, 2, ...

    >>> mean_and_variance(np.array([0.5, 0.0, 0.5]))
    (1.0, 1.0)
    """
    values = np.arange(len(pmf))
    mean = float(pmf @ values)
    return mean, float(pmf @ (values - mean) ** 2)
