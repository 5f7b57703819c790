"""Who may vote on a proposal: everybody, a committee drawn by lot, or its proposer alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.philox import philox4x32
from sim_core.randomness import Streams

EMPTY_SEAT = -1


def draw_voters(
    config: ModelConfig,
    streams: Streams,
    number: NDArray[np.int64],
    proposer: NDArray[np.int64],
    joined: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """Return the voters of each proposal, ascending, -1 for empty seats `[n, config.n_voters]`.

    Isolated nodes and the centre decide alone. Otherwise all nodes that have joined have a seat, if
    there are enough; else a committee of them is drawn without replacement for each proposal, by
    the proposal's number alone (sortition; Gilad et al., "Algorand", SOSP 2017).
    """
    voters = np.full((len(number), config.n_voters), EMPTY_SEAT, dtype=np.int32)
    if config.dissemination.kind in ("none", "centralised"):
        voters[:, 0] = proposer
        return voters
    n_joined = int(np.count_nonzero(joined))
    if n_joined <= config.n_voters:
        voters[:, :n_joined] = np.flatnonzero(joined)
        return voters
    k0, k1 = streams.key("committee")
    _draw_committees(voters, number, joined, k0, k1)
    voters.sort(axis=1)
    return voters


@njit(cache=True, nogil=True)
def _draw_committees(voters: Any, number: Any, joined: Any, k0: Any, k1: Any) -> None:
    """Fill each row with different nodes that have joined; there are more of them than seats.

    Candidate c is the first word of the counter (c, 0, 0, number), scaled to the nodes; those that have
    a seat already or have not joined are passed over.
    """
    n_nodes, n_seats = joined.shape[0], voters.shape[1]
    seated = np.zeros(n_nodes, np.bool_)
    for p in range(number.shape[0]):
        n_taken, call = 0, 0
        while n_taken < n_seats:
            word = philox4x32(uint32(call), uint32(0), uint32(0), uint32(number[p]), k0, k1)[0]
            call += 1
            node = np.int64((uint64(word) * uint64(n_nodes)) >> uint64(32))
            if joined[node] and not seated[node]:
                seated[node] = True
                voters[p, n_taken] = node
                n_taken += 1
        for seat in range(n_seats):
            seated[voters[p, seat]] = False
