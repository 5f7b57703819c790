"""`decide` against every way in which the outstanding voters may still behave, and its exact laws."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from math import ceil, comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim_core.config import (
    BftConsensus,
    MajorityConsensus,
    SupermajorityConsensus,
    WeightedConsensus,
)
from sim_core.consensus import Outcome, Tally, decide, vote_weights

SHARES = {0.55: Fraction(11, 20), 0.6: Fraction(3, 5), 2 / 3: Fraction(2, 3), 0.75: Fraction(3, 4)}
SHARES |= {0.7: Fraction(7, 10), 0.8: Fraction(4, 5), 0.9: Fraction(9, 10), 1.0: Fraction(1)}
TURNOUTS = {0.0: Fraction(0), 0.25: Fraction(1, 4), 1 / 3: Fraction(1, 3)}
TURNOUTS |= {0.5: Fraction(1, 2), 1.0: Fraction(1)}
FEW_SHARES = (0.6, 2 / 3, 1.0)


def configurations(shares: Any = SHARES, turnouts: Any = TURNOUTS) -> Iterator[Any]:
    """Yield the rules that count heads."""
    for turnout in turnouts:
        yield BftConsensus(min_turnout=turnout)
    for base, turnout in product(("cast", "all"), turnouts):
        yield MajorityConsensus(base=base, min_turnout=turnout)
        for share in shares:
            yield SupermajorityConsensus(base=base, min_turnout=turnout, share=share)


def ident(config: Any) -> str:
    share = getattr(config, "share", None)
    name = config.kind if share is None else f"{config.kind} {share:.3g}"
    return f"{name} of {getattr(config, 'base', 'all')}, turnout {config.min_turnout:.3g}"


def quorum(n: int) -> int:
    """Return the smallest size of which two sets of n nodes share one more than f, 3 f < n."""
    f = max(f for f in range(n) if 3 * f < n)
    return min(q for q in range(1, n + 1) if 2 * q - n > f)


@cache
def at_the_deadline(config: Any, accept: int, reject: int, registered: int) -> Outcome:
    """Return the outcome by the rules as they are written down, in exact fractions."""
    cast = accept + reject
    if cast < ceil(TURNOUTS[config.min_turnout] * registered):
        return Outcome.EXPIRED
    base = registered if getattr(config, "base", "all") == "all" else cast
    if config.kind == "majority":
        enough = accept > Fraction(base, 2)
    elif config.kind == "bft":
        most_liars = ceil(Fraction(registered, 3)) - 1
        enough = accept > Fraction(registered + most_liars, 2)
    else:
        enough = accept >= SHARES[config.share] * base
    return Outcome.CONFIRMED if enough and accept else Outcome.REJECTED


def tallies(largest: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield accept, reject, outstanding, registered; the rest have abstained."""
    for registered in range(1, largest + 1):
        for accept in range(registered + 1):
            for reject in range(registered + 1 - accept):
                for outstanding in range(registered + 1 - accept - reject):
                    yield accept, reject, outstanding, registered


def decided(config: Any, rows: list[tuple[int, int, int, int]], *, due: bool) -> list[Outcome]:
    accept, reject, outstanding, registered = np.array(rows).T
    votes = Tally(accept=accept, reject=reject, registered=registered, outstanding=outstanding)
    found = decide(config, votes, votes, np.full(len(rows), due))
    assert found.dtype == np.uint8
    return [Outcome(value) for value in found]


def possible_outcomes(config: Any, row: tuple[int, int, int, int]) -> set[Outcome]:
    """Return what may come of a proposal: each outstanding node accepts, rejects or casts nothing."""
    accept, reject, outstanding, registered = row
    return {
        at_the_deadline(config, accept + more, reject + less, registered)
        for more in range(outstanding + 1)
        for less in range(outstanding + 1 - more)
    }


@pytest.mark.parametrize("config", list(configurations()), ids=ident)
def test_outcome_at_the_deadline_is_the_rules(config: Any):
    rows = [row for row in tallies(10) if row[0] + row[1] > 0]
    expected = [at_the_deadline(config, a, r, n) for a, r, _, n in rows]
    assert decided(config, rows, due=True) == expected


