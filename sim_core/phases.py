"""The ten phases of a step, over arrays of all nodes.

Each phase reads the state and returns what changes, or changes the state that it is named for;
`model.NetworkModel.step` calls them in order. Sources and details: docs/odd.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries import Adversary
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome, decide
from sim_core.detection import Detection
from sim_core.detectors import Detector, thresholds_of_step
from sim_core.ledger.blocks import (
    VOTE,
    Entries,
    decision_dtype,
    make_entries,
    pack_ballots,
)
from sim_core.metrics import COVERED_REFERENCES
from sim_core.network import Deliveries, Dissemination
from sim_core.proposing import propose
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.signatures import (
    match_blacklists,
    root_mean_square_distance,
)
from sim_core.state import RECENT_FLOWS, Proposals, Signatures, State
from sim_core.traffic import Flows, Traffic
from sim_core.voting import cast_ballots

Mask = NDArray[np.bool_]


def observe(traffic: Traffic, step: int) -> Flows:
    """Phase 1: return the flows of this step."""
    return traffic.draw(step)


def detect(config: ModelConfig, detector: Detector, state: State, flows: Flows) -> Detection:
    """Phase 2: return scores and alarms."""
    score = detector.score(state.detector, flows.x)
    threshold = thresholds_of_step(config.detector.threshold, state.threshold, score)
    known = state.signatures
    matched = match_blacklists(
        flows.x,
        state.blacklist,
        known.number,
        known.centroid,
        known.scale,
        config.signature.match_radius,
    )
    matched &= state.up[:, None]
    flagged = ((score > threshold[:, None]) & state.up[:, None]) | matched
    return Detection(score, threshold, matched, flagged)


def learn(
    config: ModelConfig,
    detector: Detector,
    state: State,
    flows: Flows,
    detection: Detection,
) -> None:
    """Phase 3: learn the flows that were not flagged, and remember the last 32 of them."""
    ordinary = ~detection.flagged & state.up[:, None]
    if config.detector.learn:
        state.detector = detector.learn(state.detector, flows.x, ordinary)
    remember(state.recent, state.recent_count, flows.x, ordinary)


def remember(
    recent: NDArray[np.float32],
    count: NDArray[np.int64],
    x: NDArray[np.float32],
    mask: Mask,
) -> None:
    """Write each node's masked flows into its ring, later ones over earlier ones."""
    order = np.cumsum(mask, axis=1)
    total = order[:, -1]
    lasting = mask & (order > (total - RECENT_FLOWS)[:, None])
    node, flow = np.nonzero(lasting)
    slot = (count[node] + order[node, flow] - 1) % RECENT_FLOWS
    recent[node, slot] = x[node, flow]
    count += total


def disseminate(dissemination: Dissemination, state: State) -> Deliveries:
    """Phase 5: let proposals and decisions travel; return what arrived."""
    proposals = state.proposals
    arrived = dissemination.travel(
        old=proposals.step < state.step,
        decided=proposals.outcome != Outcome.PENDING,
        held=proposals.held,
        informed=proposals.informed,
        electorate=proposals.electorate,
        up=state.up,
    )
    proposals.held |= arrived.held
    proposals.informed |= arrived.informed
    return arrived


def vote(
    config: ModelConfig,
    streams: Streams,
    detector: Detector,
    adversary: Adversary,
    liars: Mask,
    state: State,
) -> Entries:
    """Phase 6: each node votes once on each proposal that it holds; return the votes."""
    proposals = state.proposals
    may = proposals.held & proposals.electorate & (proposals.ballots == Ballot.NONE) & state.up
    may &= (proposals.outcome == Outcome.PENDING)[:, None]
    row, node = np.nonzero(may)
    ballots = cast_ballots(config, state, detector, adversary, liars, streams, row, node)
    proposals.ballots[row, node] = ballots
    return make_entries(
        VOTE,
        len(row),
        step=state.step,
        proposal=proposals.number[row],
        node=node,
        ballot=ballots,
    )


def decide_proposals(config: ModelConfig, state: State) -> Entries:
    """Phase 7: apply the consensus rule; return the decisions that fall in this step."""
    proposals = state.proposals
    rows = np.flatnonzero(proposals.outcome == Outcome.PENDING)
    ballots, electorate = proposals.ballots[rows], proposals.electorate[rows]
    accept, reject, abstain = (
        (ballots == kind).sum(axis=1) for kind in (Ballot.ACCEPT, Ballot.REJECT, Ballot.ABSTAIN)
    )
    registered = electorate.sum(axis=1)
    outcome = decide(
        config.consensus,
        accept,
        reject,
        registered,
        registered - accept - reject - abstain,
        state.step - proposals.step[rows] >= config.consensus.vote_deadline,
    )
    proposals.outcome[rows] = outcome
    fell = np.flatnonzero(outcome != Outcome.PENDING)
    return make_entries(
        decision_dtype(config.simulation.nodes),
        fell.size,
        step=state.step,
        proposal=proposals.number[rows[fell]],
        outcome=outcome[fell],
        accept=accept[fell],
        reject=reject[fell],
        abstain=abstain[fell],
        registered=registered[fell],
        ballots=pack_ballots(ballots[fell]),
    )


