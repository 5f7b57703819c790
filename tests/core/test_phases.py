"""Phases on their own: remembering, proposing, voting, responding, crashing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import phases
from sim_core.adversaries.strategies import Ballot
from sim_core.consensus import Outcome
from sim_core.detection import Detection
from sim_core.model import NetworkModel
from sim_core.state import RECENT_FLOWS, Signatures
from sim_core.traffic import Flows

MakeModel = Callable[..., NetworkModel]
N_NODES, N_FLOWS, N_FEATURES = 4, 6, 8
FAR = 100.0
QUIET = {
    "simulation": {"nodes": N_NODES, "flows_per_node": N_FLOWS},
    "traffic": {"campaigns": []},
}


# --- remember -----------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    n_nodes=st.integers(1, 4),
    n_flows=st.integers(1, 80),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
)
def test_ring_of_recent_flows_equals_a_deque_per_node(seed, n_nodes, n_flows, share):
    rng = np.random.default_rng(seed)
    recent = np.zeros((n_nodes, RECENT_FLOWS, 2), dtype=np.float32)
    count = np.zeros(n_nodes, dtype=np.int64)
    plain: list[deque[list[float]]] = [deque(maxlen=RECENT_FLOWS) for _ in range(n_nodes)]
    so_far = [0] * n_nodes
    for _ in range(6):
        x = rng.random((n_nodes, n_flows, 2), dtype=np.float32)
        mask = rng.random((n_nodes, n_flows)) < share
        phases.remember(recent, count, x, mask)
        for i in range(n_nodes):
            for j in np.flatnonzero(mask[i]):
                plain[i].append(x[i, j].tolist())
                so_far[i] += 1
            newest = [(so_far[i] - 1 - k) % RECENT_FLOWS for k in range(len(plain[i]))]
            assert recent[i, newest].tolist() == list(plain[i])[::-1]
        assert count.tolist() == so_far


# --- detect and learn ---------------------------------------------------------------------


def see(model: NetworkModel, flagged: Any, matched: Any = None) -> Detection:
    """Return a detection that flags these flows, scores 10 where flagged and 1 elsewhere."""
    flagged = np.asarray(flagged, dtype=bool)
    n_nodes = len(flagged)
    return Detection(
        score=np.where(flagged, 10, 1).astype(np.float32),
        threshold=np.full(n_nodes, 5, dtype=np.float32),
        matched=np.zeros_like(flagged) if matched is None else np.asarray(matched, dtype=bool),
        flagged=flagged,
    )


def know(model: NetworkModel, number: int, centroid: Any, *, holders: Any = ()) -> None:
    """Let the network have confirmed a signature, and let some nodes hold it."""
    centroid = np.asarray(centroid, dtype=np.float32)[None]
    model.state.signatures = model.state.signatures.append(
        Signatures(
            number=np.array([number]),
            proposer=np.array([0]),
            centroid=centroid,
            scale=np.full_like(centroid, 0.5),
            covers=np.zeros((1, *model.references.shape[:2]), dtype=bool),
        )
    )
    for node in holders:
        slot = model.state.blacklist_count[node]
        model.state.blacklist[node, slot] = number
        model.state.blacklist_count[node] += 1


def test_flow_is_flagged_above_the_threshold_or_where_a_held_signature_matches(
    make_model: MakeModel,
):
    model = make_model(**QUIET)
    flows = model.traffic.draw(0)
    model.state.threshold[:] = 1e9
    model.state.threshold[0] = 0
    model.state.up[1] = False
    know(model, 0, flows.x[2, 3], holders=(1, 2))
    found = phases.detect(model.config, model.detector, model.state, flows)
    assert found.flagged[0].all()
    assert not found.matched[0].any(), "node 0 does not hold the signature"
    assert not found.flagged[1].any(), "a node that is down sees nothing"
    assert found.matched[2, 3]
    assert (found.flagged == (found.matched | (np.arange(N_NODES) == 0)[:, None])).all()


def test_flow_at_the_threshold_is_not_flagged(make_model: MakeModel):
    model = make_model(**QUIET)
    flows = model.traffic.draw(0)
    score = model.detector.score(model.state.detector, flows.x)
    model.state.threshold = score[:, 0].copy()
    found = phases.detect(model.config, model.detector, model.state, flows)
    assert (found.flagged == (score > score[:, :1])).all()


def test_flagged_flows_and_nodes_that_are_down_teach_nothing(make_model: MakeModel):
    model = make_model(**QUIET)
    state, flows = model.state, model.traffic.draw(0)
    state.up[3] = False
    flagged = np.zeros((N_NODES, N_FLOWS), dtype=bool)
    flagged[0] = True
    flagged[1, 2:] = True
    before = {name: values.copy() for name, values in state.detector.items()}
    phases.learn(model.config, model.detector, state, flows, see(model, flagged))
    assert state.recent_count.tolist() == [0, 2, N_FLOWS, 0]
    assert state.recent[1, :2].tolist() == flows.x[1, :2].tolist()
    changed = [(state.detector["mean"][i] != before["mean"][i]).any() for i in range(N_NODES)]
    assert changed == [False, True, True, False]


# --- propose ------------------------------------------------------------------------------


def clusters(*places: float) -> Any:
    """Return flows of each node close together at its place, places 100 apart do not match."""
    noise = np.random.default_rng(0).normal(0, 0.05, (len(places), N_FLOWS, N_FEATURES))
    return (noise + np.array(places)[:, None, None] * FAR).astype(np.float32)


def propose(
    model: NetworkModel, x: Any, n_flagged: Any = N_FLOWS, *, matched: Any = None, y: Any = None
) -> tuple[Any, Any]:
    """Run phase 4 where each node flagged its first flows; return proposals and supports."""
    shape = (N_NODES, N_FLOWS)
    flagged = np.arange(N_FLOWS) < np.broadcast_to(n_flagged, N_NODES)[:, None]
    labels = np.ones(shape) if y is None else y
    flows = Flows(x, labels.astype(np.int16), np.zeros(shape, dtype=np.int32))
    return phases.propose(
        model.config,
        model.traffic,
        model.adversary,
        model.dissemination,
        model.liars,
        model.state,
        flows,
        see(model, flagged, matched),
    )


def decide_all(model: NetworkModel, outcome: Outcome) -> None:
    model.state.proposals.outcome[:] = outcome


APART = clusters(1, 2, 3, 4)


def test_node_proposes_from_min_support_flagged_flows_on(make_model: MakeModel):
    model = make_model(**QUIET, signature={"min_support": 3})
    proposals, supports = propose(model, APART, [2, 3, 4, 0])
    assert proposals["proposer"].tolist() == [1, 2]
    assert proposals["n_support"].tolist() == [3, 4]
    assert proposals["proposal"].tolist() == [0, 1]
    assert len(supports) == 0
    assert model.state.next_proposal == 2
    pending = model.state.proposals
    assert pending.proposer.tolist() == [1, 2]
    assert pending.held.tolist() == [[i == p for i in range(N_NODES)] for p in (1, 2)]
    assert (pending.outcome == Outcome.PENDING).all()
    assert pending.centroid[0] == pytest.approx(APART[1, :3].mean(axis=0))


def test_flows_covered_by_the_blacklist_do_not_support_a_proposal(make_model: MakeModel):
    model = make_model(**QUIET, signature={"min_support": 3})
    matched = np.zeros((N_NODES, N_FLOWS), dtype=bool)
    matched[:, :2] = True
    proposals, _ = propose(model, APART, [4, 5, 6, 6], matched=matched)
    assert proposals["proposer"].tolist() == [1, 2, 3]
    assert proposals["n_support"].tolist() == [3, 4, 4]


def test_proposal_says_whether_over_half_of_its_support_are_attacks(make_model: MakeModel):
    model = make_model(**QUIET, signature={"min_support": 3})
    y = np.zeros((N_NODES, N_FLOWS))
    y[0, :3], y[1, :2], y[2, :2], y[3, 4:] = 2, 5, 1, 1
    proposals, _ = propose(model, APART, [6, 3, 4, 4], y=y)
    assert proposals["is_true"].tolist() == [0, 1, 0, 0]
    assert proposals["family"].tolist() == [0, 5, 0, 0]


@pytest.mark.parametrize("cooldown", [0, 1, 4])
def test_node_proposes_again_after_its_cooldown_and_not_before(
    make_model: MakeModel, cooldown: int
):
    model = make_model(**QUIET, signature={"cooldown_steps": cooldown})
    proposed = []
    for step in range(12):
        model.state.step = step
        proposals, supports = propose(model, clusters(step, 20, 40, 60), [6, 0, 0, 0])
        decide_all(model, Outcome.REJECTED)
        assert len(supports) == 0
        proposed += [step] * len(proposals)
    assert proposed == list(range(0, 12, max(1, cooldown)))


def test_node_with_a_pending_proposal_makes_no_other(make_model: MakeModel):
    model = make_model(**QUIET, signature={"cooldown_steps": 1})
    for step in range(4):
        model.state.step = step
        proposals, supports = propose(model, clusters(step, 20, 40, 60), [6, 0, 0, 0])
        assert (len(proposals), len(supports)) == (step == 0, 0)
    decide_all(model, Outcome.EXPIRED)
    assert len(propose(model, clusters(9, 20, 40, 60), [6, 0, 0, 0])[0]) == 1


def test_matching_proposals_of_one_step_become_supports_of_the_first_in_node_order(
    make_model: MakeModel,
):
    model = make_model(**QUIET)
    model.state.next_proposal = 7
    model.state.step = 3
    proposals, supports = propose(model, clusters(1, 2, 1, 2))
    assert proposals["proposer"].tolist() == [0, 1]
    assert proposals["proposal"].tolist() == [7, 8]
    assert supports.tolist() == [(3, 7, 2), (3, 8, 3)]
    assert model.state.next_proposal == 9


@pytest.mark.parametrize(
    ("outcome", "supported"),
    [(Outcome.PENDING, True), (Outcome.REJECTED, False), (Outcome.EXPIRED, False)],
)
def test_proposal_that_matches_a_pending_one_supports_it(
    make_model: MakeModel, outcome: Outcome, supported: bool
):
    model = make_model(**QUIET)
    propose(model, clusters(1, 2, 3, 4), [6, 0, 0, 0])
    decide_all(model, outcome)
    model.state.step = 1
    proposals, supports = propose(model, clusters(9, 1, 3, 4), [0, 6, 0, 0])
    if supported:
        assert (len(proposals), supports.tolist()) == (0, [(1, 0, 1)])
    else:
        assert (proposals["proposer"].tolist(), len(supports)) == ([1], 0)


def test_proposal_that_matches_confirmed_ones_supports_the_oldest(make_model: MakeModel):
    model = make_model(**QUIET)
    model.state.next_proposal = 9
    for number in (3, 5):
        know(model, number, np.full(N_FEATURES, FAR))
    proposals, supports = propose(model, clusters(1, 2, 3, 4), [6, 6, 0, 0])
    assert proposals["proposer"].tolist() == [1]
    assert supports.tolist() == [(0, 3, 0)]


def test_supporter_cools_down_too(make_model: MakeModel):
    model = make_model(**QUIET, signature={"cooldown_steps": 5})
    propose(model, clusters(1, 1, 3, 4), [6, 6, 0, 0])
    assert model.state.ready_step.tolist() == [5, 5, 0, 0]


def test_isolated_nodes_support_nobody_elses_signatures(make_model: MakeModel):
    model = make_model(**QUIET, dissemination={"kind": "none"})
    know(model, 0, np.full(N_FEATURES, FAR))  # node 0 proposed it
    model.state.next_proposal = 1
    proposals, supports = propose(model, clusters(1, 1, 1, 4), [6, 6, 6, 0])
    assert proposals["proposer"].tolist() == [1, 2]
    assert supports.tolist() == [(0, 0, 0)]


def test_node_that_is_down_proposes_nothing(make_model: MakeModel):
    model = make_model(**QUIET)
    model.state.up[1] = False
    assert propose(model, APART, [6, 6, 0, 0])[0]["proposer"].tolist() == [0]


def test_poisoner_proposes_its_ordinary_flows(make_model: MakeModel):
    model = make_model(**QUIET, adversary={"kind": "poisoner", "count": 1})
    (liar,) = np.flatnonzero(model.liars)
    proposals, _ = propose(model, APART, 0)
    assert proposals["proposer"].tolist() == [liar]
    model.state.up[liar] = False
    model.state.proposals.outcome[:] = Outcome.REJECTED
    model.state.step = 50
    assert len(propose(model, APART, 0)[0]) == 0


# --- vote and decide ----------------------------------------------------------------------


def vote(model: NetworkModel) -> Any:
    return phases.vote(
        model.config, model.streams, model.detector, model.adversary, model.liars, model.state
    )


def test_a_node_that_is_up_and_holds_a_pending_proposal_votes_on_it_once(make_model: MakeModel):
    model = make_model(**QUIET)
    propose(model, clusters(1, 2, 3, 4), [6, 6, 6, 0])
    pending = model.state.proposals
    assert vote(model)[["proposal", "node"]].tolist() == [(0, 0), (1, 1), (2, 2)]
    assert len(vote(model)) == 0
    pending.held[:] = True
    pending.outcome[1] = Outcome.REJECTED
    pending.electorate[2, 0] = False
    model.state.up[3] = False
    assert vote(model)[["proposal", "node"]].tolist() == [(0, 1), (0, 2), (2, 1)]
    model.state.up[3] = True
    late = vote(model)
    assert late[["proposal", "node"]].tolist() == [(0, 3), (2, 3)]
    assert late["ballot"].tolist() == pending.ballots[[0, 2], 3].tolist()
    assert (late["ballot"] != Ballot.NONE).all()
    assert len(vote(model)) == 0


@pytest.mark.parametrize("deadline", [1, 3])
def test_decision_falls_at_the_deadline_with_the_votes_that_are_there(
    make_model: MakeModel, deadline: int
):
    consensus = {"kind": "majority", "min_turnout": 0.5, "vote_deadline": deadline}
    model = make_model(**QUIET, consensus=consensus)
    model.state.step = 2
    propose(model, clusters(1, 2, 3, 4), [6, 6, 0, 0])
    pending = model.state.proposals
    pending.ballots[0, :2] = Ballot.ACCEPT
    pending.ballots[1, 0] = Ballot.ACCEPT
    pending.ballots[1, 3] = Ballot.ABSTAIN
    for step in range(2, 2 + deadline):
        model.state.step = step
        assert len(phases.decide_proposals(model.config, model.state)) == 0
    model.state.step = 2 + deadline
    fell = phases.decide_proposals(model.config, model.state)
    assert fell["outcome"].tolist() == [Outcome.CONFIRMED, Outcome.EXPIRED]
    assert fell["accept"].tolist() == [2, 1]
    assert fell["reject"].tolist() == [0, 0]
    assert fell["abstain"].tolist() == [0, 1]
    assert fell["registered"].tolist() == [N_NODES, N_NODES]
    assert pending.outcome.tolist() == fell["outcome"].tolist()
    assert len(phases.decide_proposals(model.config, model.state)) == 0


# --- respond ------------------------------------------------------------------------------


def test_blacklist_forgets_the_oldest_signature_first(make_model: MakeModel):
    model = make_model(
        **QUIET,
        response={"blacklist_capacity": 2},
        signature={"cooldown_steps": 0},
        voting={"mode": "competence", "competence": 1.0},
    )
    held = []
    for number in range(4):
        propose(model, clusters(number, 20, 40, 60), [6, 0, 0, 0])
        for _ in range(3):
            arrived = phases.disseminate(model.dissemination, model.state)
            vote(model)
            decisions = phases.decide_proposals(model.config, model.state)
            phases.respond(model.config, model.references, model.state, arrived, decisions)
            model.state.step += 1
        held.append([sorted(row[row >= 0].tolist()) for row in model.state.blacklist])
        assert model.state.signatures.number.tolist() == held[-1][0], "unheld ones are forgotten"
    assert held == [[want] * N_NODES for want in ([0], [0, 1], [1, 2], [2, 3])]
    assert model.state.blacklist_count.tolist() == [4] * N_NODES
    assert len(model.state.proposals) == 0


def test_only_confirmed_signatures_enter_blacklists(make_model: MakeModel):
    model = make_model(**QUIET)
    propose(model, APART)
    state = model.state
    state.proposals.outcome[:] = list(Outcome)
    decisions = np.zeros(3, dtype=[("proposal", "<u4")])
    decisions["proposal"] = [1, 2, 3]
    arrived = phases.disseminate(model.dissemination, state)
    phases.respond(model.config, model.references, state, arrived, decisions)
    assert set(state.blacklist.ravel().tolist()) == {-1, int(Outcome.CONFIRMED)}
    assert state.signatures.number.tolist() == [Outcome.CONFIRMED]
    assert state.proposals.outcome.tolist() == [Outcome.PENDING], "what all know is dropped"


def test_decision_reaches_a_node_that_was_down_when_it_fell(make_model: MakeModel):
    model = make_model(**QUIET)
    propose(model, APART, [6, 0, 0, 0])
    state = model.state
    decide_all(model, Outcome.CONFIRMED)
    decisions = np.zeros(1, dtype=[("proposal", "<u4")])
    state.up[3] = False
    for step in range(1, 4):
        state.step = step
        state.up[3] = step == 3
        arrived = phases.disseminate(model.dissemination, state)
        phases.respond(model.config, model.references, state, arrived, decisions[step > 1 :])
        assert (state.blacklist[:, 0] == 0).tolist() == [True] * 3 + [step == 3]
    assert len(state.proposals) == 0


# --- churn --------------------------------------------------------------------------------


def test_nodes_crash_and_recover_at_their_rates(make_model: MakeModel):
    model = make_model(
        simulation={"nodes": 400, "flows_per_node": 1},
        churn={"crash_rate": 0.1, "recovery_rate": 0.3},
    )
    crashes = recoveries = was_up = was_down = 0
    for step in range(60):
        before = model.state.up
        model.state.step = step
        phases.churn(model.config, model.streams, model.state)
        after = model.state.up
        was_up, was_down = was_up + before.sum(), was_down + (~before).sum()
        crashes += (before & ~after).sum()
        recoveries += (~before & after).sum()
    assert crashes / was_up == pytest.approx(0.1, abs=0.01)
    assert recoveries / was_down == pytest.approx(0.3, abs=0.02)


def test_without_churn_all_nodes_stay_up(make_model: MakeModel):
    model = make_model(**QUIET)
    for _ in range(5):
        model.step()
    assert model.state.up.all()
