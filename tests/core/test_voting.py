"""How nodes judge signatures, against a plain loop over pairs of proposal and node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim_core import voting
from sim_core.adversaries.strategies import Ballot
from sim_core.consensus import Outcome
from sim_core.model import NetworkModel
from sim_core.state import RECENT_FLOWS, Proposals

MakeModel = Callable[..., NetworkModel]
N_NODES = 8


def put_to_the_vote(model: NetworkModel, centroids: Any, *, number: Any = None) -> None:
    """Give the model these signatures as pending proposals that everyone holds."""
    n = len(centroids)
    n_nodes = model.config.simulation.nodes
    everyone = np.ones((n, n_nodes), dtype=bool)
    model.state.proposals = Proposals(
        number=np.arange(n) if number is None else np.asarray(number),
        step=np.zeros(n, dtype=np.int64),
        proposer=np.arange(n) % n_nodes,
        centroid=np.asarray(centroids, dtype=np.float32),
        scale=np.full((n, 8), 0.5, dtype=np.float32),
        is_true=np.arange(n) % 2 == 0,
        family=np.ones(n, dtype=np.int16),
        outcome=np.full(n, Outcome.PENDING, dtype=np.uint8),
        ballots=np.zeros((n, n_nodes), dtype=np.uint8),
        electorate=everyone,
        held=everyone.copy(),
        informed=~everyone,
    )


def cast(model: NetworkModel) -> Any:
    """Return the ballots of all nodes on all proposals `[n_proposals, n_nodes]`."""
    shape = model.state.proposals.ballots.shape
    row, node = (index.ravel() for index in np.indices(shape))
    return voting.cast_ballots(
        model.config,
        model.state,
        model.detector,
        model.adversary,
        model.liars,
        model.streams,
        row,
        node,
    ).reshape(shape)


def plain_opinion(model: NetworkModel, row: int, node: int) -> Ballot:
    """Return what one honest node thinks of one signature, flow by flow."""
    state, settings = model.state, model.config.voting
    centroid = state.proposals.centroid[row].astype(float)
    scale = state.proposals.scale[row].astype(float)
    filled = min(int(state.recent_count[node]), RECENT_FLOWS)
    distances = [
        float(np.sqrt((((state.recent[node, k] - centroid) / scale) ** 2).mean()))
        for k in range(filled)
    ]
    near = sum(d <= settings.unseen_radius for d in distances)
    if settings.unseen == "abstain" and near < settings.unseen_neighbours:
        return Ballot.ABSTAIN
    if filled < settings.min_history:
        return Ballot.ABSTAIN
    one = state.proposals.centroid[row][None, None]
    mine = {name: values[[node]] for name, values in state.detector.items()}
    score = model.detector.score(mine, one)[0, 0]
    covered = sum(d <= model.config.signature.match_radius for d in distances)
    accepts = score > state.threshold[node] and covered <= settings.max_benign_coverage * filled
    return Ballot.ACCEPT if accepts else Ballot.REJECT


@pytest.mark.parametrize("unseen", ["judge", "abstain"])
@pytest.mark.parametrize("coverage", [0.0, 0.2])
def test_honest_ballots_equal_a_plain_loop(make_model: MakeModel, unseen: str, coverage: float):
    model = make_model(
        simulation={"flows_per_node": 6},
        traffic={"warmup_flows": 200, "campaigns": []},
        voting={"unseen": unseen, "max_benign_coverage": coverage, "min_history": 20},
        signature={"match_radius": 3.0},
    )
    seen = set()
    rng = np.random.default_rng(1)
    for _ in range(6):  # 6 flows a step: first too little history, then more than the ring holds
        model.step()
        strange = rng.normal(0, 4, (6, 8))
        usual = model.state.recent[np.arange(6), 0].astype(float)
        put_to_the_vote(model, np.concatenate([strange, usual, usual + rng.normal(0, 1, (6, 8))]))
        found = cast(model)
        for (row, node), ballot in np.ndenumerate(found):
            assert ballot == plain_opinion(model, row, node)
        seen |= set(found.ravel().tolist())
    assert seen == {Ballot.ACCEPT, Ballot.REJECT, Ballot.ABSTAIN}


def test_signature_that_covers_own_recent_flows_is_rejected(make_model: MakeModel):
    model = make_model(
        simulation={"flows_per_node": 40},
        signature={"match_radius": 1e6, "min_support": 1000},
        voting={"min_history": 8},
    )
    model.step()
    put_to_the_vote(model, np.full((1, 8), 50.0))
    assert (cast(model) == Ballot.REJECT).all()
    for history, ballot in ((8, Ballot.REJECT), (7, Ballot.ABSTAIN)):
        model.state.recent_count[:] = history
        assert (cast(model) == ballot).all()


def test_pairs_are_judged_alike_whatever_is_judged_beside_them(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
):
    for mode in ("detector", "competence"):
        model = make_model(adversary={"kind": "flipper"}, voting={"mode": mode})
        for _ in range(4):
            model.step()
        put_to_the_vote(model, np.random.default_rng(2).normal(0, 3, (5, 8)))
        together = cast(model)
        monkeypatch.setattr(voting, "PAIRS_AT_ONCE", 3)
        assert cast(model).tolist() == together.tolist()
        monkeypatch.undo()


def test_competent_nodes_vote_right_with_their_probability(make_model: MakeModel):
    truth = np.arange(200)[:, None] % 2 == 0
    shares = {}
    for competence in (0.0, 0.7, 1.0):
        model = make_model(
            simulation={"nodes": 40}, voting={"mode": "competence", "competence": competence}
        )
        put_to_the_vote(model, np.zeros((200, 8)))
        ballots = cast(model)
        assert set(ballots.ravel().tolist()) <= {Ballot.ACCEPT, Ballot.REJECT}
        shares[competence] = ((ballots == Ballot.ACCEPT) == truth).mean()
        per_node = ((ballots == Ballot.ACCEPT) == truth).mean(axis=0)
        assert np.ptp(per_node) < 0.3
    assert shares[0.0] == 0
    assert shares[1.0] == 1
    assert shares[0.7] == pytest.approx(0.7, abs=0.02)


def test_competent_luck_belongs_to_node_and_proposal(make_model: MakeModel):
    def ballots(nodes: int, numbers: list[int]) -> Any:
        model = make_model(simulation={"nodes": nodes}, voting={"mode": "competence"})
        put_to_the_vote(model, np.zeros((len(numbers), 8)), number=numbers)
        model.state.proposals.is_true[:] = True
        return cast(model)

    base = ballots(8, [0, 1, 2, 3])
    assert ballots(70, [0, 1, 2, 3])[:, :8].tolist() == base.tolist()
    assert ballots(8, [2, 3]).tolist() == base[2:].tolist()
    assert len({tuple(row) for row in ballots(70, [0, 1, 2, 3])}) == 4


@pytest.mark.parametrize("kind", ["none", "flipper", "poisoner"])
def test_liars_turn_their_own_honest_opinions_and_nobody_elses(make_model: MakeModel, kind: str):
    settings = {"kind": kind} | ({} if kind == "none" else {"count": 3})
    model, honest = make_model(adversary=settings), make_model()
    for _ in range(3):
        honest.step()
    model.state = replace(honest.state)
    centroids = np.random.default_rng(0).normal(0, 1, (24, 8)) * ([[3]] * 8 + [[0.3]] * 16)
    put_to_the_vote(model, centroids)
    put_to_the_vote(honest, centroids)
    found, expected = cast(model), cast(honest)
    assert {Ballot.ACCEPT, Ballot.REJECT} <= set(expected.ravel().tolist())
    own = model.state.proposals.proposer[:, None] == np.arange(N_NODES)
    other = {Ballot.ACCEPT: Ballot.REJECT, Ballot.REJECT: Ballot.ACCEPT}
    for (row, node), opinion in np.ndenumerate(expected):
        right = Ballot(opinion)
        if model.liars[node] and kind == "flipper":
            right = other.get(right, right)
        if model.liars[node] and kind == "poisoner" and own[row, node]:
            right = Ballot.ACCEPT
        assert found[row, node] == right
    assert (found != expected).any() or kind == "none"


def test_abstaining_flipper_still_abstains(make_model: MakeModel):
    model = make_model(adversary={"kind": "flipper", "share": 1.0})
    put_to_the_vote(model, np.full((1, 8), 50.0))
    assert (cast(model) == Ballot.ABSTAIN).all()


def test_poisoner_takes_its_most_ordinary_unflagged_flows(make_model: MakeModel):
    model = make_model(adversary={"kind": "poisoner"}, signature={"min_support": 2})
    score = np.array([[5, 1, 9, 2, 3, 0.5, 8, 4]], dtype=np.float32)
    flagged = np.array([[0, 0, 1, 0, 0, 1, 0, 0]], dtype=bool)
    chosen = model.adversary.supporting_flows(flagged, score, flagged, model.config.signature)
    assert np.flatnonzero(chosen[0]).tolist() == [1, 3, 4, 7]
    all_flagged = np.ones_like(flagged)
    chosen = model.adversary.supporting_flows(
        all_flagged, score, all_flagged, model.config.signature
    )
    assert not chosen.any()
