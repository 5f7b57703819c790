"""What each adversary does, which nodes lie, when sleepers turn and sybils join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.adversaries import (
    ADVERSARIES,
    Ballot,
    choose_liars,
    joined_nodes,
    make_adversary,
    wake,
)
from sim_core.config import ModelConfig, SignatureConfig
from sim_core.model import NetworkModel
from sim_core.randomness import Streams

MakeModel = Callable[..., NetworkModel]
NONE, ACCEPT, REJECT, ABSTAIN = Ballot
LIKE_POISONERS = ("poisoner", "colluder", "sleeper", "sybil")


def config_of(kind: str, n_nodes: int = 10, **settings: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {"simulation": {"nodes": n_nodes}, "adversary": {"kind": kind, **settings}}
    )


# --- ballots --------------------------------------------------------------------------------

EXPECTED = {
    "none": {"own": (ACCEPT, REJECT, ABSTAIN), "others": (ACCEPT, REJECT, ABSTAIN)},
    "silent": {"own": (NONE, NONE, NONE), "others": (NONE, NONE, NONE)},
    "flipper": {"own": (REJECT, ACCEPT, ABSTAIN), "others": (REJECT, ACCEPT, ABSTAIN)},
    "poisoner": {"own": (ACCEPT, ACCEPT, ACCEPT), "others": (ACCEPT, REJECT, ABSTAIN)},
}
"""Ballots where an honest node would accept, reject, abstain."""


@pytest.mark.parametrize("by_liar", [False, True])
@pytest.mark.parametrize("whose", ["own", "others"])
@pytest.mark.parametrize("kind", EXPECTED)
def test_ballot_follows_from_opinion_and_authorship(kind: str, whose: str, by_liar: bool):
    found = make_adversary(config_of(kind)).ballots(
        np.array([ACCEPT, REJECT, ABSTAIN], dtype=np.uint8),
        own=np.full(3, whose == "own"),
        by_liar=np.full(3, by_liar),
        luck=np.array([0.0, 0.5, 0.99]),
    )
    assert tuple(found) == EXPECTED[kind][whose]


@pytest.mark.parametrize("kind", ["colluder", "sleeper", "sybil"])
def test_colluders_accept_what_liars_propose_and_nothing_else(kind: str):
    found = make_adversary(config_of(kind)).ballots(
        np.array([ACCEPT, REJECT, ABSTAIN] * 2, dtype=np.uint8),
        own=np.zeros(6, dtype=np.bool_),
        by_liar=np.array([True] * 3 + [False] * 3),
        luck=np.full(6, 0.5),
    )
    assert found.tolist() == [ACCEPT] * 3 + [REJECT] * 3


@given(probability=st.floats(0, 1), luck=st.lists(st.floats(0, 1, exclude_max=True), max_size=9))
def test_random_voters_accept_where_luck_is_below_the_probability(
    probability: float, luck: list[float]
):
    n = len(luck)
    found = make_adversary(config_of("random_voter", accept_probability=probability)).ballots(
        np.full(n, ABSTAIN, dtype=np.uint8),
        own=np.zeros(n, dtype=np.bool_),
        by_liar=np.zeros(n, dtype=np.bool_),
        luck=np.array(luck),
    )
    assert found.tolist() == [ACCEPT if u < probability else REJECT for u in luck]


# --- proposals ------------------------------------------------------------------------------


def chosen_by(kind: str, score: Any, flagged: Any, min_support: int = 1) -> Any:
    flagged = np.array(flagged, dtype=np.bool_)
    return ADVERSARIES[kind](config_of(kind).adversary).supporting_flows(
        flagged.copy(),
        np.array(score, dtype=np.float32),
        flagged,
        SignatureConfig(min_support=min_support),
    )


@pytest.mark.parametrize("kind", LIKE_POISONERS)
def test_poisoners_propose_their_most_ordinary_flows(kind: str):
    score = [[5, 1, 3, 2, 4], [1, 2, 3, 4, 5]]
    flagged = [[0, 0, 0, 0, 0], [1, 1, 1, 0, 1]]
    assert chosen_by(kind, score, flagged).tolist() == [
        [False, True, False, True, False],
        [False, False, False, True, False],
    ]
    assert chosen_by(kind, score, flagged, min_support=5).sum(axis=1).tolist() == [5, 1]


@pytest.mark.parametrize("kind", ["none", "random_voter", "flipper"])
def test_others_propose_like_honest_nodes(kind: str):
    flagged = [[1, 0, 1], [0, 0, 0]]
    assert chosen_by(kind, np.zeros((2, 3)), flagged).tolist() == np.array(flagged, bool).tolist()


def test_silent_nodes_propose_nothing():
    assert not chosen_by("silent", np.ones((2, 3)), np.ones((2, 3))).any()


# --- membership -----------------------------------------------------------------------------


@given(n_nodes=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_larger_share_contains_the_smaller_one(n_nodes: int, share: float, seed: int):
    streams = Streams(seed, 0)
    fewer = choose_liars(config_of("flipper", n_nodes, share=share / 2), streams)
    more = choose_liars(config_of("flipper", n_nodes, share=share), streams)
    assert more.sum() == round(share * n_nodes)
    assert not (fewer & ~more).any()


def test_a_node_more_leaves_the_order_of_the_others():
    few = choose_liars(config_of("flipper", 40, count=10), Streams(1, 0))
    many = choose_liars(config_of("flipper", 41, count=10), Streams(1, 0))
    gone = np.flatnonzero(few & ~many[:40])
    assert len(gone) == int(many[40]), "at most one makes room for it"


def test_replicates_have_other_liars():
    chosen = {
        tuple(choose_liars(config_of("silent", 40, count=10), Streams(1, r))) for r in range(5)
    }
    assert len(chosen) == 5


def test_sybils_join_in_their_step_and_everybody_else_is_there():
    liars = np.arange(10) < 3
    config = config_of("sybil", count=3, join_step=5)
    assert joined_nodes(config, liars, 0).tolist() == (~liars).tolist()
    assert joined_nodes(config, liars, 4).tolist() == (~liars).tolist()
    assert joined_nodes(config, liars, 5).all()
    for kind in set(ADVERSARIES) - {"sybil", "none"}:
        assert joined_nodes(config_of(kind, count=3), liars, 0).all(), kind


def test_sleepers_turn_at_their_reputation_and_stay_turned():
    config = config_of("sleeper", 4, count=3, wake_reputation=0.75)
    liars = np.array([True, True, True, False])
    reputation = np.array([[3.0, 1], [2, 1], [1, 1], [9, 1]])
    asleep = np.zeros(4, dtype=np.bool_)
    turned = wake(config, liars, reputation, asleep)
    assert turned.tolist() == [True, False, False, False], "3 / 4 is enough, 2 / 3 is not"
    ruined = np.array([[3.0, 9], [2, 9], [9, 1], [9, 1]])
    assert wake(config, liars, ruined, turned).tolist() == [True, False, True, False]


def test_others_are_awake_from_the_start():
    awake = np.array([True, False])
    for kind in set(ADVERSARIES) - {"sleeper"}:
        config = config_of(kind, 2)
        assert wake(config, np.ones(2, np.bool_), np.full((2, 2), 9.0), awake) is awake


# --- in a run -------------------------------------------------------------------------------


def run(model: NetworkModel, steps: int) -> list[dict[str, Any]]:
    entries = []
    for _ in range(steps):
        model.step()
        entries.append(model.entries)
    return entries


def test_silent_nodes_neither_propose_nor_vote_and_are_registered(make_model: MakeModel):
    model = make_model(adversary={"kind": "silent", "count": 3})
    liars = np.flatnonzero(model.liars)
    entries = run(model, 12)
    votes = np.concatenate([e["vote"]["node"] for e in entries])
    proposers = np.concatenate([e["proposal"]["proposer"] for e in entries])
    assert proposers.size
    assert votes.size
    assert not np.isin(votes, liars).any()
    assert not np.isin(proposers, liars).any()
    registered = np.concatenate([e["decision"]["registered"] for e in entries])
    assert set(registered.tolist()) == {8}


def test_sybils_are_no_part_of_the_network_before_they_join(make_model: MakeModel):
    model = make_model(adversary={"kind": "sybil", "count": 3, "join_step": 6})
    liars = np.flatnonzero(model.liars)
    entries = run(model, 12)
    for step, found in enumerate(entries):
        assert found["metrics"]["nodes_up"][0] == (5 if step < 6 else 8)
        for kind, column in (("alert", "node"), ("proposal", "proposer"), ("vote", "node")):
            assert step >= 6 or not np.isin(found[kind][column], liars).any()
    published = {int(n): step for step, e in enumerate(entries) for n in e["proposal"]["proposal"]}
    registered = {
        (published[int(d["proposal"])] >= 6, int(d["registered"]))
        for e in entries
        for d in e["decision"]
    }
    assert registered == {(False, 5), (True, 8)}
    votes = np.concatenate([e["vote"]["node"] for e in entries[6:]])
    assert np.isin(votes, liars).any()


def test_colluders_confirm_their_own_and_reject_the_rest(make_model: MakeModel):
    model = make_model(adversary={"kind": "colluder", "count": 3})
    liars = np.flatnonzero(model.liars)
    entries = run(model, 12)
    proposals = np.concatenate([e["proposal"] for e in entries])
    by_liar = dict(
        zip(proposals["proposal"].tolist(), np.isin(proposals["proposer"], liars), strict=True)
    )
    votes = [v for e in entries for v in e["vote"] if v["node"] in liars]
    assert {by_liar[int(v["proposal"])] for v in votes} == {True, False}
    for vote in votes:
        assert vote["ballot"] == (ACCEPT if by_liar[int(vote["proposal"])] else REJECT)


def test_sleepers_are_honest_until_they_turn(make_model: MakeModel):
    """Their run is the honest one until a sleeper has the reputation, and another one after it."""
    groups = {
        "signature": {"cooldown_steps": 1},
        "voting": {"mode": "competence", "competence": 0.95},
    }
    sleeper = {"kind": "sleeper", "count": 3, "wake_reputation": 0.7}
    honest, sleeping = make_model(**groups), make_model(**groups, adversary=sleeper)
    kinds = ("alert", "proposal", "support", "vote", "decision")
    turned_before, differed = False, False
    for _ in range(12):
        honest.step()
        sleeping.step()
        same = all(honest.entries[k].tobytes() == sleeping.entries[k].tobytes() for k in kinds)
        assert same or turned_before
        differed |= not same
        turned_before = bool(sleeping.state.awake.any())
        assert not (sleeping.state.awake & ~sleeping.liars).any()
    assert differed, "a sleeper should have turned in this run"
