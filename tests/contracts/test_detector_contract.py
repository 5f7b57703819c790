"""What every detector in the registry must do, in every setting that is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from sim_core.checkpoint import decode, encode
from sim_core.config import ModelConfig
from sim_core.detectors import COMMON_NODES, DETECTORS, Detector, make_detector
from sim_core.randomness import Streams

RUN_KEY = "ab" * 32


def config_of(kind: str, **settings: Any) -> Any:
    return ModelConfig.model_validate({"detector": {"kind": kind, **settings}}).detector


def variants() -> Iterator[Any]:
    """Yield each kind's defaults, and each value of its own choices and switches."""
    for kind in DETECTORS:
        yield pytest.param(config_of(kind), id=kind)
        for name, field in type(config_of(kind)).model_fields.items():
            if get_origin(field.annotation) is Literal:
                values = get_args(field.annotation)
            else:
                values = (True, False) if field.annotation is bool else ()
            for value in values:
                if name not in ("kind", "learn") and value != field.default:
                    changed = config_of(kind, **{name: value})
                    yield pytest.param(changed, id=f"{kind}-{name}={value}")


SHORT = {
    "half_space_trees": {"window": 60},
    "isolation_forest": {"window": 60, "samples": 32, "trees": 20, "refit_every": 2},
    "ecod": {"window": 60},
}
"""Settings with which what takes long to come happens within a few steps."""


def quick(settings: Any) -> Any:
    """Return the settings with short windows."""
    return type(settings).model_validate({**settings.model_dump(), **SHORT.get(settings.kind, {})})


def adapts(settings: Any) -> bool:
    return not getattr(settings, "shared", False)


every_variant = pytest.mark.parametrize("settings", list(variants()))


@pytest.fixture(params=list(variants()))
def settings(request: pytest.FixtureRequest) -> Any:
    return request.param


def prepared(settings: Any, common: Any) -> Detector:
    """Return a detector that has seen what all nodes start from."""
    detector = make_detector(settings, Streams(root=3, replicate=0))
    detector.prepare(common)
    return detector


@pytest.fixture
def detector(settings: Any) -> Detector:
    return make_detector(settings, Streams(root=3, replicate=0))


def begin(detector: Detector, n_nodes: int, warmup: Any, first: int = 0) -> Any:
    """Return the state of nodes after a warm-up that is also what all start from."""
    detector.prepare(warmup[:COMMON_NODES])
    return detector.init(n_nodes, warmup, first=first)


def copied(state: Any) -> Any:
    return {name: values.copy() for name, values in state.items()}


def bits_of(state: Any, node: Any = slice(None)) -> Any:
    return {name: (v.dtype, v[node].tobytes()) for name, v in state.items()}


def live(detector: Detector, state: Any, x: Any, mask: Any) -> Any:
    """Do to the state what a step does; return the scores."""
    score = detector.score(state, x)
    detector.advance(state, x, np.ones(len(x), dtype=bool), ~mask[:, 0])
    detector.learn(state, x, mask)
    return score


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


SIZES = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(1, 9),  # nodes
    st.integers(1, 40),  # flows
    st.integers(1, 12),  # features
)


@pytest.mark.parametrize("n_nodes", [1, 7])
@pytest.mark.parametrize("is_shared", [False, True])
def test_shapes_and_types(detector: Detector, n_nodes: int, is_shared: bool):
    warmup = normal(0, 1 if is_shared else n_nodes, 50, 5)
    state = begin(detector, n_nodes, warmup)
    assert state
    assert all(len(values) == n_nodes for values in state.values())
    score = detector.score(state, normal(1, n_nodes, 6, 5))
    assert (score.shape, score.dtype) == ((n_nodes, 6), np.float32)
    before = {k: (v, v.shape, v.dtype) for k, v in state.items()}
    detector.learn(state, normal(2, n_nodes, 6, 5), np.ones((n_nodes, 6), dtype=bool))
    assert {k: (v, v.shape, v.dtype) for k, v in state.items()}.keys() == before.keys()
    for name, (array, shape, dtype) in before.items():
        assert state[name] is array, "learning is in place"
        assert (state[name].shape, state[name].dtype) == (shape, dtype)


def test_shared_warmup_starts_every_node_like_its_own_would(detector: Detector):
    warmup = normal(0, 1, 50, 5)
    shared = begin(detector, 4, warmup)
    own = detector.init(4, np.repeat(warmup, 4, axis=0))
    assert bits_of(shared) == bits_of(own)