@pytest.mark.parametrize("kind", ["majority", "supermajority", "bft"])
def test_nothing_is_confirmed_without_a_vote_to_accept(kind: str):
    rows = [row for row in tallies(7) if row[0] == 0]
    for config in configurations():
        if config.kind == kind:
            for due in (True, False):
                assert Outcome.CONFIRMED not in decided(config, rows, due=due), ident(config)


@pytest.mark.parametrize("config", list(configurations(FEW_SHARES)), ids=ident)
def test_decision_falls_early_exactly_where_outstanding_votes_cannot_change_it(config: Any):
    rows = list(tallies(7))
    for row, found in zip(rows, decided(config, rows, due=False), strict=True):
        possible = possible_outcomes(config, row)
        if possible == {Outcome.EXPIRED} and row[2]:
            continue  # the next test's
        expected = possible.pop() if len(possible) == 1 else Outcome.PENDING
        assert found == expected, row


def test_proposal_that_can_only_expire_expires_early():
    """By the words of the model: a decision falls as soon as nothing can change it."""
    for config in configurations(FEW_SHARES):
        rows = [r for r in tallies(7) if r[2] and possible_outcomes(config, r) == {Outcome.EXPIRED}]
        if rows:
            assert set(decided(config, rows, due=False)) == {Outcome.EXPIRED}, ident(config)


@st.composite
def courses(draw: st.DrawFn) -> tuple[Any, list[str]]:
    """Return a rule, and how the nodes behave one after the other."""
    config = draw(st.sampled_from(list(configurations())))
    return config, draw(st.lists(st.sampled_from("arx-"), min_size=1, max_size=30))


@given(course=courses())
def test_a_decision_that_fell_early_is_what_would_have_come(course: tuple[Any, list[str]]):
    config, behaviours = course
    registered = len(behaviours)
    first = Outcome.PENDING
    accept = reject = abstain = 0
    for behaviour in behaviours:
        accept += behaviour == "a"
        reject += behaviour == "r"
        abstain += behaviour == "x"  # and "-" never votes
        outstanding = registered - accept - reject - abstain
        found = decided(config, [(accept, reject, outstanding, registered)], due=False)[0]
        if first == Outcome.PENDING:
            first = found
        else:
            assert found == first, "a decision was taken back"
    last = decided(config, [(accept, reject, registered - accept - reject, registered)], due=True)
    assert first in (Outcome.PENDING, last[0])
    assert last[0] != Outcome.PENDING


@given(
    config=st.sampled_from(list(configurations())),
    rows=st.lists(st.sampled_from(list(tallies(6))), min_size=1, max_size=20),
    due=st.booleans(),
)
def test_proposals_are_decided_independently(config: Any, rows: Any, due: bool):
    alone = [decided(config, [row], due=due)[0] for row in rows]
    assert decided(config, rows, due=due) == alone


def test_no_proposals_have_no_outcomes():
    nothing = Tally(*[np.zeros(0, dtype=np.int64)] * 4)
    found = decide(MajorityConsensus(), nothing, nothing, np.zeros(0, dtype=bool))
    assert (found.shape, found.dtype) == ((0,), np.uint8)


# --- weighted votes -------------------------------------------------------------------------

PEOPLE = st.lists(
    st.tuples(st.sampled_from("arx-"), st.integers(1, 300), st.integers(1, 300)),
    min_size=1,
    max_size=12,
)
"""How a node votes, and its Beta counts."""


def weighed(people: list[tuple[str, int, int]], *, alike: bool = False) -> tuple[Tally, Tally]:
    """Return the heads and the weights behind each kind of vote on one proposal."""
    reputation = np.array([(a, b) for _, a, b in people], dtype=np.float64)
    weight = np.full(len(people), 17) if alike else vote_weights(reputation)
    behaviour = np.array([kind for kind, _, _ in people])

    def tally(amount: Any) -> Tally:
        total = [amount[behaviour == kind].sum() for kind in "ar-"]
        accept, reject, outstanding = (np.array([value]) for value in total)
        return Tally(accept, reject, np.array([amount.sum()]), outstanding)

    return tally(np.ones(len(people), dtype=np.int64)), tally(weight)


