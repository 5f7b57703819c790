"""What every adversary in the registry must do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim_core.adversaries import ADVERSARIES, Ballot, make_adversary
from sim_core.config import ModelConfig, SignatureConfig
from sim_core.traffic import Flows

every_kind = pytest.mark.parametrize("kind", ADVERSARIES)


def adversary(kind: str) -> Any:
    return make_adversary(ModelConfig.model_validate({"adversary": {"kind": kind}}))


@st.composite
def detections(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.integers(0, 5)), draw(st.integers(1, 14))
    flagged = draw(hnp.arrays(np.bool_, shape))
    return {
        "support": flagged & draw(hnp.arrays(np.bool_, shape)),
        "score": draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 100, width=32))),
        "flagged": flagged,
    }


@every_kind
@given(detection=detections(), min_support=st.integers(1, 6))
def test_liars_choose_among_their_own_flows_each_on_its_own(
    kind: str, detection: dict[str, Any], min_support: int
):
    config = SignatureConfig(min_support=min_support)
    kept = {name: values.tobytes() for name, values in detection.items()}
    chosen = adversary(kind).supporting_flows(**detection, config=config)
    assert {name: values.tobytes() for name, values in detection.items()} == kept
    assert (chosen.shape, chosen.dtype) == (detection["flagged"].shape, np.bool_)
    for row in range(len(chosen)):
        alone = {name: values[row : row + 1] for name, values in detection.items()}
        one = adversary(kind).supporting_flows(**alone, config=config)
        assert one[0].tolist() == chosen[row].tolist()


@st.composite
def questions(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """Return opinions, and what else a liar knows of the proposals that it votes on."""
    n = draw(st.integers(0, 12))
    opinion = draw(hnp.arrays(np.uint8, n, elements=st.integers(1, 3)))
    own = draw(hnp.arrays(np.bool_, n))
    return opinion, {
        "own": own,
        "by_liar": own | draw(hnp.arrays(np.bool_, n)),
        "luck": draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1, exclude_max=True))),
    }


@every_kind
@given(question=questions(), data=st.data())
def test_each_ballot_follows_from_its_own_question_alone(
    kind: str, question: tuple[Any, dict[str, Any]], data: Any
):
    opinion, known = question
    kept = [opinion.tobytes(), *(values.tobytes() for values in known.values())]
    ballots = adversary(kind).ballots(opinion, **known)
    assert [opinion.tobytes(), *(values.tobytes() for values in known.values())] == kept
    assert (ballots.shape, ballots.dtype) == (opinion.shape, np.uint8)
    assert set(ballots.tolist()) <= set(Ballot)
    order = np.array(data.draw(st.permutations(range(len(opinion)))), dtype=np.int64)
    moved = {name: values[order] for name, values in known.items()}
    assert adversary(kind).ballots(opinion[order], **moved).tolist() == ballots[order].tolist()


@every_kind
def test_everyone_but_the_metrics_is_blind_to_the_truth(kind: str, make_model: Any):
    """The same flows under other labels must be flagged, proposed, voted and decided alike."""
    settings = {"adversary": {"kind": kind} | ({} if kind == "none" else {"share": 0.4})}
    seeing, fooled = (make_model(simulation={"steps": 15}, **settings) for _ in range(2))
    draw = fooled.traffic.draw

    def lie(*args: Any, **kwargs: Any) -> Flows:
        flows = draw(*args, **kwargs)
        return replace(flows, y=(1 - np.minimum(flows.y, 1)).astype(np.int16))

    fooled.traffic.draw = lie
    differed = False
    for _ in range(15):
        seeing.step()
        fooled.step()
        for name in ("alert", "support", "vote", "decision"):
            assert seeing.entries[name].tobytes() == fooled.entries[name].tobytes()
        for name in seeing.entries["proposal"].dtype.names:
            a, b = (m.entries["proposal"][name].tolist() for m in (seeing, fooled))
            assert a == b or name in ("is_true", "family")
            differed |= a != b
    assert differed, "the run should have made signatures with a truth to be blind to"


@every_kind
def test_share_of_liars_that_is_asked_for_lies(kind: str, make_model: Any):
    if kind == "none":
        assert not make_model().liars.any()
        return
    assert make_model(adversary={"kind": kind, "share": 0.5}).liars.sum() == 4
    assert make_model(adversary={"kind": kind, "share": 1.0, "count": 3}).liars.sum() == 3
    assert make_model(adversary={"kind": kind, "count": 0}).liars.sum() == 0


@every_kind
def test_no_liars_make_a_run_like_any_honest_one(kind: str, make_model: Any):
    honest = make_model(adversary={"kind": "none"})
    asked = make_model(adversary={"kind": kind} | ({} if kind == "none" else {"count": 0}))
    for _ in range(8):
        honest.step()
        asked.step()
    assert asked.state.head == honest.state.head
