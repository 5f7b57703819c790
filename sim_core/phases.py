"""The phases of a step in which the network acts as a whole; nodes' own phases are in `shard`.

Each changes the state that it is named for and returns what it leaves for the ledger;
`model.NetworkModel.step` calls them in order. Details: docs/odd.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_core.adversaries import joined_nodes, wake
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome, Tally, decide, vote_weights
from sim_core.ledger.blocks import Entries, decision_dtype, make_entries, pack_ballots
from sim_core.metrics import COVERED_REFERENCES
from sim_core.network import (
    Deliveries,
    Dissemination,
    Topology,
    infected_now,
    spread_worms,
)
from sim_core.passes import put_on_blacklists
from sim_core.randomness import Streams
from sim_core.shard import Orders
from sim_core.signatures import cover_references
from sim_core.state import Proposals, Signatures, State
from sim_core.traffic.base import REFERENCE_FLOWS

Mask = NDArray[np.bool_]
PENDING, CONFIRMED, EXPIRED = map(int, (Outcome.PENDING, Outcome.CONFIRMED, Outcome.EXPIRED))
ACCEPT, REJECT = int(Ballot.ACCEPT), int(Ballot.REJECT)
"""As plain numbers: compiled code and comparisons of arrays are slow with enumerations."""
_REGISTERED = 4
ENOUGH_REFERENCES = int(np.ceil(COVERED_REFERENCES * REFERENCE_FLOWS))


def give_orders(config: ModelConfig, state: State) -> Orders:
    """Return what nodes need to know before phases 1 to 4."""
    able = state.ready_step <= state.step
    pending = state.proposals.outcome == PENDING
    able[state.proposals.proposer[pending]] = False
    return Orders(
        step=state.step,
        up=state.up,
        able=able,
        awake=state.awake,
        infected=infected_now(config, state.infected, state.step),
        blacklist=state.blacklist,
        signatures=state.signatures,
        received=state.received,
        wants_histogram=state.step % config.metrics.auroc_every == 0,
        counts_histogram=state.step >= config.metrics.from_step,
    )


def decide_proposals(config: ModelConfig, state: State) -> Entries:
    """Phase 7: apply the consensus rule; return the decisions that fall in this step."""
    proposals = state.proposals
    rows = np.flatnonzero(proposals.outcome == PENDING)
    ballots, voters = proposals.ballots[rows], proposals.voters[rows]
    heads = tally_ballots(ballots, voters, np.ones(len(state.up), dtype=np.int64))
    weights = heads
    if config.consensus.kind == "weighted":
        weights = tally_ballots(ballots, voters, vote_weights(state.reputation))
    due = state.step - proposals.step[rows] >= config.consensus.vote_deadline
    outcome = decide(config.consensus, heads, weights, due)
    fell = np.flatnonzero(outcome != PENDING)
    decided = rows[fell]
    proposals.outcome[decided] = outcome[fell]
    proposals.decided[decided] = state.step
    accept, reject, registered = heads.accept[fell], heads.reject[fell], heads.registered[fell]
    return make_entries(
        decision_dtype(config.n_voters),
        fell.size,
        step=state.step,
        proposal=proposals.number[decided],
        outcome=outcome[fell],
        accept=accept,
        reject=reject,
        abstain=registered - heads.outstanding[fell] - accept - reject,
        registered=registered,
        ballots=pack_ballots(ballots[fell]),
    )


def tally_ballots(
    ballots: NDArray[np.uint8], voters: NDArray[np.int32], weight: NDArray[np.int64]
) -> Tally:
    """Return the weight behind each kind of ballot `[n_proposals, n_voters]`.

    `weight` is that of each node `[n_nodes]`; a seat with voter -1 is empty.
    """
    counts = np.zeros((5, len(ballots)), dtype=np.int64)
    _tally(ballots, voters, weight, counts)
    return Tally(
        accept=counts[Ballot.ACCEPT],
        reject=counts[Ballot.REJECT],
        registered=counts[_REGISTERED],
        outstanding=counts[Ballot.NONE],
    )


def respond(
    config: ModelConfig,
    dissemination: Dissemination,
    references: NDArray[np.float32],
    liars: Mask,
    joined: Mask,
    state: State,
    arrived: Deliveries,
) -> None:
    """Phase 8: blacklist what arrived, move reputations, forget what no node needs any more."""
    proposals = state.proposals
    fresh = np.flatnonzero(proposals.decided == state.step)
    confirmed = fresh[proposals.outcome[fresh] == CONFIRMED]
    if confirmed.size:
        _know(config, references, state, proposals.take(confirmed))
    number = proposals.number[arrived.row]
    put_on_blacklists(state.blacklist, state.blacklist_count, arrived.node, number)
    still = (state.blacklist[arrived.node] == number[:, None]).any(axis=1)
    state.received = np.stack([arrived.node[still], number[still]])
    move_reputations(
        state.reputation, fresh, proposals.outcome, proposals.proposer, proposals.voters,
        proposals.ballots,
    )  # fmt: skip
    state.awake = wake(config, liars, state.reputation, state.awake)
    stays = dissemination.retire(state.network, proposals, state.step, joined)
    gone = bool((proposals.outcome[~stays] == CONFIRMED).any())
    if not stays.all():
        state.proposals = proposals.take(stays)
    if len(state.signatures) and (gone or number.size):
        travelling = np.isin(state.signatures.number, state.proposals.number)
        _mark_held(state.blacklist, state.signatures.number, travelling)
        if not travelling.all():
            state.signatures = state.signatures.take(travelling)


def _know(
    config: ModelConfig,
    references: NDArray[np.float32],
    state: State,
    confirmed: Proposals,
) -> None:
    """Add confirmed proposals to the known signatures, in order of number."""
    more = Signatures(
        number=confirmed.number,
        proposer=confirmed.proposer,
        centroid=confirmed.centroid,
        scale=confirmed.scale,
        covers=cover_references(
            references, confirmed.centroid, confirmed.scale, config.signature.match_radius
        ),
    )
    known = state.signatures.append(more)
    state.signatures = known.take(np.argsort(known.number, kind="stable"))


def move(
    config: ModelConfig,
    streams: Streams,
    topology: Topology,
    liars: Mask,
    joined: Mask,
    immune: Mask,
    state: State,
) -> int:
    """Phase 9: nodes walk, worms spread, nodes crash, come back and join; return the infections.

    `immune` `[n_nodes, n_targets]`, the campaigns being the first targets.
    """
    n_nodes = config.simulation.nodes
    topology.walk(state.network, state.up, state.step)
    before = int((state.infected >= 0).sum()) if state.infected.size else 0
    spread_worms(
        config, streams, topology, state.network, state.infected, state.up, immune, state.step
    )
    infections = int((state.infected >= 0).sum()) - before if state.infected.size else 0
    if config.churn.crash_rate > 0:
        u = streams.uniforms("churn", n_nodes, step=state.step)[:, 0]
        survives, returns = u >= config.churn.crash_rate, u < config.churn.recovery_rate
        state.up = np.where(state.up, survives, returns & joined)
    joining = joined_nodes(config, liars, state.step + 1) & ~joined
    if joining.any():
        state.up = state.up | joining
    return infections


def immune_nodes(state: State) -> Mask:
    """Return who is immune against which target `[n_nodes, n_targets]`."""
    known = state.signatures
    immune = np.zeros((len(state.blacklist), known.covers.shape[1]), dtype=np.bool_)
    _immune(state.blacklist, known.number, known.covers, ENOUGH_REFERENCES, immune)
    return immune


@njit(cache=True, nogil=True)
def _immune(blacklist: Any, number: Any, covers: Any, enough: int, immune: Any) -> None:
    for i in range(blacklist.shape[0]):
        for t in range(covers.shape[1]):
            together = np.uint64(0)
            for slot in range(blacklist.shape[1]):
                if blacklist[i, slot] >= 0:
                    together |= covers[np.searchsorted(number, blacklist[i, slot]), t]
            count = 0
            while together:
                together &= together - np.uint64(1)
                count += 1
            immune[i, t] = count >= enough


@njit(cache=True, nogil=True)
def _mark_held(blacklist: Any, number: Any, held: Any) -> None:
    """Set `held` for each of the numbers (ascending) that is in a blacklist."""
    for i in range(blacklist.shape[0]):
        for slot in range(blacklist.shape[1]):
            if blacklist[i, slot] >= 0:
                held[np.searchsorted(number, blacklist[i, slot])] = True


@njit(cache=True, nogil=True)
def _tally(ballots: Any, voters: Any, weight: Any, counts: Any) -> None:
    for p in range(ballots.shape[0]):
        for seat in range(ballots.shape[1]):
            if voters[p, seat] >= 0:
                counts[ballots[p, seat], p] += weight[voters[p, seat]]
                counts[_REGISTERED, p] += weight[voters[p, seat]]


@njit(cache=True, nogil=True)
def move_reputations(
    reputation: Any, rows: Any, outcome: Any, proposer: Any, voters: Any, ballots: Any
) -> None:
    """Move reputations towards voters and proposers that agreed with the decisions in `rows`."""
    for p in rows:
        if outcome[p] == EXPIRED:
            continue
        agreeing = ACCEPT if outcome[p] == CONFIRMED else REJECT
        for seat in range(voters.shape[1]):
            ballot = ballots[p, seat]
            if voters[p, seat] >= 0 and ballot in (ACCEPT, REJECT):
                reputation[voters[p, seat], 0 if ballot == agreeing else 1] += 1
        reputation[proposer[p], 0 if outcome[p] == CONFIRMED else 1] += 1
