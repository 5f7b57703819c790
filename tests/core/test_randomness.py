"""Streams depend on seed, replicate, purpose, block and step, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.adversaries import ADVERSARIES, choose_liars
from sim_core.config import ModelConfig
from sim_core.model import NetworkModel
from sim_core.randomness import BLOCK_NODES, Purpose, Streams
from sim_core.traffic import Flows

PURPOSES = get_args(Purpose)
MakeConfig = Callable[..., ModelConfig]


def first_words(streams: Streams, purpose: Any, *, block: int = 0, step: int = 0) -> bytes:
    return streams.generator(purpose, block=block, step=step).bit_generator.random_raw(4).tobytes()


def test_every_seed_replicate_purpose_block_and_step_has_numbers_of_its_own():
    found = [
        first_words(Streams(root, replicate), purpose, block=block, step=step)
        for root, replicate, purpose, block, step in product(
            (0, 1, 2, 11), (0, 1, 2, 11), PURPOSES, (0, 1, 2), (0, 1, 2)
        )
    ]
    assert len(set(found)) == len(found)


def test_streams_of_two_steps_do_not_overlap():
    streams = Streams(0, 0)
    words = [
        streams.generator("traffic", step=step).bit_generator.random_raw(2_000) for step in range(4)
    ]
    together = np.concatenate(words)
    assert np.unique(together).size == together.size


def test_drawing_one_stream_leaves_all_others_alone():
    streams = Streams(3, 1)
    before = {p: first_words(streams, p) for p in PURPOSES}
    for purpose in PURPOSES:
        streams.generator(purpose).random(1_000)
    assert {p: first_words(streams, p) for p in PURPOSES} == before


@given(
    n_nodes=st.integers(1, 3 * BLOCK_NODES),
    more=st.integers(1, 2 * BLOCK_NODES),
    step=st.integers(0, 10**6),
)
def test_adding_nodes_leaves_the_numbers_of_the_others_alone(n_nodes, more, step):
    streams = Streams(5, 2)

    def numbers(n: int) -> Any:
        return streams.uniforms("churn", n, 3, step=step)

    assert numbers(n_nodes).shape == (n_nodes, 3)
    assert numbers(n_nodes).tobytes() == numbers(n_nodes + more)[:n_nodes].tobytes()


@pytest.mark.parametrize("more_nodes", [41, 64, 65, 130])
def test_adding_nodes_leaves_traffic_and_campaigns_of_the_others_alone(
    make_config: MakeConfig, more_nodes: int
):
    few = NetworkModel(make_config(simulation={"nodes": 40})).traffic
    many = NetworkModel(make_config(simulation={"nodes": more_nodes})).traffic
    assert few.warmup().tobytes() == many.warmup()[:40].tobytes()
    hit = np.zeros(40, dtype=bool)
    for step in range(12):
        before, after = few.draw(step), many.draw(step)
        assert before.x.tobytes() == after.x[:40].tobytes()
        assert before.y.tobytes() == after.y[:40].tobytes()
        hit |= (before.y == 1).any(axis=1)
    assert 0 < hit.sum() < 40, "the configuration should hit some nodes and spare others"


def liars_in_order(config: MakeConfig, n_nodes: int) -> list[int]:
    """Return the nodes in the order in which a growing number of liars takes them."""
    order: list[int] = []
    for count in range(1, n_nodes + 1):
        chosen = config(
            simulation={"nodes": n_nodes}, adversary={"kind": "flipper", "count": count}
        )
        liars = set(np.flatnonzero(choose_liars(chosen, Streams(7, 0))).tolist())
        assert len(liars) == count
        assert set(order) < liars, "more liars must contain fewer"
        order += sorted(liars - set(order))
    return order


def test_adding_nodes_leaves_the_order_of_the_liars_alone(make_config: MakeConfig):
    few, many = liars_in_order(make_config, 20), liars_in_order(make_config, 90)
    assert [node for node in many if node < 20] == few
    assert few != sorted(few)


@given(shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), n_nodes=st.integers(1, 150))
def test_a_larger_share_of_liars_contains_a_smaller_one(make_config: MakeConfig, shares, n_nodes):
    few, many = (
        choose_liars(
            make_config(
                simulation={"nodes": n_nodes}, adversary={"kind": "poisoner", "share": share}
            ),
            Streams(1, 0),
        )
        for share in sorted(shares)
    )
    assert not (few & ~many).any()
    assert abs(int(many.sum()) - max(shares) * n_nodes) <= 0.5


def run_and_watch(
    config: ModelConfig, steps: int, **identity: int
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the ledger head after some steps, and the flows that the model drew for itself."""
    model = NetworkModel(config, **identity)
    seen: list[tuple[bytes, bytes]] = []
    draw = model.traffic.draw

    def watched(*arguments: Any, **named: Any) -> Flows:
        flows = draw(*arguments, **named)
        seen.append((flows.x.tobytes(), flows.y.tobytes()))
        return flows

    model.traffic.draw = watched
    for _ in range(steps):
        model.step()
    model.close()
    return model.state.head, seen


@pytest.mark.parametrize("kind", [k for k in ADVERSARIES if k != "none"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_liars_leave_the_bits_of_the_traffic_alone(make_config: MakeConfig, kind, share):
    head, honest = run_and_watch(make_config(), 12)
    other_head, lied_to = run_and_watch(make_config(adversary={"kind": kind, "share": share}), 12)
    assert honest == lied_to
    assert head != other_head, "the liars should have changed something else"


def test_same_seed_and_replicate_give_the_same_bits(make_config: MakeConfig):
    config = make_config(adversary={"kind": "poisoner"}, churn={"crash_rate": 0.1})
    first, _ = run_and_watch(config, 8, seed=4, replicate=3)
    assert run_and_watch(config, 8, seed=4, replicate=3)[0] == first


def test_seeds_zero_and_one_and_replicates_all_differ(make_config: MakeConfig):
    found = {
        (seed, replicate): run_and_watch(make_config(), 3, seed=seed, replicate=replicate)
        for seed in (0, 1)
        for replicate in (0, 1, 2)
    }
    assert len({head for head, _ in found.values()}) == 6
    assert len({flows[0][0] for _, flows in found.values()}) == 6