def test_no_flow_is_copied_into_another_order(detector: Detector):
    """Flows are the same whichever way they are stored."""
    warmup, x = normal(0, 3, 40, 5), normal(1, 3, 6, 5)
    turned = x.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    mask = np.ones((3, 6), dtype=bool)
    state = begin(detector, 3, warmup)
    other = begin(detector, 3, warmup.transpose(0, 2, 1).copy().transpose(0, 2, 1))
    assert live(detector, state, x, mask).tobytes() == live(detector, other, turned, mask).tobytes()
    assert bits_of(state) == bits_of(other)


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("constant", ["no feature", "one feature", "all features"])
def test_scores_are_finite_and_not_negative(settings: Any, largest: float, constant: str):
    warmup = normal(0, 3, 40, 6)
    warmup[:, :, : {"no feature": 0, "one feature": 1, "all features": 6}[constant]] = 2.0
    detector = prepared(quick(settings), warmup)
    state = begin(detector, 3, warmup)
    for seed in range(30):
        x = normal(seed, 3, 8, 6) * np.float32(largest)
        score = live(detector, state, x, np.ones((3, 8), dtype=bool))
        assert np.isfinite(score).all()
        assert (score >= 0).all()
        assert not np.signbit(score).any(), "-0.0 has no bin of its own in the histogram"


@pytest.mark.parametrize("n_features", [1, 5])
def test_strange_flows_score_higher_than_ordinary_ones(settings: Any, n_features: int):
    x = normal(1, 400, 2, n_features)
    x[:, 1] += 6
    detector = make_detector(settings, Streams(root=3, replicate=0))
    state = begin(detector, 400, normal(0, 1, 500, n_features))
    score = detector.score(state, x)
    found = mannwhitneyu(score[:, 1], score[:, 0]).statistic / 400**2  # AUROC
    assert found > 0.99


@every_variant
@given(sizes=SIZES)
def test_a_node_does_not_depend_on_the_others(settings: Any, sizes: tuple[int, ...]):
    seed, n_nodes, n_flows, n_features = sizes
    rng = np.random.default_rng(seed)
    warmup, x = (
        normal(seed, n_nodes, 30, n_features),
        normal(seed + 1, n_nodes, n_flows, n_features),
    )
    mask = rng.random((n_nodes, n_flows)) < 0.6
    first, node = int(rng.integers(100)), int(rng.integers(n_nodes))
    alone = slice(node, node + 1)
    together, apart = (prepared(quick(settings), warmup) for _ in range(2))
    state = together.init(n_nodes, warmup, first=first)
    lonely = apart.init(1, warmup[alone], first=first + node)
    for _ in range(5):
        assert bits_of(state, alone) == bits_of(lonely)
        score = live(together, state, x, mask)
        assert score[node].tobytes() == live(apart, lonely, x[alone], mask[alone])[0].tobytes()


def test_slices_are_as_good_as_the_whole(settings: Any):
    warmup, x = normal(0, 9, 70, 4), normal(1, 9, 12, 4)
    mask = np.random.default_rng(2).random((9, 12)) < 0.7
    one, other = (prepared(quick(settings), warmup) for _ in range(2))
    whole, sliced = one.init(9, warmup), other.init(9, warmup)
    for step in range(6):
        score = live(one, whole, x + step, mask)
        for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
            views = {name: values[part] for name, values in sliced.items()}
            assert live(other, views, x[part] + step, mask[part]).tobytes() == score[part].tobytes()
        assert bits_of(whole) == bits_of(sliced)


def test_a_fresh_detector_goes_on_with_a_state_bit_for_bit(settings: Any):
    warmup, x = normal(0, 3, 70, 4), normal(1, 3, 12, 4)
    mask = np.random.default_rng(2).random((3, 12)) < 0.7
    detector = prepared(quick(settings), warmup)
    state = detector.init(3, warmup, first=64)
    for step in range(5):
        live(detector, state, x + step, mask)
    restored, fresh = copied(state), prepared(quick(settings), warmup)
    for step in range(5):
        score = live(detector, state, x - step, mask)
        assert live(fresh, restored, x - step, mask).tobytes() == score.tobytes()
    assert bits_of(state) == bits_of(restored)


