"""What every dissemination in the registry must do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim_core.network import DISSEMINATIONS, Deliveries, Dissemination, make_dissemination

every_kind = pytest.mark.parametrize("kind", DISSEMINATIONS)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """Return who proposed what, who knows what, and who is up."""
    n_proposals, n_nodes = draw(st.integers(0, 5)), draw(st.integers(1, 7))

    def mask(*shape: int) -> Any:
        return draw(hnp.arrays(np.bool_, shape))

    proposers = draw(hnp.arrays(np.int64, n_proposals, elements=st.integers(0, n_nodes - 1)))
    return {
        "proposers": proposers,
        "old": mask(n_proposals),
        "decided": mask(n_proposals),
        "held": mask(n_proposals, n_nodes) | (np.arange(n_nodes) == proposers[:, None]),
        "informed": mask(n_proposals, n_nodes),
        "up": mask(n_nodes),
    }


def travel(dissemination: Dissemination, situation: dict[str, Any]) -> tuple[Deliveries, Any]:
    about = {k: v for k, v in situation.items() if k != "proposers"}
    electorate = dissemination.electorate(situation["proposers"], len(situation["up"]))
    kept = {k: v.tobytes() for k, v in about.items()}
    arrived = dissemination.travel(**about, electorate=electorate)
    assert {k: v.tobytes() for k, v in about.items()} == kept, "arguments were changed"
    return arrived, electorate


@every_kind
@given(situation=situations())
def test_proposers_always_belong_to_the_electorate(kind: str, situation: dict[str, Any]):
    proposers, n_nodes = situation["proposers"], len(situation["up"])
    electorate = make_dissemination(kind).electorate(proposers, n_nodes)
    assert (electorate.shape, electorate.dtype) == ((len(proposers), n_nodes), np.bool_)
    assert electorate[np.arange(len(proposers)), proposers].all()


@every_kind
@given(situation=situations())
def test_only_news_arrive_and_only_at_nodes_that_are_up(kind: str, situation: dict[str, Any]):
    arrived, electorate = travel(make_dissemination(kind), situation)
    for new, known, ready in (
        (arrived.held, situation["held"], situation["old"]),
        (arrived.informed, situation["informed"], situation["decided"]),
    ):
        assert (new.shape, new.dtype) == (known.shape, np.bool_)
        assert not (new & known).any()
        assert not (new & ~electorate).any()
        assert not new[:, ~situation["up"]].any()
        assert not new[~ready].any()


@every_kind
@given(situation=situations())
def test_messages_balance(kind: str, situation: dict[str, Any]):
    arrived, _ = travel(make_dissemination(kind), situation)
    counts = (arrived.sent, arrived.delivered, arrived.lost, arrived.in_flight)
    assert all(isinstance(count, int) and count >= 0 for count in counts)
    assert arrived.sent == arrived.delivered + arrived.lost + arrived.in_flight


@every_kind
@given(situation=situations())
def test_everyone_concerned_knows_in_the_end(kind: str, situation: dict[str, Any]):
    dissemination = make_dissemination(kind)
    everything = np.ones_like
    situation = situation | {name: everything(situation[name]) for name in ("old", "decided", "up")}
    for _ in range(200):
        arrived, electorate = travel(dissemination, situation)
        situation["held"] = situation["held"] | arrived.held
        situation["informed"] = situation["informed"] | arrived.informed
    assert (situation["held"] | ~electorate).all()
    assert (situation["informed"] | ~electorate).all()
    arrived, _ = travel(dissemination, situation)
    assert not arrived.held.any()
    assert not arrived.informed.any()


@every_kind
def test_messages_of_a_run_balance_and_only_shared_ones_are_counted(kind: str, make_model: Any):
    model = make_model(
        simulation={"steps": 20}, dissemination={"kind": kind}, churn={"crash_rate": 0.1}
    )
    total = np.zeros(2, dtype=np.int64)
    for _ in range(20):
        model.step()
        row = model.entries["metrics"][0]
        assert row["messages_sent"] == (
            row["messages_delivered"] + row["messages_lost"] + row["messages_in_flight"]
        )
        total += row["messages_sent"], row["bytes_sent"]
    assert (total > 0).all() if model.dissemination.shared else (total == 0).all()
