"""Invariants that every run must keep, on random small configurations of all kinds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.adversaries import ADVERSARIES
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ATTACK_FAMILIES, ModelConfig
from sim_core.consensus import RULES, Outcome
from sim_core.detectors import DETECTORS
from sim_core.ledger.blocks import METRIC_COUNTS, close_block, first_hash, unpack_ballots
from sim_core.model import NetworkModel
from sim_core.network import DISSEMINATIONS

RUN_KEY = "0123456789abcdef" * 4
SHARES = {0.6: Fraction(3, 5), 2 / 3: Fraction(2, 3), 0.75: Fraction(3, 4), 1.0: Fraction(1)}
TURNOUTS = {0.0: Fraction(0), 0.25: Fraction(1, 4), 0.5: Fraction(1, 2), 1.0: Fraction(1)}


@st.composite
def campaigns(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "family": draw(st.sampled_from(ATTACK_FAMILIES)),
        "start": draw(st.integers(0, 8)),
        "duration": draw(st.integers(1, 10)),
        "node_share": draw(st.sampled_from([0.3, 1.0])),
        "flow_share": draw(st.sampled_from([0.3, 0.8])),
        "intensity": draw(st.sampled_from([1.0, 3.0])),
    }


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Return the settings of a small run; every registered kind is among the choices."""
    n_nodes = draw(st.integers(1, 9))
    consensus = {
        "kind": draw(st.sampled_from(sorted(RULES))),
        "min_turnout": draw(st.sampled_from(sorted(TURNOUTS))),
        "vote_deadline": draw(st.integers(1, 4)),
    }
    if consensus["kind"] == "supermajority":
        consensus["share"] = draw(st.sampled_from(sorted(SHARES)))
    if consensus["kind"] != "bft":
        consensus["base"] = draw(st.sampled_from(["cast", "all"]))
    if draw(st.booleans()):
        consensus["committee"] = draw(st.integers(1, 6))
    adversary = {"kind": draw(st.sampled_from(sorted(ADVERSARIES)))}
    if adversary["kind"] != "none":
        adversary["count"] = draw(st.integers(0, n_nodes))
    if adversary["kind"] == "sybil":
        adversary["join_step"] = draw(st.integers(1, 9))
    dissemination = {"kind": draw(st.sampled_from(sorted(DISSEMINATIONS)))}
    if dissemination["kind"] in ("push", "pull", "push_pull", "flood"):
        dissemination["latency"] = draw(st.integers(0, 2))
        dissemination["loss"] = draw(st.sampled_from([0.0, 0.3]))
        dissemination["batch"] = draw(st.integers(1, 3))
    modes = st.sampled_from(["fixed", "quantile", "calibrated"])
    return {
        "simulation": {
            "nodes": n_nodes,
            "flows_per_node": draw(st.integers(1, 12)),
            "steps": draw(st.integers(1, 16)),
        },
        "traffic": {
            "kind": "synthetic",
            "warmup_flows": 16,
            "campaigns": draw(st.lists(campaigns(), max_size=3)),
        },
        "detector": {
            "kind": draw(st.sampled_from(sorted(DETECTORS))),
            "learn": draw(st.booleans()),
            "threshold": {"mode": draw(modes), "value": 2.0, "share": 0.2},
        },
        "dissemination": dissemination,
        "consensus": consensus,
        "adversary": adversary,
        "signature": {
            "min_support": draw(st.integers(1, 3)),
            "cooldown_steps": draw(st.integers(0, 3)),
            "match_radius": draw(st.sampled_from([0.5, 2.0])),
        },
        "voting": {
            "mode": draw(st.sampled_from(["detector", "competence"])),
            "unseen": draw(st.sampled_from(["judge", "abstain"])),
            "max_benign_coverage": draw(st.sampled_from([0.05, 0.9])),
            "min_history": draw(st.sampled_from([0, 8])),
        },
        "response": {"blacklist_capacity": draw(st.integers(1, 3))},
        "churn": {"crash_rate": draw(st.sampled_from([0.0, 0.2])), "recovery_rate": 0.4},
        "metrics": {"auroc_every": draw(st.integers(1, 3)), "from_step": draw(st.integers(0, 5))},
    }


@dataclass
class History:
    """What a run has left behind, step by step."""

    model: NetworkModel
    entries: list[dict[str, Any]] = field(default_factory=list)
    up: list[Any] = field(default_factory=list)
    """Who was up while each step was observed."""
    blacklists: list[Any] = field(default_factory=list)
    known: list[list[int]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)

    def rows(self, kind: str) -> Any:
        return np.concatenate([entries[kind] for entries in self.entries])


