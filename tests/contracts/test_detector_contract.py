"""What every detector in the registry must do, in every setting that is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.checkpoint import decode, encode
from sim_core.config import ModelConfig
from sim_core.detectors import DETECTORS, Detector, make_detector
from sim_core.metrics import auroc, score_histogram

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


every_variant = pytest.mark.parametrize("settings", list(variants()))


@pytest.fixture(params=list(variants()))
def settings(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def detector(settings: Any) -> Detector:
    return make_detector(settings)


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
    state = detector.init(n_nodes, warmup)
    assert state
    assert all(len(values) == n_nodes for values in state.values())
    score = detector.score(state, normal(1, n_nodes, 6, 5))
    assert (score.shape, score.dtype) == ((n_nodes, 6), np.float32)
    learnt = detector.learn(state, normal(2, n_nodes, 6, 5), np.ones((n_nodes, 6), dtype=bool))
    assert {k: (v.shape, v.dtype) for k, v in learnt.items()} == {
        k: (v.shape, v.dtype) for k, v in state.items()
    }


def test_shared_warmup_starts_every_node_like_its_own_would(detector: Detector):
    warmup = normal(0, 1, 50, 5)
    shared = detector.init(4, warmup)
    own = detector.init(4, np.repeat(warmup, 4, axis=0))
    assert {k: v.tobytes() for k, v in shared.items()} == {k: v.tobytes() for k, v in own.items()}


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("constant", ["no feature", "one feature", "all features"])
def test_scores_are_finite_and_not_negative(detector: Detector, largest: float, constant: str):
    warmup = normal(0, 3, 40, 6)
    warmup[:, :, : {"no feature": 0, "one feature": 1, "all features": 6}[constant]] = 2.0
    state = detector.init(3, warmup)
    for seed in range(30):
        x = normal(seed, 3, 8, 6) * np.float32(largest)
        score = detector.score(state, x)
        assert np.isfinite(score).all()
        assert (score >= 0).all()
        assert not np.signbit(score).any(), "-0.0 has no bin of its own in the histogram"
        state = detector.learn(state, x, np.ones((3, 8), dtype=bool))


def test_strange_flows_score_higher_than_ordinary_ones(detector: Detector):
    state = detector.init(2, normal(0, 2, 500, 5))
    x = normal(1, 2, 400, 5)
    y = np.zeros((2, 400), dtype=np.int16)
    y[:, ::2] = 1
    x[:, ::2] += 6
    found = auroc(score_histogram(detector.score(state, x), y, np.array([True, True])))
    assert found is not None
    assert found > 0.99


@every_variant
@given(sizes=SIZES)
def test_a_node_does_not_depend_on_the_others(settings: Any, sizes: tuple[int, ...]):
    seed, n_nodes, n_flows, n_features = sizes
    detector = make_detector(settings)
    rng = np.random.default_rng(seed)
    warmup, x = (
        normal(seed, n_nodes, 30, n_features),
        normal(seed + 1, n_nodes, n_flows, n_features),
    )
    mask = rng.random((n_nodes, n_flows)) < 0.6
    node = int(rng.integers(n_nodes))
    alone = slice(node, node + 1)
    state, lonely = detector.init(n_nodes, warmup), detector.init(1, warmup[alone])
    for _ in range(2):
        assert {k: v[node].tobytes() for k, v in state.items()} == {
            k: v[0].tobytes() for k, v in lonely.items()
        }
        score = detector.score(state, x)
        assert score[node].tobytes() == detector.score(lonely, x[alone])[0].tobytes()
        state = detector.learn(state, x, mask)
        lonely = detector.learn(lonely, x[alone], mask[alone])


@every_variant
@given(sizes=SIZES, picks=st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_rows_pick_the_node_that_judges(settings: Any, sizes: tuple[int, ...], picks: list[int]):
    seed, n_nodes, n_flows, n_features = sizes
    detector = make_detector(settings)
    state = detector.init(n_nodes, normal(seed, n_nodes, 30, n_features))
    rows = np.array(picks) % n_nodes
    x = normal(seed + 1, len(rows), n_flows, n_features)
    picked = detector.score(state, x, rows)
    for index, node in enumerate(rows):
        everyone = np.repeat(x[index : index + 1], n_nodes, axis=0)
        assert picked[index].tobytes() == detector.score(state, everyone)[node].tobytes()
        flow = picked[index, :1].tobytes()
        single = detector.score(state, x[index : index + 1, :1], rows[index : index + 1])
        assert single.tobytes() == flow, "a flow's score depends on the flows beside it"


def test_learning_nothing_changes_nothing(detector: Detector):
    state = detector.init(3, normal(0, 3, 40, 5))
    learnt = detector.learn(state, normal(1, 3, 6, 5), np.zeros((3, 6), dtype=bool))
    for name, values in state.items():
        np.testing.assert_array_equal(learnt[name], values)


def test_only_masked_flows_are_learnt(detector: Detector):
    state = detector.init(3, normal(0, 3, 40, 5))
    mask = np.zeros((3, 6), dtype=bool)
    mask[0, [1, 4]] = mask[2, 0] = True
    x = normal(1, 3, 6, 5)
    other = np.where(mask[..., None], x, np.float32(-7.5))
    first, second = detector.learn(state, x, mask), detector.learn(state, other, mask)
    for name, values in state.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name][1], values[1])
    assert any((first[name][0] != values[0]).any() for name, values in state.items())


def test_learning_moves_towards_the_data(detector: Detector):
    state = detector.init(2, normal(0, 2, 200, 5))
    everything = np.ones((2, 40), dtype=bool)
    shifted = normal(1, 2, 40, 5) + 4
    before = detector.score(state, shifted).mean(axis=1)
    for step in range(300):
        state = detector.learn(state, normal(step + 2, 2, 40, 5) + 4, everything)
        if step == 0:
            assert (detector.score(state, shifted).mean(axis=1) < before).all()
    assert (detector.score(state, shifted).mean(axis=1) < before / 2).all()


def test_scoring_and_learning_leave_their_arguments_alone(detector: Detector):
    state = detector.init(2, normal(0, 2, 40, 5))
    x, mask = normal(1, 2, 6, 5), np.ones((2, 6), dtype=bool)
    kept = {k: v.tobytes() for k, v in state.items()}, x.tobytes(), mask.tobytes()
    detector.score(state, x)
    detector.score(state, x, np.array([1, 0]))
    detector.learn(state, x, mask)
    assert ({k: v.tobytes() for k, v in state.items()}, x.tobytes(), mask.tobytes()) == kept


def test_state_comes_back_from_a_checkpoint_bit_for_bit(settings: Any, make_model: Any):
    model = make_model(detector=settings.model_dump())
    for _ in range(3):
        model.step()
    restored = decode(encode(model.state, RUN_KEY), RUN_KEY).detector
    assert {k: (v.dtype, v.tobytes()) for k, v in restored.items()} == {
        k: (v.dtype, v.tobytes()) for k, v in model.state.detector.items()
    }


def test_a_detector_that_shall_not_learn_stays_as_it_was(settings: Any, make_model: Any):
    for learns in (True, False):
        model = make_model(detector={**settings.model_dump(), "learn": learns})
        before = {k: v.tobytes() for k, v in model.state.detector.items()}
        for _ in range(3):
            model.step()
        after = {k: v.tobytes() for k, v in model.state.detector.items()}
        assert (after != before) is learns
