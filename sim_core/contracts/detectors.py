"""What every detector must do, in every setting that is a choice; each check says it in its first line."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from sim_core.checkpoint import decode, encode
from sim_core.contracts.cases import Case
from sim_core.detectors import Detector

RUN_KEY = "ab" * 32
SIZES = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(1, 9),  # nodes
    st.integers(1, 40),  # flows
    st.integers(1, 12),  # features
)


def normal(seed: int, *shape: int) -> Any:
    """Return standard normal flows."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def bits_of(state: Any, node: Any = slice(None)) -> Any:
    """Return types and bits of a state, or of some nodes in it."""
    return {name: (v.dtype, v[node].tobytes()) for name, v in state.items()}


def copied(state: Any) -> Any:
    """Return a state of its own with the same values."""
    return {name: values.copy() for name, values in state.items()}


def live(detector: Detector, state: Any, x: Any, mask: Any) -> Any:
    """Do to the state what a step does; return the scores."""
    score = detector.score(state, x)
    detector.advance(state, x, np.ones(len(x), dtype=bool), ~mask[:, 0])
    detector.learn(state, x, mask)
    return score


def check_shapes_and_types(case: Case) -> None:
    """State has a row per node and is changed in place; scores are float32 `[n_nodes, n_flows]`."""
    for n_nodes, n_warm in ((1, 1), (7, 7), (7, 1)):
        warmup = normal(0, n_warm, 50, 5)
        detector = case.detector(warmup, quick=False)
        state = detector.init(n_nodes, warmup)
        assert state
        assert all(len(values) == n_nodes for values in state.values())
        score = detector.score(state, normal(1, n_nodes, 6, 5))
        assert score.shape == (n_nodes, 6)
        assert score.dtype == np.float32
        before = {k: (v, v.shape, v.dtype) for k, v in state.items()}
        detector.learn(state, normal(2, n_nodes, 6, 5), np.ones((n_nodes, 6), dtype=bool))
        assert state.keys() == before.keys()
        for name, (array, shape, dtype) in before.items():
            assert state[name] is array, "learning is in place"
            assert (state[name].shape, state[name].dtype) == (shape, dtype)


def check_shared_warmup_starts_every_node_like_its_own_would(case: Case) -> None:
    """A pool `[1, ...]` for all nodes is as good as the same flows for each."""
    warmup = normal(0, 1, 50, 5)
    detector = case.detector(warmup, quick=False)
    own = detector.init(4, np.repeat(warmup, 4, axis=0))
    assert bits_of(detector.init(4, warmup)) == bits_of(own)


def check_flows_are_the_same_whichever_way_they_are_stored(case: Case) -> None:
    """Bits do not depend on the order of axes in memory: see `flows_innermost`."""
    warmup, x = normal(0, 3, 40, 5), normal(1, 3, 6, 5)
    turned, turned_warmup = (a.transpose(0, 2, 1).copy().transpose(0, 2, 1) for a in (x, warmup))
    mask = np.ones((3, 6), dtype=bool)
    one, other = case.detector(warmup, quick=False), case.detector(turned_warmup, quick=False)
    state, again = one.init(3, warmup), other.init(3, turned_warmup)
    assert live(one, state, x, mask).tobytes() == live(other, again, turned, mask).tobytes()
    assert bits_of(state) == bits_of(again)


def check_scores_are_finite_and_not_negative(case: Case) -> None:
    """Whatever the flows: huge ones, and features that never change, among them."""
    for n_constant in (0, 1, 6):
        for largest in (1.0, 1e3, 1e6, 1e30):
            warmup = normal(0, 3, 40, 6)
            warmup[:, :, :n_constant] = 2.0
            detector = case.detector(warmup)
            state = detector.init(3, warmup)
            for seed in range(30):
                x = normal(seed, 3, 8, 6) * np.float32(largest)
                score = live(detector, state, x, np.ones((3, 8), dtype=bool))
                assert np.isfinite(score).all()
                assert (score >= 0).all()
                assert not np.signbit(score).any(), "-0.0 has no bin of its own in the histogram"


def check_strange_flows_score_higher_than_ordinary_ones(case: Case) -> None:
    """Six standard deviations off are told from benign flows nearly always (AUROC above 0.99)."""
    for n_features in (1, 5):
        x = normal(1, 400, 2, n_features)
        x[:, 1] += 6
        warmup = normal(0, 1, 500, n_features)
        detector = case.detector(warmup, quick=False)
        score = detector.score(detector.init(400, warmup), x)
        found = mannwhitneyu(score[:, 1], score[:, 0]).statistic / 400**2
        assert found > 0.99