def test_weight_of_a_vote_is_the_mean_reputation_in_whole_units():
    pairs = list(product([1, 2, 3, 7, 10, 99, 1000, 10**6], repeat=2))
    expected = [65_536 * a // (a + b) for a, b in pairs]
    found = vote_weights(np.array(pairs, dtype=np.float64))
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(people=PEOPLE, base=st.sampled_from(["cast", "all"]))
def test_weighted_confirms_with_more_than_half_of_the_weight(people: Any, base: str):
    config = WeightedConsensus(base=base, min_turnout=0)
    weights = dict.fromkeys("arx-", 0)
    for kind, a, b in people:
        weights[kind] += 65_536 * a // (a + b)
    whole = weights["a"] + weights["r"] if base == "cast" else sum(weights.values())
    found = decide(config, *weighed(people), np.array([True]))[0]
    assert (found == Outcome.CONFIRMED) == (weights["a"] > Fraction(whole, 2))
    assert found in (Outcome.CONFIRMED, Outcome.REJECTED)


@given(
    people=PEOPLE,
    base=st.sampled_from(["cast", "all"]),
    turnout=st.sampled_from(list(TURNOUTS)),
    due=st.booleans(),
)
def test_weighted_is_majority_where_all_weigh_alike(
    people: Any, base: str, turnout: float, due: bool
):
    heads, weights = weighed(people, alike=True)
    late = np.array([due])
    ours = decide(WeightedConsensus(base=base, min_turnout=turnout), heads, weights, late)
    theirs = decide(MajorityConsensus(base=base, min_turnout=turnout), heads, heads, late)
    assert ours == theirs


@given(people=PEOPLE, base=st.sampled_from(["cast", "all"]))
def test_weighted_decision_that_fell_early_stands_whatever_the_others_do(people: Any, base: str):
    config = WeightedConsensus(base=base, min_turnout=0.25)
    found = decide(config, *weighed(people), np.array([False]))[0]
    waiting = [k for k, (kind, _, _) in enumerate(people) if kind == "-"][:6]
    if found == Outcome.PENDING:
        assert waiting
        return
    for behaviours in product("arx", repeat=len(waiting)):
        later = list(people)
        for k, behaviour in zip(waiting, behaviours, strict=True):
            later[k] = (behaviour, *people[k][1:])
        assert decide(config, *weighed(later), np.array([True]))[0] == found


def test_turnout_counts_heads_though_votes_weigh():
    """One node of ten has nearly all of the weight: it alone is no turnout of a half."""
    people = [("a", 300, 1)] + [("-", 1, 300)] * 9
    config = WeightedConsensus(base="all", min_turnout=0.5)
    assert decide(config, *weighed(people), np.array([True]))[0] == Outcome.EXPIRED
    people[1:5] = [("r", 1, 300)] * 4
    assert decide(config, *weighed(people), np.array([True]))[0] == Outcome.CONFIRMED


# --- exact laws -----------------------------------------------------------------------------

JURIES = [
    (3, 0.55, 0, 0.574750),
    (11, 0.55, 0, 0.633123),
    (21, 0.55, 0, 0.679003),
    (3, 0.6, 0, 0.648000),
    (11, 0.6, 0, 0.753498),
    (21, 0.6, 0, 0.825622),
    (3, 0.8, 0, 0.896000),
    (11, 0.8, 0, 0.988346),
    (21, 0.8, 0, 0.999030),
    (21, 0.7, 0, 0.973610),
    (21, 0.7, 4, 0.775215),
    (21, 0.7, 8, 0.202478),
    (21, 0.9, 2, 0.999964),
    (21, 0.9, 6, 0.987280),
    (21, 0.9, 10, 0.313811),
]
"""Voters, probability to be right, voters that are always wrong, P(majority right): Condorcet."""
QUORUMS = [
    (4, 0.95, 1, 0, 0.857375, 6),
    (10, 0.95, 3, 0, 0.698337, 6),
    (31, 0.95, 10, 0, 0.340562, 6),
    (4, 0.05, 0, 1, 7.250e-3, 6),
    (7, 0.05, 0, 2, 1.158e-3, 6),
    (10, 0.05, 0, 3, 1.936e-4, 7),
]
"""Voters, probability to accept, silent liars, accepting liars, P(confirmed), its decimals."""
OTHERS = [(n, p) for n in (1, 2, 5, 8, 13, 30) for p in (0.0, 0.3, 0.5, 0.72, 1.0)]
RULE_SETTINGS = [
    MajorityConsensus(),
    WeightedConsensus(base="all"),
    SupermajorityConsensus(share=0.6),
    BftConsensus(min_turnout=0),
]


def confirmed(config: Any, right: Any, n: int, *, silent: int = 0, accepting: int = 0) -> Any:
    """Return which proposals are confirmed if `right` of the n - silent - accepting accept."""
    right = np.asarray(right)
    silence = np.full(right.shape, silent)
    reject = n - silent - accepting - right
    votes = Tally(right + accepting, reject, np.full(right.shape, n), silence)
    weights = votes
    if config.kind == "weighted":  # all have the same reputation
        each = int(vote_weights(np.array([[3.0, 1.0]]))[0])
        weights = Tally(*(each * v for v in vars(votes).values()))
    return decide(config, votes, weights, np.ones(right.shape, dtype=bool)) == Outcome.CONFIRMED


def probability(config: Any, n: int, p: float, *, silent: int = 0, accepting: int = 0) -> float:
    """Return P(confirmed) by all numbers of acceptances, each with its binomial probability."""
    free = n - silent - accepting
    right = np.arange(free + 1)
    weight = np.array([comb(free, k) * p**k * (1 - p) ** (free - k) for k in range(free + 1)])
    return float(weight[confirmed(config, right, n, silent=silent, accepting=accepting)].sum())


@pytest.mark.parametrize(("n", "p", "wrong", "exact"), JURIES)
def test_majority_is_condorcets_jury(n: int, p: float, wrong: int, exact: float):
    free = n - wrong
    right = np.arange(free + 1)
    weight = stats.binom.pmf(right, free, p)
    votes = Tally(right, n - right, np.full(right.shape, n), np.zeros_like(right))
    found = decide(MajorityConsensus(), votes, votes, np.zeros(right.shape, dtype=bool))
    assert Outcome.PENDING not in found
    assert round(weight[found == Outcome.CONFIRMED].sum(), 6) == exact


@pytest.mark.parametrize(("n", "p", "silent", "accepting", "exact", "decimals"), QUORUMS)
def test_bft_confirms_as_often_as_the_law_says(
    n: int, p: float, silent: int, accepting: int, exact: float, decimals: int
):
    found = probability(BftConsensus(min_turnout=0), n, p, silent=silent, accepting=accepting)
    assert round(found, decimals) == exact


@pytest.mark.parametrize(("n", "p"), OTHERS)
@pytest.mark.parametrize("config", RULE_SETTINGS, ids=ident)
def test_every_rule_confirms_with_the_binomial_probability_of_its_quorum(
    config: Any, n: int, p: float
):
    needed = {
        "majority": n // 2 + 1,
        "weighted": n // 2 + 1,
        "supermajority": ceil(Fraction(3, 5) * n),
        "bft": quorum(n),
    }[config.kind]
    exact = stats.binom.sf(needed - 1, n, p)
    assert probability(config, n, p) == pytest.approx(exact, abs=5e-7)


@pytest.mark.parametrize(
    ("config", "n", "p", "silent", "accepting", "exact"),
    [(MajorityConsensus(), n, p, 0, -wrong, exact) for n, p, wrong, exact in JURIES]
    + [(BftConsensus(min_turnout=0), *rest) for *rest, _ in QUORUMS],
)
def test_simulated_votes_confirm_within_the_interval_of_the_law(
    config: Any, n: int, p: float, silent: int, accepting: int, exact: float
):
    """40,000 proposals, votes one by one; 99.9 % of such tests hold, and the votes are fixed."""
    n_proposals = 40_000
    wrong, accepting = max(0, -accepting), max(0, accepting)
    rng = np.random.default_rng([n, silent, accepting, wrong, round(100 * p)])
    votes = rng.random((n_proposals, n - silent - accepting - wrong)) < p
    right = votes.sum(axis=1)
    count = int(confirmed(config, right, n, silent=silent, accepting=accepting).sum())
    low, high = stats.binom.interval(0.999, n_proposals, exact)
    assert low <= count <= high
