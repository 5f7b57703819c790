"""`decide` against every way in which the outstanding nodes may still behave."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.config import MajorityConsensus, SupermajorityConsensus
from sim_core.consensus import Outcome, decide

SHARES = {0.55: Fraction(11, 20), 0.6: Fraction(3, 5), 2 / 3: Fraction(2, 3), 0.75: Fraction(3, 4)}
SHARES |= {0.7: Fraction(7, 10), 0.8: Fraction(4, 5), 0.9: Fraction(9, 10), 1.0: Fraction(1)}
TURNOUTS = {0.0: Fraction(0), 0.25: Fraction(1, 4), 1 / 3: Fraction(1, 3)}
TURNOUTS |= {0.5: Fraction(1, 2), 1.0: Fraction(1)}
FEW_SHARES = (0.6, 2 / 3, 1.0)


def configurations(shares: Any = SHARES, turnouts: Any = TURNOUTS) -> Iterator[Any]:
    for base, turnout in product(("cast", "all"), turnouts):
        yield MajorityConsensus(base=base, min_turnout=turnout)
        for share in shares:
            yield SupermajorityConsensus(base=base, min_turnout=turnout, share=share)


def ident(config: Any) -> str:
    share = getattr(config, "share", None)
    name = config.kind if share is None else f"{config.kind} {share:.3g}"
    return f"{name} of {config.base}, turnout {config.min_turnout:.3g}"


@cache
def at_the_deadline(config: Any, accept: int, reject: int, registered: int) -> Outcome:
    """Return the outcome by the rules as they are written down, in exact fractions."""
    cast = accept + reject
    if cast < ceil(TURNOUTS[config.min_turnout] * registered):
        return Outcome.EXPIRED
    base = registered if config.base == "all" else cast
    if config.kind == "majority":
        enough = accept > Fraction(base, 2)
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
    found = decide(config, accept, reject, registered, outstanding, np.full(len(rows), due))
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


@pytest.mark.parametrize("kind", ["majority", "supermajority"])
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
    nothing = np.zeros(0, dtype=np.int64)
    found = decide(MajorityConsensus(), *[nothing] * 4, np.zeros(0, dtype=bool))
    assert (found.shape, found.dtype) == ((0,), np.uint8)