@settings(deadline=None)
@given(sizes=SIZES)
def _is_alone(case: Case, sizes: tuple[int, ...]) -> None:
    seed, n_nodes, n_flows, n_features = sizes
    rng = np.random.default_rng(seed)
    warmup = normal(seed, n_nodes, 30, n_features)
    x = normal(seed + 1, n_nodes, n_flows, n_features)
    mask = rng.random((n_nodes, n_flows)) < 0.6
    first, node = int(rng.integers(100)), int(rng.integers(n_nodes))
    alone = slice(node, node + 1)
    together, apart = (case.detector(warmup) for _ in range(2))
    state = together.init(n_nodes, warmup, first=first)
    lonely = apart.init(1, warmup[alone], first=first + node)
    for _ in range(5):
        assert bits_of(state, alone) == bits_of(lonely)
        score = live(together, state, x, mask)
        assert score[node].tobytes() == live(apart, lonely, x[alone], mask[alone])[0].tobytes()


def check_a_node_does_not_depend_on_the_others(case: Case) -> None:
    """Bit for bit: a network can be cut into shards anywhere."""
    _is_alone(case)


def check_slices_are_as_good_as_the_whole(case: Case) -> None:
    """Views of some rows of the state are learned into as the whole is."""
    warmup, x = normal(0, 9, 70, 4), normal(1, 9, 12, 4)
    mask = np.random.default_rng(2).random((9, 12)) < 0.7
    one, other = (case.detector(warmup) for _ in range(2))
    whole, sliced = one.init(9, warmup), other.init(9, warmup)
    for step in range(6):
        score = live(one, whole, x + step, mask)
        for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
            views = {name: values[part] for name, values in sliced.items()}
            assert live(other, views, x[part] + step, mask[part]).tobytes() == score[part].tobytes()
        assert bits_of(whole) == bits_of(sliced)


def check_a_fresh_detector_goes_on_with_a_state_bit_for_bit(case: Case) -> None:
    """All that a detector has learned is in its state."""
    warmup, x = normal(0, 3, 70, 4), normal(1, 3, 12, 4)
    mask = np.random.default_rng(2).random((3, 12)) < 0.7
    detector = case.detector(warmup)
    state = detector.init(3, warmup, first=64)
    for step in range(5):
        live(detector, state, x + step, mask)
    restored, fresh = copied(state), case.detector(warmup)
    for step in range(5):
        score = live(detector, state, x - step, mask)
        assert live(fresh, restored, x - step, mask).tobytes() == score.tobytes()
    assert bits_of(state) == bits_of(restored)


@settings(deadline=None)
@given(sizes=SIZES, picks=st.lists(st.integers(0, 8), min_size=1, max_size=12))
def _rows_pick(case: Case, sizes: tuple[int, ...], picks: list[int]) -> None:
    seed, n_nodes, n_flows, n_features = sizes
    warmup = normal(seed, n_nodes, 30, n_features)
    detector = case.detector(warmup)
    state = detector.init(n_nodes, warmup)
    live(detector, state, warmup[:, :7], np.ones((n_nodes, 7), dtype=bool))
    rows = np.array(picks) % n_nodes
    x = normal(seed + 1, len(rows), n_flows, n_features)
    picked = detector.score(state, x, rows)
    for index, node in enumerate(rows):
        everyone = np.repeat(x[index : index + 1], n_nodes, axis=0)
        assert picked[index].tobytes() == detector.score(state, everyone)[node].tobytes()
        flow = picked[index, :1].tobytes()
        single = detector.score(state, x[index : index + 1, :1], rows[index : index + 1])
        assert single.tobytes() == flow, "a flow's score depends on the flows after it"


def check_rows_pick_the_node_that_judges(case: Case) -> None:
    """`score(state, x, rows)`: row j of x is judged by row `rows[j]` of the state."""
    _rows_pick(case)


def check_one_flow_per_step_is_enough(case: Case) -> None:
    """Steps of a single flow, some of them not learned, give finite scores."""
    warmup = normal(0, 2, 40, 3)
    detector = case.detector(warmup)
    state = detector.init(2, warmup)
    for step in range(80):
        score = live(detector, state, normal(step, 2, 1, 3), np.array([[True], [step % 2 == 0]]))
        assert np.isfinite(score).all()


def check_learning_nothing_changes_nothing(case: Case) -> None:
    """A mask without a flow leaves the state as it was."""
    warmup = normal(0, 3, 40, 5)
    detector = case.detector(warmup, quick=False)
    state = detector.init(3, warmup)
    before = bits_of(state)
    for seed in range(60):
        detector.learn(state, normal(seed, 3, 6, 5), np.zeros((3, 6), dtype=bool))
    assert bits_of(state) == before


def check_only_masked_flows_are_learned(case: Case) -> None:
    """What is not masked may be anything."""
    warmup = normal(0, 3, 40, 5)
    detector = case.detector(warmup)
    state = detector.init(3, warmup)
    mask = np.zeros((3, 6), dtype=bool)
    mask[0, [1, 4]] = mask[2, 0] = True
    x = normal(1, 3, 6, 5)
    first, second = copied(state), copied(state)
    for _ in range(40):
        detector.learn(first, x, mask)
        detector.learn(second, np.where(mask[..., None], x, np.float32(-7.5)), mask)
    assert bits_of(first) == bits_of(second)
    assert bits_of(first, 1) == bits_of(state, 1)
    assert (bits_of(first, 0) != bits_of(state, 0)) is case.adapts


