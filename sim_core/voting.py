"""How nodes judge signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries import Adversary
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.detectors import Detector
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.signatures import root_mean_square_distance
from sim_core.state import RECENT_FLOWS, Proposals, State

PAIRS_AT_ONCE = 4096


def cast_ballots(
    config: ModelConfig,
    state: State,
    detector: Detector,
    adversary: Adversary,
    liars: NDArray[np.bool_],
    streams: Streams,
    row: NDArray[np.int64],
    node: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return a ballot for each pair of a proposal (its row) and a node that votes on it.

    Pairs are judged independently of each other, in slices that bound memory.
    """
    proposals = state.proposals
    ballots = np.zeros(len(row), dtype=np.uint8)
    for start in range(0, len(row), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        rows, nodes = row[part], node[part]
        if config.voting.mode == "competence":
            opinion = _competent(config, streams, proposals, rows, nodes)
        else:
            opinion = _honest(config, state, detector, rows, nodes)
        lying = liars[nodes]
        own = proposals.proposer[rows] == nodes
        opinion[lying] = adversary.ballots(opinion[lying], own[lying])
        ballots[part] = opinion
    return ballots


def _honest(
    config: ModelConfig,
    state: State,
    detector: Detector,
    rows: NDArray[np.int64],
    nodes: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Accept what the own detector finds strange and what covers little of the own traffic."""
    settings = config.voting
    centroid, scale = state.proposals.centroid[rows], state.proposals.scale[rows]
    score = detector.score(state.detector, centroid[:, None], nodes)[:, 0]
    distance = root_mean_square_distance(state.recent[nodes], centroid[:, None], scale[:, None])
    filled = np.minimum(state.recent_count[nodes], RECENT_FLOWS)
    present = np.arange(RECENT_FLOWS) < filled[:, None]
    covered = ((distance <= config.signature.match_radius) & present).sum(axis=1)
    accept = (score > state.threshold[nodes]) & (covered <= settings.max_benign_coverage * filled)
    ballot = np.where(accept, Ballot.ACCEPT, Ballot.REJECT)
    ballot = np.where(filled < settings.min_history, Ballot.ABSTAIN, ballot)
    if settings.unseen == "abstain":
        near = ((distance <= settings.unseen_radius) & present).sum(axis=1)
        ballot = np.where(near < settings.unseen_neighbours, Ballot.ABSTAIN, ballot)
    return ballot.astype(np.uint8)


def _competent(
    config: ModelConfig,
    streams: Streams,
    proposals: Proposals,
    rows: NDArray[np.int64],
    nodes: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Vote right with probability `voting.competence`; numbers belong to (proposal, node)."""

    def luck(proposal: int) -> NDArray[Any]:
        return streams.per_node(
            "votes",
            config.simulation.nodes,
            lambda rng: rng.random(BLOCK_NODES),
            step=proposal,
        )

    right = np.empty(len(rows), dtype=np.bool_)
    for proposal_row in np.unique(rows):
        mine = rows == proposal_row
        right[mine] = (
            luck(int(proposals.number[proposal_row]))[nodes[mine]] < config.voting.competence
        )
    accept = proposals.is_true[rows] == right
    return np.where(accept, Ballot.ACCEPT, Ballot.REJECT).astype(np.uint8)