@every_variant
@given(sizes=SIZES, picks=st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_rows_pick_the_node_that_judges(settings: Any, sizes: tuple[int, ...], picks: list[int]):
    seed, n_nodes, n_flows, n_features = sizes
    warmup = normal(seed, n_nodes, 30, n_features)
    detector = prepared(quick(settings), warmup)
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


def test_one_flow_per_step_is_enough(settings: Any):
    warmup = normal(0, 2, 40, 3)
    detector = prepared(quick(settings), warmup)
    state = detector.init(2, warmup)
    for step in range(80):
        score = live(detector, state, normal(step, 2, 1, 3), np.array([[True], [step % 2 == 0]]))
        assert np.isfinite(score).all()


def test_learning_nothing_changes_nothing(detector: Detector):
    state = begin(detector, 3, normal(0, 3, 40, 5))
    before = bits_of(state)
    for seed in range(60):
        detector.learn(state, normal(seed, 3, 6, 5), np.zeros((3, 6), dtype=bool))
    assert bits_of(state) == before


def test_only_masked_flows_are_learned(settings: Any):
    warmup = normal(0, 3, 40, 5)
    detector = prepared(quick(settings), warmup)
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
    assert (bits_of(first, 0) != bits_of(state, 0)) is adapts(settings)


def test_learning_moves_towards_the_data(settings: Any):
    if not adapts(settings):
        return
    warmup = normal(0, 2, 200, 5)
    detector = prepared(settings, warmup)
    state = detector.init(2, warmup)
    everything = np.ones((2, 40), dtype=bool)
    shifted = normal(1, 2, 40, 5) + 4
    before = detector.score(state, shifted).mean(axis=1)
    for step in range(300):
        detector.learn(state, normal(step + 2, 2, 40, 5) + 4, everything)
    after = detector.score(state, shifted).mean(axis=1)
    # Path lengths are squeezed into (0, 1), with 0.5 for what is like the rest.
    assert (after < (before - 0.1 if settings.kind == "isolation_forest" else before / 2)).all()


def test_scoring_leaves_everything_alone_and_learning_its_arguments(detector: Detector):
    state = begin(detector, 2, normal(0, 2, 40, 5))
    x, mask = normal(1, 2, 6, 5), np.ones((2, 6), dtype=bool)
    kept = bits_of(state), x.tobytes(), mask.tobytes()
    score = detector.score(state, x)
    detector.score(state, x, np.array([1, 0]))
    assert (bits_of(state), x.tobytes(), mask.tobytes()) == kept
    assert detector.score(state, x).tobytes() == score.tobytes()
    detector.advance(state, x, np.array([True, True]), np.array([True, False]))
    detector.learn(state, x, mask)
    assert (x.tobytes(), mask.tobytes()) == kept[1:]


def test_what_a_signature_matches_is_forgotten_by_detectors_with_windows(settings: Any):
    warmup = normal(0, 2, 60, 3)
    warmup[:, ::2] = 9 + 0.1 * warmup[:, ::2]
    detector = prepared(quick(settings), warmup)
    state = detector.init(2, warmup)
    centroid, scale = np.full((1, 3), 9, np.float32), np.full((1, 3), 0.5, np.float32)
    before = bits_of(state, 1)
    detector.forget(state, np.array([0]), centroid, scale, 2.0)
    assert bits_of(state, 1) == before
    if "window" in state:
        assert state["filled"].tolist() == [30, 60]
        assert (state["window"][0, :30] < 5).all()
        np.testing.assert_array_equal(state["window"][0, :30], warmup[0, 1::2])
    for _ in range(3):  # what is left is learned on
        detector.learn(state, normal(1, 2, 9, 3), np.ones((2, 9), dtype=bool))
    score = detector.score(state, np.full((2, 1, 3), 9, np.float32))
    if "window" in state:
        assert score[0, 0] > score[1, 0]


def test_a_node_that_forgets_everything_goes_on(settings: Any):
    warmup = normal(0, 1, 60, 3)
    detector = prepared(quick(settings), warmup)
    state = detector.init(1, warmup)
    everywhere = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32), 1e6
    for seed in range(8):
        detector.forget(state, np.array([0]), *everywhere)
        assert np.isfinite(
            live(detector, state, normal(seed, 1, 5, 3), np.eye(1, 5, dtype=bool))
        ).all()


def test_state_comes_back_from_a_checkpoint_bit_for_bit(settings: Any, make_model: Any):
    model = make_model(detector=settings.model_dump())
    for _ in range(3):
        model.step()
    restored = decode(encode(model.state, RUN_KEY), RUN_KEY).nodes.detector
    assert {k: (v.dtype, v.tobytes()) for k, v in restored.items()} == {
        k: (v.dtype, v.tobytes()) for k, v in model.state.nodes.detector.items()
    }


def test_a_detector_that_shall_not_learn_stays_as_it_was(settings: Any, make_model: Any):
    for learns in (True, False):
        model = make_model(detector={**settings.model_dump(), "learn": learns})
        before = {k: v.tobytes() for k, v in model.state.nodes.detector.items()}
        for _ in range(3):
            model.step()
        after = {k: v.tobytes() for k, v in model.state.nodes.detector.items()}
        moves = settings.kind in ("ewma", "cusum")  # charts follow every flow
        assert (after != before) is (moves or (learns and adapts(settings)))
