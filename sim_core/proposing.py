"""Phase 4: how nodes turn what they flagged into proposals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries import Adversary
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.detection import Detection
from sim_core.ledger.blocks import (
    SUPPORT,
    Entries,
    make_entries,
    proposal_dtype,
)
from sim_core.network import Dissemination
from sim_core.signatures import (
    Drafts,
    draft_signatures,
    root_mean_square_distance,
)
from sim_core.state import Proposals, State
from sim_core.traffic import Flows, Traffic

Mask = NDArray[np.bool_]


def propose(
    config: ModelConfig,
    traffic: Traffic,
    adversary: Adversary,
    dissemination: Dissemination,
    liars: Mask,
    state: State,
    flows: Flows,
    detection: Detection,
) -> tuple[Entries, Entries]:
    """Phase 4: publish signatures, taken in node order; return proposals and supports."""
    drafts = _drafts(config, traffic, adversary, liars, state, flows, detection)
    matches = _matches(config, dissemination, state, drafts)
    taken: list[int] = []
    supports: list[tuple[int, int, int]] = []
    n_known = matches.shape[1] - len(drafts.node)
    known = np.concatenate([state.signatures.number, state.proposals.number])
    for row, node in enumerate(drafts.node.tolist()):
        existing = np.flatnonzero(matches[row, :n_known])
        earlier = [i for i, other in enumerate(taken) if matches[row, n_known + other]]
        if existing.size:
            supports.append((state.step, int(known[existing].min()), node))
        elif earlier:
            supports.append((state.step, state.next_proposal + earlier[0], node))
        else:
            taken.append(row)
    state.ready_step[drafts.node] = state.step + max(1, config.signature.cooldown_steps)
    chosen = np.array(taken, dtype=np.int64)
    number = state.next_proposal + np.arange(chosen.size)
    state.next_proposal += chosen.size
    proposer = drafts.node[chosen]
    n_nodes = config.simulation.nodes
    itself = np.arange(n_nodes) == proposer[:, None]
    state.proposals = state.proposals.append(
        Proposals(
            number=number,
            step=np.full(chosen.size, state.step),
            proposer=proposer,
            centroid=drafts.centroid[chosen],
            scale=drafts.scale[chosen],
            is_true=drafts.is_true[chosen],
            family=drafts.family[chosen],
            outcome=np.full(chosen.size, Outcome.PENDING, dtype=np.uint8),
            ballots=np.zeros((chosen.size, n_nodes), dtype=np.uint8),
            electorate=dissemination.electorate(proposer, n_nodes),
            held=itself,
            informed=np.zeros_like(itself),
        )
    )
    published = make_entries(
        proposal_dtype(len(traffic.feature_names)),
        chosen.size,
        step=state.step,
        proposal=number,
        proposer=proposer,
        n_support=drafts.n_support[chosen],
        confidence=drafts.confidence[chosen],
        protocol=drafts.protocol[chosen],
        is_true=drafts.is_true[chosen],
        family=drafts.family[chosen],
        centroid=drafts.centroid[chosen],
        scale=drafts.scale[chosen],
    )
    return published, np.sort(np.array(supports, dtype=SUPPORT), order=["proposal", "node"])


def _drafts(
    config: ModelConfig,
    traffic: Traffic,
    adversary: Adversary,
    liars: Mask,
    state: State,
    flows: Flows,
    detection: Detection,
) -> Drafts:
    """Return a draft for each node with enough support, no pending proposal and no cool-down."""
    support = detection.flagged & ~detection.matched
    lying = np.flatnonzero(liars & state.up)
    if lying.size:
        support[lying] = adversary.supporting_flows(
            support[lying],
            detection.score[lying],
            detection.flagged[lying],
            config.signature,
        )
    able = state.up & (state.ready_step <= state.step)
    able[state.proposals.proposer[state.proposals.outcome == Outcome.PENDING]] = False
    nodes = np.flatnonzero(able & (support.sum(axis=1) >= config.signature.min_support))
    support = support[nodes]
    row, flow = np.nonzero(support)
    protocol = np.zeros(support.shape, dtype=np.uint8)
    protocol[row, flow] = traffic.describe(state.step, flows, nodes[row], flow).protocol
    return draft_signatures(
        nodes,
        support,
        flows.x[nodes],
        flows.y[nodes],
        detection.score[nodes],
        detection.threshold[nodes],
        protocol,
        config.signature,
    )


def _matches(
    config: ModelConfig, dissemination: Dissemination, state: State, drafts: Drafts
) -> Mask:
    """Return which drafts lie within a signature: confirmed, pending, drafted (in this order)."""
    pending = state.proposals
    centroid = np.concatenate([state.signatures.centroid, pending.centroid, drafts.centroid])
    scale = np.concatenate([state.signatures.scale, pending.scale, drafts.scale])
    proposer = np.concatenate([state.signatures.proposer, pending.proposer, drafts.node])
    open_or_known = np.concatenate(
        [
            np.ones(len(state.signatures), dtype=np.bool_),
            pending.outcome == Outcome.PENDING,
            np.ones(len(drafts.node), dtype=np.bool_),
        ]
    )
    distance = root_mean_square_distance(drafts.centroid[:, None], centroid, scale)
    near: Mask = (distance <= config.signature.match_radius) & open_or_known
    if not dissemination.shared:
        near &= proposer == drafts.node[:, None]
    return near
