"""Phase 6: who votes, and what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries import Adversary
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.ledger.blocks import VOTE, Entries, make_entries
from sim_core.network import Dissemination
from sim_core.philox import UNIT, pick_words
from sim_core.randomness import Purpose, Streams
from sim_core.shard import Shards
from sim_core.state import Proposals, State

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
PENDING, NO_BALLOT = int(Outcome.PENDING), int(Ballot.NONE)


def vote(
    config: ModelConfig,
    streams: Streams,
    shards: Shards,
    adversary: Adversary,
    dissemination: Dissemination,
    liars: Mask,
    state: State,
) -> Entries:
    """Let each node vote once on each proposal that it holds and has a seat for; return the votes."""
    proposals = state.proposals
    pending = np.flatnonzero(proposals.outcome == PENDING)
    voters = proposals.voters[pending]
    may = dissemination.holding(state.network, proposals, pending) & (voters >= 0)
    may &= (proposals.ballots[pending] == NO_BALLOT) & state.up[voters]
    index, seat = np.nonzero(may)
    row, node = pending[index], voters[index, seat].astype(np.int64)
    if config.dissemination.kind == "centralised":
        liars = np.zeros_like(liars)  # the centre votes, and it is trusted
    ballots = _ballots(config, streams, shards, adversary, liars, state, row, node)
    proposals.ballots[row, seat] = ballots
    cast = ballots != NO_BALLOT
    return make_entries(
        VOTE,
        int(cast.sum()),
        step=state.step,
        proposal=proposals.number[row[cast]],
        node=node[cast],
        ballot=ballots[cast],
    )


def _ballots(
    config: ModelConfig,
    streams: Streams,
    shards: Shards,
    adversary: Adversary,
    liars: Mask,
    state: State,
    row: Rows,
    node: Rows,
) -> NDArray[np.uint8]:
    """Return the ballot of `node[k]` on the proposal in `row[k]`."""
    if not row.size:
        return np.zeros(0, dtype=np.uint8)
    proposals = state.proposals
    if config.voting.mode == "competence":
        opinion = competent_opinions(config, streams, proposals, row, node)
    else:
        opinion = shards.judge(proposals.centroid, proposals.scale, row, node)
    active = liars & state.awake
    lying = np.flatnonzero(active[node])
    if lying.size:
        proposer = proposals.proposer[row[lying]]
        opinion[lying] = adversary.ballots(
            opinion[lying],
            own=proposer == node[lying],
            by_liar=active[proposer],
            luck=luck(streams, "adversary", proposals, row[lying], node[lying]),
        )
    return opinion


def competent_opinions(
    config: ModelConfig, streams: Streams, proposals: Proposals, row: Rows, node: Rows
) -> NDArray[np.uint8]:
    """Return votes that are right with probability `voting.competence`, each on its own."""
    right = luck(streams, "votes", proposals, row, node) < config.voting.competence
    accept = proposals.is_true[row] == right
    return np.where(accept, Ballot.ACCEPT, Ballot.REJECT).astype(np.uint8)


def luck(
    streams: Streams, purpose: Purpose, proposals: Proposals, row: Rows, node: Rows
) -> NDArray[np.float64]:
    """Return a uniform number per pair, which belongs to (proposal, node) for good."""
    out = np.empty(len(row), dtype=np.uint32)
    pick_words(out, node, proposals.number[row] + 1, *streams.key(purpose))
    return out.astype(np.float64) * UNIT
