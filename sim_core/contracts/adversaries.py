"""What every adversary must do; each check says it in its first line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim_core.adversaries import Adversary, Ballot, make_adversary
from sim_core.config import SignatureConfig
from sim_core.contracts.cases import Case
from sim_core.traffic import Flows

OBSERVED = ("alert", "support", "vote", "decision")


def _adversary(case: Case) -> Adversary:
    return make_adversary(case.config())


def _some(case: Case, **settings: Any) -> dict[str, Any]:
    """Return the adversary's settings, with others of it if there can be liars at all."""
    kind = case.settings.kind
    found: dict[str, Any] = case.settings.model_dump()
    return found if kind == "none" else found | settings


@st.composite
def detections(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what liars have scored, and what honest nodes in their place would support."""
    shape = draw(st.integers(0, 5)), draw(st.integers(1, 14))
    flagged = draw(hnp.arrays(np.bool_, shape))
    return {
        "support": flagged & draw(hnp.arrays(np.bool_, shape)),
        "score": draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 100, width=32))),
        "flagged": flagged,
    }


@settings(deadline=None)
@given(detection=detections(), min_support=st.integers(1, 6))
def _choose_on_their_own(case: Case, detection: dict[str, Any], min_support: int) -> None:
    config = SignatureConfig(min_support=min_support)
    kept = {name: values.tobytes() for name, values in detection.items()}
    chosen = _adversary(case).supporting_flows(**detection, config=config)
    assert {name: values.tobytes() for name, values in detection.items()} == kept
    assert chosen.shape == detection["flagged"].shape
    assert chosen.dtype == np.bool_
    for row in range(len(chosen)):
        alone = {name: values[row : row + 1] for name, values in detection.items()}
        one = _adversary(case).supporting_flows(**alone, config=config)
        assert one[0].tolist() == chosen[row].tolist()


def check_liars_choose_among_their_own_flows_each_on_its_own(case: Case) -> None:
    """`supporting_flows` leaves its arguments alone, and a row depends on that row only."""
    _choose_on_their_own(case)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """Draw opinions, and what else a liar knows of the proposals that it votes on."""
    n = draw(st.integers(0, 12))
    opinion = draw(hnp.arrays(np.uint8, n, elements=st.integers(1, 3)))
    own = draw(hnp.arrays(np.bool_, n))
    return opinion, {
        "own": own,
        "by_liar": own | draw(hnp.arrays(np.bool_, n)),
        "luck": draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1, exclude_max=True))),
    }


@settings(deadline=None)
@given(question=questions(), data=st.data())
def _vote_on_their_own(case: Case, question: tuple[Any, dict[str, Any]], data: Any) -> None:
    opinion, known = question
    kept = [opinion.tobytes(), *(values.tobytes() for values in known.values())]
    ballots = _adversary(case).ballots(opinion, **known)
    assert [opinion.tobytes(), *(values.tobytes() for values in known.values())] == kept
    assert ballots.shape == opinion.shape
    assert ballots.dtype == np.uint8
    assert set(ballots.tolist()) <= set(Ballot)
    order = np.array(data.draw(st.permutations(range(len(opinion)))), dtype=np.int64)
    moved = {name: values[order] for name, values in known.items()}
    assert _adversary(case).ballots(opinion[order], **moved).tolist() == ballots[order].tolist()


def check_each_ballot_follows_from_its_own_question_alone(case: Case) -> None:
    """`ballots` leaves its arguments alone, and a ballot depends on its own entries only."""
    _vote_on_their_own(case)


def check_everyone_but_the_metrics_is_blind_to_the_truth(case: Case) -> None:
    """The same flows under other labels are flagged, proposed, voted and decided alike."""
    changes: dict[str, Any] = {
        "adversary": _some(case, share=0.4, count=None),
        "simulation": {"steps": 15},
    }
    seeing, fooled = (case.network(**changes) for _ in range(2))
    draw = fooled.traffic.draw

    def lie(*args: Any, **kwargs: Any) -> Flows:
        flows = draw(*args, **kwargs)
        return replace(flows, y=(1 - np.minimum(flows.y, 1)).astype(np.int16))

    fooled.traffic.draw = lie  # type: ignore[method-assign]
    differed = False
    for _ in range(15):
        seeing.step()
        fooled.step()
        for name in OBSERVED:
            assert seeing.entries[name].tobytes() == fooled.entries[name].tobytes()
        for name in seeing.entries["proposal"].dtype.names or ():
            a, b = (m.entries["proposal"][name].tolist() for m in (seeing, fooled))
            assert a == b or name in ("is_true", "family")
            differed |= a != b
    assert differed, "the run should have made signatures with a truth to be blind to"


def check_share_of_liars_that_is_asked_for_lies(case: Case) -> None:
    """`share` and `count` say how many nodes lie."""
    if case.settings.kind == "none":
        assert not case.network().liars.any()
        return
    for changes, n_liars in (
        ({"share": 0.5, "count": None}, 4),
        ({"share": 1.0, "count": 3}, 3),
        ({"count": 0}, 0),
    ):
        assert case.network(adversary=_some(case, **changes)).liars.sum() == n_liars


def check_no_liars_make_a_run_like_any_honest_one(case: Case) -> None:
    """Without liars nothing of an adversary is to be seen."""
    honest = case.network(adversary={"kind": "none"})
    asked = case.network(adversary=_some(case, count=0))
    for _ in range(8):
        honest.step()
        asked.step()
    assert asked.state.head == honest.state.head


ADVERSARY_CHECKS = (
    check_liars_choose_among_their_own_flows_each_on_its_own,
    check_each_ballot_follows_from_its_own_question_alone,
    check_everyone_but_the_metrics_is_blind_to_the_truth,
    check_share_of_liars_that_is_asked_for_lies,
    check_no_liars_make_a_run_like_any_honest_one,
)
