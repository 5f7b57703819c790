"""Compiled passes of gossip and flood: who calls whom, what is handed over, what it costs.

What is handed over is what was held at the beginning of the step: passes read `held` and `informed`
and write to other arrays. A call of node i at a step has random numbers of its own, so a node that
is added changes nobody else's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint32, uint64

from sim_core.network.bits import count_bits
from sim_core.network.dissemination import DECISION_COPIES, DELIVERED, LOST, PROPOSAL_COPIES, SENT
from sim_core.philox import philox4x32


@njit(inline="always")
def _callee(i: Any, word: Any, indptr: Any, indices: Any, member: Any, rank: Any) -> Any:
    """Return the neighbour of i that a random word means, each equally likely, or -1 for none.

    Without `indptr` all members are neighbours; without `member` all nodes are members.
    """
    if indptr.shape[0]:
        degree = indptr[i + 1] - indptr[i]
        if degree == 0:
            return np.int64(-1)
        place = np.int64((uint64(word) * uint64(degree)) >> uint64(32))
        return np.int64(indices[indptr[i] + place])
    n_members = member.shape[0] if member.shape[0] else rank.shape[0]
    if n_members < 2:
        return np.int64(-1)
    place = np.int64((uint64(word) * uint64(n_members - 1)) >> uint64(32))
    if place >= rank[i]:  # one's own place is left out
        place += 1
    return np.int64(member[place]) if member.shape[0] else place


@njit(inline="always")
def _count_items(i: Any, held: Any, informed: Any, pending: Any, decided: Any) -> Any:
    """Return how many proposals and decisions that travel node i has."""
    n_held, n_informed = np.int64(0), np.int64(0)
    for w in range(pending.shape[0]):
        n_held += count_bits(held[i, w] & pending[w])
        n_informed += count_bits(informed[i, w] & decided[w])
    return n_held, n_informed


@njit(inline="always")
def _count_news(j: Any, i: Any, held: Any, informed: Any, pending: Any, decided: Any) -> Any:
    """Return how many proposals and decisions that travel node j has and node i lacks."""
    n_held, n_informed = np.int64(0), np.int64(0)
    for w in range(pending.shape[0]):
        n_held += count_bits(held[j, w] & pending[w] & ~held[i, w])
        n_informed += count_bits(informed[j, w] & decided[w] & ~informed[i, w])
    return n_held, n_informed


@njit(inline="always")
def _hand_over(
    source: Any, target: Any, held: Any, informed: Any, pending: Any, decided: Any,
    out_held: Any, out_informed: Any,
) -> None:  # fmt: skip
    """Add what travels and `source` has to what `target` is handed."""
    for w in range(pending.shape[0]):
        out_held[target, w] |= held[source, w] & pending[w]
        out_informed[target, w] |= informed[source, w] & decided[w]


@njit(inline="always")
def _arrive(target: Any, messages: Any, out_messages: Any, counts: Any) -> None:
    """Count messages as delivered, or as under way to `target` where calls take time."""
    if out_messages.shape[0]:
        out_messages[target] += messages
    else:
        counts[DELIVERED] += messages


@njit(cache=True, nogil=True)
def call_random_neighbours(
    pushes: Any, pulls: Any, fanout: int, batch: int, loss: Any,
    held: Any, informed: Any, pending: Any, decided: Any, up: Any,
    indptr: Any, indices: Any, member: Any, rank: Any, step: int, k0: Any, k1: Any,
    out_held: Any, out_informed: Any, out_messages: Any, counts: Any,
) -> None:  # fmt: skip
    """Let nodes that are up call `fanout` random neighbours each.

    Call f of a node takes words 2 f (whom) and 2 f + 1 (lost, if below `loss`, of 2^32) of that node
    and step. `out_*` is what is handed over, `out_messages` is empty where calls take no time.
    """
    for i in range(up.shape[0]):
        if not up[i]:
            continue
        n_held, n_informed = np.int64(0), np.int64(0)
        if pushes:
            n_held, n_informed = _count_items(i, held, informed, pending, decided)
            if n_held + n_informed == 0 and not pulls:
                continue
        messages = max(np.int64(1), -(-(n_held + n_informed) // batch))  # 1: a mere request
        a, b, c, d = uint32(0), uint32(0), uint32(0), uint32(0)
        for f in range(fanout):
            if f % 2 == 0:
                a, b, c, d = philox4x32(uint32(f // 2), uint32(0), uint32(i), uint32(step), k0, k1)
            else:
                a, b = c, d
            j = _callee(i, a, indptr, indices, member, rank)
            if j < 0:
                break
            counts[SENT] += messages
            counts[PROPOSAL_COPIES] += n_held
            counts[DECISION_COPIES] += n_informed
            if not up[j] or uint64(b) < loss:
                counts[LOST] += messages
                continue
            if pushes:
                _hand_over(i, j, held, informed, pending, decided, out_held, out_informed)
                _arrive(j, messages, out_messages, counts)
            else:
                counts[DELIVERED] += messages  # a request is there at once
            if pulls:
                new_held, new_informed = _count_news(j, i, held, informed, pending, decided)
                if new_held + new_informed:
                    answers = -(-(new_held + new_informed) // batch)
                    counts[SENT] += answers
                    counts[PROPOSAL_COPIES] += new_held
                    counts[DECISION_COPIES] += new_informed
                    _hand_over(j, i, held, informed, pending, decided, out_held, out_informed)
                    _arrive(i, answers, out_messages, counts)


@njit(cache=True, nogil=True)
def call_all_neighbours(
    batch: int, loss: Any, fresh_held: Any, fresh_informed: Any, pending: Any, decided: Any,
    up: Any, joined: Any, indptr: Any, indices: Any, step: int, k0: Any, k1: Any,
    out_held: Any, out_informed: Any, out_messages: Any, counts: Any,
) -> None:  # fmt: skip
    """Let nodes that are up send what travels and is fresh to all neighbours.

    Word 0 of (item receiver, node sender, step) says whether the call is lost.
    """
    is_complete = indptr.shape[0] == 0
    for i in range(up.shape[0]):
        if not up[i]:
            continue
        n_held, n_informed = _count_items(i, fresh_held, fresh_informed, pending, decided)
        if n_held + n_informed == 0:
            continue
        messages = -(-(n_held + n_informed) // batch)
        first, last = np.int64(0), np.int64(up.shape[0])
        if not is_complete:
            first, last = indptr[i], indptr[i + 1]
        for place in range(first, last):
            j = place if is_complete else np.int64(indices[place])
            if j == i or (is_complete and not joined[j]):
                continue
            counts[SENT] += messages
            counts[PROPOSAL_COPIES] += n_held
            counts[DECISION_COPIES] += n_informed
            is_lost = not up[j]
            if loss > uint64(0) and not is_lost:
                word = philox4x32(uint32(0), uint32(j), uint32(i), uint32(step), k0, k1)[0]
                is_lost = uint64(word) < loss
            if is_lost:
                counts[LOST] += messages
                continue
            _hand_over(i, j, fresh_held, fresh_informed, pending, decided, out_held, out_informed)
            _arrive(j, messages, out_messages, counts)


@njit(cache=True, nogil=True)
def drop_sent(fresh: Any, travels: Any, up: Any) -> None:
    """Take what nodes that are up have sent out of what is fresh."""
    for i in range(up.shape[0]):
        if up[i]:
            for w in range(travels.shape[0]):
                fresh[i, w] &= ~travels[w]


@njit(cache=True, nogil=True)
def receive(
    due_held: Any, due_informed: Any, due_messages: Any, up: Any,
    gained_held: Any, gained_informed: Any, counts: Any,
) -> None:  # fmt: skip
    """Move what is due in this step to the gains of nodes that are up; others lose it."""
    for i in range(up.shape[0]):
        counts[DELIVERED if up[i] else LOST] += due_messages[i]
        due_messages[i] = 0
        for w in range(due_held.shape[1]):
            if up[i]:
                gained_held[i, w] |= due_held[i, w]
                gained_informed[i, w] |= due_informed[i, w]
            due_held[i, w] = 0
            due_informed[i, w] = 0