def respond(
    config: ModelConfig,
    references: NDArray[np.float32],
    state: State,
    arrived: Deliveries,
    decisions: Entries,
) -> None:
    """Phase 8: blacklist what arrived, move reputations, forget what no node needs any more."""
    proposals = state.proposals
    fresh = np.flatnonzero(np.isin(proposals.number, decisions["proposal"]))
    confirmed = fresh[proposals.outcome[fresh] == Outcome.CONFIRMED]
    if confirmed.size:
        _know(config, references, state, proposals.take(confirmed))
    for row in np.flatnonzero(arrived.informed.any(axis=1)):
        if proposals.outcome[row] == Outcome.CONFIRMED:
            nodes = np.flatnonzero(arrived.informed[row])
            slot = state.blacklist_count[nodes] % config.response.blacklist_capacity
            state.blacklist[nodes, slot] = proposals.number[row]
            state.blacklist_count[nodes] += 1
    _judge(state, proposals.take(fresh))
    told = (proposals.informed | ~proposals.electorate).all(axis=1)
    state.proposals = proposals.take(~(told & (proposals.outcome != Outcome.PENDING)))
    if len(state.signatures):
        travelling = np.isin(state.signatures.number, state.proposals.number)
        held = np.isin(state.signatures.number, state.blacklist)
        if not (travelling | held).all():
            state.signatures = state.signatures.take(travelling | held)


def _know(
    config: ModelConfig,
    references: NDArray[np.float32],
    state: State,
    confirmed: Proposals,
) -> None:
    """Add confirmed proposals to the known signatures, in order of number."""
    distance = root_mean_square_distance(
        references, confirmed.centroid[:, None, None], confirmed.scale[:, None, None]
    )
    more = Signatures(
        number=confirmed.number,
        proposer=confirmed.proposer,
        centroid=confirmed.centroid,
        scale=confirmed.scale,
        covers=distance <= config.signature.match_radius,
    )
    known = state.signatures.append(more)
    state.signatures = known.take(np.argsort(known.number, kind="stable"))


def _judge(state: State, decided: Proposals) -> None:
    """Move reputations towards voters and proposers that agreed with the decision."""
    for outcome, agreeing in (
        (Outcome.CONFIRMED, Ballot.ACCEPT),
        (Outcome.REJECTED, Ballot.REJECT),
    ):
        rows = np.flatnonzero(decided.outcome == outcome)
        ballots = decided.ballots[rows]
        cast = (ballots == Ballot.ACCEPT) | (ballots == Ballot.REJECT)
        agreed = ballots == agreeing
        state.reputation[:, 0] += agreed.sum(axis=0)
        state.reputation[:, 1] += (cast & ~agreed).sum(axis=0)
        column = 0 if outcome == Outcome.CONFIRMED else 1
        np.add.at(state.reputation[:, column], decided.proposer[rows], 1)


def churn(config: ModelConfig, streams: Streams, state: State) -> None:
    """Phase 9: nodes crash and come back; on the complete graph nobody moves."""
    if config.churn.crash_rate == 0:
        return
    u = streams.per_node(
        "churn",
        config.simulation.nodes,
        lambda rng: rng.random(BLOCK_NODES),
        step=state.step,
    )
    state.up = np.where(state.up, u >= config.churn.crash_rate, u < config.churn.recovery_rate)


def immune_nodes(state: State) -> Mask:
    """Return who is immune against which target `[n_nodes, n_targets]`."""
    known = state.signatures
    n_nodes, n_targets, n_references = len(state.blacklist), *known.covers.shape[1:]
    covered = np.zeros((n_nodes, n_targets, n_references), dtype=np.bool_)
    for slot in range(state.blacklist.shape[1]):
        holders = np.flatnonzero(state.blacklist[:, slot] >= 0)
        if holders.size:
            row = np.searchsorted(known.number, state.blacklist[holders, slot])
            covered[holders] |= known.covers[row]
    immune: Mask = covered.mean(axis=2) >= COVERED_REFERENCES
    return immune


__all__ = [
    "churn",
    "decide_proposals",
    "detect",
    "disseminate",
    "immune_nodes",
    "learn",
    "observe",
    "propose",
    "remember",
    "respond",
    "vote",
]