def check_learning_moves_towards_the_data(case: Case) -> None:
    """What has been strange for long is less strange, where a detector learns at all."""
    if not case.adapts:
        return
    warmup = normal(0, 2, 200, 5)
    detector = case.detector(warmup, quick=False)
    state = detector.init(2, warmup)
    everything = np.ones((2, 40), dtype=bool)
    shifted = normal(1, 2, 40, 5) + 4
    before = detector.score(state, shifted).mean(axis=1)
    for step in range(300):
        detector.learn(state, normal(step + 2, 2, 40, 5) + 4, everything)
    after = detector.score(state, shifted).mean(axis=1)
    # By half, but for scores that are squeezed into (0, 1) with 0.5 for what is like the rest.
    drop = np.where(before < 1, before - 0.1, before / 2)
    assert (after < drop).all()


def check_scoring_leaves_everything_alone_and_learning_its_arguments(case: Case) -> None:
    """Scores are the same when asked for again; flows and masks are never written to."""
    warmup = normal(0, 2, 40, 5)
    detector = case.detector(warmup, quick=False)
    state = detector.init(2, warmup)
    x, mask = normal(1, 2, 6, 5), np.ones((2, 6), dtype=bool)
    kept = bits_of(state), x.tobytes(), mask.tobytes()
    score = detector.score(state, x)
    detector.score(state, x, np.array([1, 0]))
    assert (bits_of(state), x.tobytes(), mask.tobytes()) == kept
    assert detector.score(state, x).tobytes() == score.tobytes()
    detector.advance(state, x, np.array([True, True]), np.array([True, False]))
    detector.learn(state, x, mask)
    assert (x.tobytes(), mask.tobytes()) == kept[1:]


def check_forgetting_concerns_the_nodes_that_are_named(case: Case) -> None:
    """`forget` leaves other nodes as they were, and what is left is learned on."""
    warmup = normal(0, 2, 60, 3)
    detector = case.detector(warmup)
    state = detector.init(2, warmup)
    before = bits_of(state, 1)
    detector.forget(
        state, np.array([0]), np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32), 2.0
    )
    assert bits_of(state, 1) == before
    for seed in range(3):
        score = live(detector, state, normal(seed, 2, 9, 3), np.ones((2, 9), dtype=bool))
        assert np.isfinite(score).all()


def check_a_node_that_forgets_everything_goes_on(case: Case) -> None:
    """Signatures that match all flows leave a detector that still gives finite scores."""
    warmup = normal(0, 1, 60, 3)
    detector = case.detector(warmup)
    state = detector.init(1, warmup)
    everywhere = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32), 1e6
    for seed in range(8):
        detector.forget(state, np.array([0]), *everywhere)
        mask = np.eye(1, 5, dtype=bool)
        assert np.isfinite(live(detector, state, normal(seed, 1, 5, 3), mask)).all()


def check_state_comes_back_from_a_checkpoint_bit_for_bit(case: Case) -> None:
    """State is arrays of numbers, which a checkpoint keeps as they are."""
    network = case.network()
    for _ in range(3):
        network.step()
    restored = decode(encode(network.state, RUN_KEY), RUN_KEY).nodes.detector
    assert bits_of(restored) == bits_of(network.state.nodes.detector)


def check_a_detector_that_shall_not_learn_stays_as_it_was(case: Case) -> None:
    """With `learn=false` nothing moves but what follows every flow."""
    for learns in (True, False):
        network = case.network(detector={**case.settings.model_dump(), "learn": learns})
        before = bits_of(network.state.nodes.detector)
        for _ in range(3):
            network.step()
        after = bits_of(network.state.nodes.detector)
        assert (after != before) is (case.follows or (learns and case.adapts))


DETECTOR_CHECKS = (
    check_shapes_and_types,
    check_shared_warmup_starts_every_node_like_its_own_would,
    check_flows_are_the_same_whichever_way_they_are_stored,
    check_scores_are_finite_and_not_negative,
    check_strange_flows_score_higher_than_ordinary_ones,
    check_a_node_does_not_depend_on_the_others,
    check_slices_are_as_good_as_the_whole,
    check_a_fresh_detector_goes_on_with_a_state_bit_for_bit,
    check_rows_pick_the_node_that_judges,
    check_one_flow_per_step_is_enough,
    check_learning_nothing_changes_nothing,
    check_only_masked_flows_are_learned,
    check_learning_moves_towards_the_data,
    check_scoring_leaves_everything_alone_and_learning_its_arguments,
    check_forgetting_concerns_the_nodes_that_are_named,
    check_a_node_that_forgets_everything_goes_on,
    check_state_comes_back_from_a_checkpoint_bit_for_bit,
    check_a_detector_that_shall_not_learn_stays_as_it_was,
)