def play(config: ModelConfig, seed: int = 3) -> History:
    model = NetworkModel(config, seed=seed, run_key=RUN_KEY)
    history = History(model)
    for _ in range(config.simulation.steps):
        history.up.append(model.state.up.copy())
        model.step()
        history.entries.append(model.entries)
        history.blacklists.append(model.state.blacklist.copy())
        history.known.append(model.state.signatures.number.tolist())
        history.hashes.append(model.state.head)
    model.close()
    return history


def check_votes(history: History) -> None:
    proposals = {int(row["proposal"]): row for row in history.rows("proposal")}
    decided = {int(row["proposal"]): int(row["step"]) for row in history.rows("decision")}
    votes = history.rows("vote")
    pairs = list(zip(votes["proposal"].tolist(), votes["node"].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs), "a node voted twice"
    for row in votes:
        number, step, node = int(row["proposal"]), int(row["step"]), int(row["node"])
        assert row["ballot"] in (Ballot.ACCEPT, Ballot.REJECT, Ballot.ABSTAIN)
        assert history.up[step][node], "a node that is down voted"
        assert proposals[number]["step"] <= step <= decided.get(number, 10**9)
        if node != proposals[number]["proposer"]:
            assert history.model.config.n_voters > 1 or history.model.config.consensus.committee
            assert proposals[number]["step"] < step, "a node voted before it could know"


def check_decisions(history: History) -> None:
    config = history.model.config
    last = config.simulation.steps - 1
    proposals, decisions = history.rows("proposal"), history.rows("decision")
    numbers = decisions["proposal"].tolist()
    assert proposals["proposal"].tolist() == list(range(len(proposals)))
    assert len(set(numbers)) == len(numbers), "a proposal was decided twice"
    for row in proposals:
        due = int(row["step"]) + config.consensus.vote_deadline
        if due <= last:
            assert int(row["proposal"]) in numbers, "a proposal is past its deadline"
    start = dict(zip(proposals["proposal"].tolist(), proposals["step"].tolist(), strict=True))
    for row in decisions:
        waited = int(row["step"]) - start[int(row["proposal"])]
        assert 0 <= waited <= config.consensus.vote_deadline
    assert history.rows("metrics")["pending"][-1] == len(proposals) - len(decisions)


def check_outcomes(history: History) -> None:
    config = history.model.config
    consensus: Any = config.consensus
    tallies: dict[int, Counter[int]] = {}
    cast_by: dict[int, dict[int, int]] = {}
    for row in history.rows("vote"):
        tallies.setdefault(int(row["proposal"]), Counter())[int(row["ballot"])] += 1
        cast_by.setdefault(int(row["proposal"]), {})[int(row["node"])] = int(row["ballot"])
    for row in history.rows("decision"):
        number = int(row["proposal"])
        tally, registered = tallies.get(number, Counter()), int(row["registered"])
        accept, reject = tally[Ballot.ACCEPT], tally[Ballot.REJECT]
        assert (row["accept"], row["reject"], row["abstain"]) == (
            accept,
            reject,
            tally[Ballot.ABSTAIN],
        )
        assert tally.total() <= registered
        assert registered <= config.n_voters
        packed = unpack_ballots(row["ballots"][None], config.n_voters)[0]
        cast_in_order = [b for _, b in sorted(cast_by.get(number, {}).items())]
        assert [int(b) for b in packed if b] == cast_in_order
        cast = accept + reject
        if row["outcome"] == Outcome.EXPIRED:
            assert cast < ceil(TURNOUTS[consensus.min_turnout] * registered)
            continue
        assert cast >= ceil(TURNOUTS[consensus.min_turnout] * registered)
        if row["outcome"] == Outcome.CONFIRMED:
            assert accept > 0
            base = cast if getattr(consensus, "base", "all") == "cast" else registered
            if consensus.kind == "bft":
                assert 3 * accept > 2 * registered - 3
            elif consensus.kind == "majority":
                assert accept > Fraction(base, 2)
            elif consensus.kind == "supermajority":
                assert accept >= SHARES[consensus.share] * base
        else:
            assert row["outcome"] == Outcome.REJECTED


def check_blacklists(history: History) -> None:
    """Compare with a queue per node: a confirmed signature is read in the first step after it."""
    model = history.model
    if (
        model.config.dissemination.kind not in ("ledger", "none")
        or model.config.adversary.kind == "sybil"
    ):
        held = set(np.concatenate(history.blacklists).ravel().tolist())
        decisions = history.rows("decision")
        confirmed_ones = decisions["proposal"][decisions["outcome"] == Outcome.CONFIRMED]
        assert held <= set(confirmed_ones.tolist()) | {-1}
        return
    n_nodes = model.config.simulation.nodes
    queues: list[deque[int]] = [
        deque(maxlen=model.config.response.blacklist_capacity) for _ in range(n_nodes)
    ]
    unread: list[list[int]] = [[] for _ in range(n_nodes)]
    proposer = {int(r["proposal"]): int(r["proposer"]) for r in history.rows("proposal")}
    confirmed: set[int] = set()
    for step, entries in enumerate(history.entries):
        for node in np.flatnonzero(history.up[step]):
            queues[node].extend(sorted(unread[node]))
            unread[node] = []
        for row in entries["decision"]:
            if row["outcome"] == Outcome.CONFIRMED:
                number = int(row["proposal"])
                confirmed.add(number)
                concerned = range(n_nodes) if model.dissemination.shared else [proposer[number]]
                for node in concerned:
                    unread[node].append(number)
        for node, held in enumerate(history.blacklists[step]):
            assert sorted(held[held >= 0].tolist()) == sorted(queues[node])
        assert set(history.known[step]) == {n for q in queues for n in q} | {
            n for waiting in unread for n in waiting
        }
        assert history.known[step] == sorted(history.known[step])
    assert set(np.concatenate(history.blacklists).ravel().tolist()) <= confirmed | {-1}


def check_reputations(history: History) -> None:
    """Recount agreement with decisions from the ledger's entries alone."""
    counts = np.ones((history.model.config.simulation.nodes, 2))
    proposer = {int(r["proposal"]): int(r["proposer"]) for r in history.rows("proposal")}
    votes = history.rows("vote")
    for row in history.rows("decision"):
        agreeing = {Outcome.CONFIRMED: Ballot.ACCEPT, Outcome.REJECTED: Ballot.REJECT}.get(
            Outcome(row["outcome"])
        )
        if agreeing is None:
            continue
        for vote in votes[votes["proposal"] == row["proposal"]]:
            if vote["ballot"] != Ballot.ABSTAIN:
                counts[vote["node"], 0 if vote["ballot"] == agreeing else 1] += 1
        counts[proposer[int(row["proposal"])], 0 if agreeing == Ballot.ACCEPT else 1] += 1
    assert history.model.state.reputation.tolist() == counts.tolist()


def check_metrics(history: History) -> None:
    model = history.model
    n_flows = model.config.simulation.flows_per_node
    is_true = {int(r["proposal"]): bool(r["is_true"]) for r in history.rows("proposal")}
    sent = arrived = 0
    for step, entries in enumerate(history.entries):
        (row,) = entries["metrics"]
        up = int(history.up[step].sum())
        assert row["step"] == step
        assert row["nodes_up"] == up
        assert row["tp"] + row["fp"] + row["tn"] + row["fn"] == n_flows * up
        honest = [int(row[f"honest_{name}"]) for name in ("tp", "fp", "tn", "fn")]
        assert sum(honest) == n_flows * int((history.up[step] & ~model.liars).sum())
        assert all(h <= row[n] for h, n in zip(honest, ("tp", "fp", "tn", "fn"), strict=True))
        assert row["alerts"] == row["tp"] + row["fp"] == len(entries["alert"])
        assert row["benign_blocked"] <= row["honest_fp"]
        ballots = Counter(entries["vote"]["ballot"].tolist())
        assert row["votes_accept"] == ballots[Ballot.ACCEPT]
        assert row["votes_reject"] == ballots[Ballot.REJECT]
        assert row["votes_abstain"] == ballots[Ballot.ABSTAIN]
        outcomes = Counter(entries["decision"]["outcome"].tolist())
        assert row["confirmed"] == outcomes[Outcome.CONFIRMED]
        assert row["rejected"] == outcomes[Outcome.REJECTED]
        assert row["expired"] == outcomes[Outcome.EXPIRED]
        assert row["proposals"] == len(entries["proposal"])
        assert row["supports"] == len(entries["support"])
        confirmed = entries["decision"]["outcome"] == Outcome.CONFIRMED
        truth = [is_true[int(n)] for n in entries["decision"]["proposal"][confirmed]]
        assert row["true_confirmations"] == sum(truth)
        assert row["false_confirmations"] == len(truth) - sum(truth)
        sent += int(row["messages_sent"])
        arrived += int(row["messages_delivered"] + row["messages_lost"])
        assert sent == arrived + row["messages_in_flight"]
        assert all(row[name] >= 0 for name in METRIC_COUNTS)
        for name in ("auroc", "immunity_share", "reputation_honest", "reputation_dishonest"):
            assert np.isnan(row[name]) or 0 <= row[name] <= 1
        assert np.isnan(row["auroc"]) or step % model.config.metrics.auroc_every == 0
    counted = history.rows("metrics")[model.config.metrics.from_step :]
    assert model.state.totals.tolist() == [int(counted[name].sum()) for name in METRIC_COUNTS]
    flows = sum(int(counted[f"honest_{name}"].sum()) for name in ("tp", "fp", "tn", "fn"))
    model.collect()
    assert model.state.histogram.sum() == flows
    attacks = int(counted["honest_tp"].sum() + counted["honest_fn"].sum())
    assert model.state.histogram[1].sum() == attacks


def check_supports_and_alerts(history: History) -> None:
    """Supports name published proposals; entries of a step are in their canonical order."""
    published: set[int] = set()
    for step, entries in enumerate(history.entries):
        published |= set(entries["proposal"]["proposal"].tolist())
        assert set(entries["support"]["proposal"].tolist()) <= published
        for kind, order in (
            ("alert", ["node", "flow"]),
            ("proposal", ["proposal"]),
            ("support", ["proposal", "node"]),
            ("vote", ["proposal", "node"]),
            ("decision", ["proposal"]),
        ):
            assert (entries[kind]["step"] == step).all()
            keys = [tuple(int(row[name]) for name in order) for row in entries[kind]]
            assert keys == sorted(set(keys)), f"{kind} entries are out of order"
        writers = entries["proposal"]["proposer"].tolist() + entries["support"]["node"].tolist()
        assert len(set(writers)) == len(writers), "a node published twice in one step"
        assert history.up[step][writers].all()


def check_chain(history: History) -> None:
    previous = first_hash(RUN_KEY)
    for step, entries in enumerate(history.entries):
        block = close_block(previous, step, entries)
        assert block.hash == history.hashes[step]
        previous = block.hash


CHECKS: tuple[Callable[[History], None], ...] = (
    check_votes,
    check_decisions,
    check_outcomes,
    check_blacklists,
    check_reputations,
    check_metrics,
    check_supports_and_alerts,
    check_chain,
)


def count_what_happened(history: History, seen: Counter[str]) -> None:
    capacity = history.model.config.response.blacklist_capacity
    for kind in ("alert", "proposal", "support", "vote", "decision"):
        seen[kind] += len(history.rows(kind)) > 0
    for outcome in Outcome:
        seen[outcome.name] += bool((history.rows("decision")["outcome"] == outcome).any())
    for ballot in Ballot:
        seen[ballot.name] += bool((history.rows("vote")["ballot"] == ballot).any())
    seen["down"] += not all(up.all() for up in history.up)
    seen["evicted"] += bool((history.model.state.blacklist_count > capacity).any())
    seen["liars"] += bool(history.model.liars.any())
    seen["pending at the end"] += bool(history.rows("metrics")["pending"][-1])


def test_invariants_hold_on_random_small_networks():
    seen: Counter[str] = Counter()

    @given(groups=configurations(), seed=st.integers(0, 3))
    @settings(max_examples=max(150, settings().max_examples))
    def check_one(groups: dict[str, Any], seed: int) -> None:
        history = play(ModelConfig.model_validate(groups), seed)
        for check in CHECKS:
            check(history)
        count_what_happened(history, seen)

    check_one()
    assert not seen["PENDING"], "a decision that decides nothing"
    assert not seen["NONE"], "a vote that votes nothing"
    idle = {name for name, count in seen.items() if count < 3} - {"PENDING", "NONE"}
    assert not idle, f"the examples hardly try {idle}: {seen}"


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_invariants_hold_on_replayed_traffic(data_folder: Any, make_config: Any, transform: str):
    config = make_config(
        simulation={"steps": 15},
        traffic={"kind": "nsl_kdd", "path": str(data_folder / "nsl-kdd"), "transform": transform},
        adversary={"kind": "poisoner"},
        churn={"crash_rate": 0.1},
    )
    history = play(config)
    for check in CHECKS:
        check(history)
    assert len(history.rows("decision")) > 0
