"""Phase 4, the network's part: which drafts are published, which support what exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import float32, njit
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.consensus import Outcome, draw_voters
from sim_core.ledger.blocks import SUPPORT, Entries, make_entries, proposal_dtype
from sim_core.network import Dissemination
from sim_core.randomness import Streams
from sim_core.shard import Drafts
from sim_core.state import Proposals, State

Mask = NDArray[np.bool_]


def propose(
    config: ModelConfig,
    streams: Streams,
    dissemination: Dissemination,
    joined: Mask,
    state: State,
    drafts: Drafts,
) -> tuple[Entries, Entries]:
    """Phase 4: publish drafts in the order of activation; return proposals and supports."""
    order = activation_order(config, streams, state, drafts.node)
    known = _Known.of(state, by_proposer=not dissemination.shared)
    fate = np.empty(len(drafts), dtype=np.int64)
    _match_drafts(
        order, drafts.node, drafts.centroid, drafts.scale, known.number, known.proposer,
        known.centroid, known.scale, known.is_open, config.signature.match_radius,
        dissemination.shared, state.next_proposal, fate,
    )  # fmt: skip
    state.ready_step[drafts.node] = state.step + max(1, config.signature.cooldown_steps)
    is_new = fate < 0
    chosen = order[is_new[order]]
    number = state.next_proposal + np.arange(chosen.size)
    state.next_proposal += chosen.size
    _publish(config, streams, dissemination, joined, state, drafts.take(chosen), number)
    published = make_entries(
        proposal_dtype(drafts.centroid.shape[1]),
        chosen.size,
        step=state.step,
        proposal=number,
        proposer=drafts.node[chosen],
        n_support=drafts.n_support[chosen],
        confidence=drafts.confidence[chosen],
        protocol=drafts.protocol[chosen],
        is_true=drafts.is_true[chosen],
        family=drafts.family[chosen],
        centroid=drafts.centroid[chosen],
        scale=drafts.scale[chosen],
    )
    rows = np.flatnonzero(~is_new)
    rows = rows[np.lexsort((drafts.node[rows], fate[rows]))]
    supports = make_entries(
        SUPPORT, rows.size, step=state.step, proposal=fate[rows], node=drafts.node[rows]
    )
    return published, supports


def activation_order(
    config: ModelConfig, streams: Streams, state: State, nodes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the order in which the drafts of `nodes` (ascending) are taken, as row numbers."""
    if config.simulation.activation == "random":
        key = streams.uniforms("activation", config.simulation.nodes, step=state.step)[nodes, 0]
    elif config.simulation.activation == "priority":
        agreed, differed = state.reputation[nodes].T
        key = -agreed / (agreed + differed)
    else:
        return np.arange(len(nodes))
    return np.argsort(key, kind="stable")


@dataclass(frozen=True)
class _Known:
    """All signatures that a draft may lie within: confirmed ones, and proposals that are pending."""

    number: NDArray[np.int64]
    proposer: NDArray[np.int64]
    centroid: NDArray[np.float32]
    scale: NDArray[np.float32]
    is_open: Mask

    @classmethod
    def of(cls, state: State, *, by_proposer: bool) -> _Known:
        """Return them in order of number, or of proposer and number."""
        confirmed, pending = state.signatures, state.proposals
        number = np.concatenate([confirmed.number, pending.number])
        proposer = np.concatenate([confirmed.proposer, pending.proposer])
        is_open = np.concatenate(
            [np.ones(len(confirmed), dtype=np.bool_), pending.outcome == int(Outcome.PENDING)]
        )
        order = np.lexsort((number, proposer)) if by_proposer else np.argsort(number, kind="stable")
        return cls(
            number[order],
            proposer[order],
            np.concatenate([confirmed.centroid, pending.centroid])[order],
            np.concatenate([confirmed.scale, pending.scale])[order],
            is_open[order],
        )


@njit(cache=True, nogil=True)
def _is_within(point: Any, centroid: Any, scale: Any, limit: Any) -> Any:
    distance = float32(0)
    for d in range(point.shape[0]):
        z = (point[d] - centroid[d]) * (float32(1) / scale[d])
        distance += z * z
        if distance > limit:
            return False
    return distance <= limit


@njit(cache=True, nogil=True)
def _match_drafts(
    order: Any, node: Any, centroid: Any, scale: Any, known: Any, proposer: Any,
    known_centroid: Any, known_scale: Any, is_open: Any, radius: Any, shared: Any, next_number: int,
    fate: Any,
) -> None:  # fmt: skip
    """Write what becomes of each draft: the number that it supports, or -1, a new proposal.

    Drafts are taken in `order`; one within a known signature, or else within an earlier new one,
    supports the oldest of these. Without `shared`, only a node's own signatures count, and `known`
    is ordered by proposer.
    """
    limit = float32(radius * radius * centroid.shape[1])
    taken = np.empty(order.shape[0], np.int64)
    n_taken = 0
    for k in order:
        first, last = 0, known.shape[0]
        if not shared:
            first = np.searchsorted(proposer, node[k])
            last = np.searchsorted(proposer, node[k], side="right")
        fate[k] = -1
        for s in range(first, last):
            if is_open[s] and _is_within(centroid[k], known_centroid[s], known_scale[s], limit):
                fate[k] = known[s]
                break
        if fate[k] < 0 and shared:
            for t in range(n_taken):
                other = taken[t]
                if _is_within(centroid[k], centroid[other], scale[other], limit):
                    fate[k] = next_number + t
                    break
        if fate[k] < 0:
            taken[n_taken] = k
            n_taken += 1


def _publish(
    config: ModelConfig,
    streams: Streams,
    dissemination: Dissemination,
    joined: Mask,
    state: State,
    drafts: Drafts,
    number: NDArray[np.int64],
) -> None:
    """Add proposals to the state, seats for their voters, and let their proposers hold them."""
    if not len(drafts):
        return
    voters = draw_voters(config, streams, number, drafts.node, joined)
    new = Proposals(
        number=number,
        step=np.full(number.size, state.step),
        proposer=drafts.node,
        centroid=drafts.centroid,
        scale=drafts.scale,
        is_true=drafts.is_true,
        family=drafts.family,
        outcome=np.full(number.size, Outcome.PENDING, dtype=np.uint8),
        decided=np.full(number.size, -1),
        slot=np.full(number.size, -1),
        voters=voters,
        ballots=np.zeros(voters.shape, dtype=np.uint8),
    )
    dissemination.publish(state.network, new)
    state.proposals = state.proposals.append(new)
