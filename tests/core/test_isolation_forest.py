"""The compiled isolation forest against scikit-learn and the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as ScikitForest
from sklearn.metrics import roc_auc_score

from sim_core.config import IsolationForestDetector
from sim_core.detectors import make_detector
from sim_core.detectors.isolation_trees import average_path, grow_forest, tree_height
from sim_core.randomness import Streams


def detector_of(root: int = 0, **settings: Any) -> Any:
    return make_detector(IsolationForestDetector(**settings), Streams(root=root, replicate=0))


def grown(flows: Any, trees: int, samples: int, root: int = 0) -> tuple[Any, Any, Any]:
    inner = 2 ** tree_height(samples) - 1
    feature = np.zeros((trees, inner), dtype=np.int16)
    split = np.zeros((trees, inner), dtype=np.float32)
    length = np.full((trees, inner + 1), np.nan, dtype=np.float32)
    key = Streams(root, 0).key("detector")
    grow_forest(flows, samples, 5, 0, *key, feature, split, length)
    return feature, split, length


def mixture(n: int, seed: int = 0) -> tuple[Any, Any]:
    """Return flows of two clusters with 5 % strange ones `[n, 4]`, and which are strange."""
    rng = np.random.default_rng(seed)
    flows = rng.standard_normal((n, 4)) * [1, 0.2, 3, 1] + np.where(rng.random((n, 1)) < 0.3, 4, 0)
    strange = rng.random(n) < 0.05
    flows[strange] = rng.uniform(-8, 12, (int(strange.sum()), 4))
    return flows.astype(np.float32), strange


def test_average_path_is_twice_the_harmonic_number_less_one():
    for n in (3, 10, 256, 4_096):
        harmonic = float(np.sum(1 / np.arange(1, n)))
        expected = 2 * harmonic - 2 * (n - 1) / n
        # ln(i) + Euler's constant is the papers' estimate of the harmonic number.
        assert average_path(n) == pytest.approx(expected, abs=1.1 / (n - 1))
    assert [average_path(n) for n in (0, 1, 2)] == [0, 0, 1]


def leaves(tree: Any, height: int, flows: Any) -> Any:
    """Return the bottom node that each flow reaches, one comparison at a time."""
    feature, split = tree
    reached = []
    for flow in flows:
        node = 0
        for _ in range(height):
            node = 2 * node + (2 if flow[feature[node]] > split[node] else 1)
        reached.append(node - len(feature))
    return np.array(reached)


def test_trees_isolate_what_they_are_grown_from():
    flows, _ = mixture(256)
    feature, split, length = grown(flows, trees=20, samples=256)
    for tree in range(20):
        reached = leaves((feature[tree], split[tree]), 8, flows)
        assert len(np.unique(reached)) > 15
        sizes = np.bincount(reached, minlength=256)
        for leaf in np.unique(reached):
            depth = length[tree, leaf] - average_path(int(sizes[leaf]))
            assert depth == pytest.approx(round(depth), abs=1e-4)
            assert 1 <= round(depth) <= 8
            assert sizes[leaf] == 1 or round(depth) == 8, "only the height limit stops a split"


def test_constant_and_doubled_flows_end_a_branch():
    flows = np.zeros((64, 3), dtype=np.float32)
    flows[:32, 1] = 1.0
    feature, split, length = grown(flows, trees=50, samples=64)
    assert (feature[:, 0] == 1).all(), "the only feature that varies"
    assert ((split[:, 0] >= 0) & (split[:, 0] < 1)).all()
    expected = 1 + average_path(32)
    np.testing.assert_allclose(length[:, [0, 32]], expected, rtol=1e-6)


def test_features_and_splits_are_uniform():
    rng = np.random.default_rng(1)
    flows = rng.random((256, 4)).astype(np.float32)
    feature, split, _ = grown(flows, trees=4_000, samples=256)
    counts = np.bincount(feature[:, 0], minlength=4)
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 16.3  # chi squared, 3 degrees, 99.9 %
    assert split[:, 0].mean() == pytest.approx(0.5, abs=3.29 * (1 / 12 / 4_000) ** 0.5 + 0.005)
    assert np.quantile(split[:, 0], 0.1) == pytest.approx(0.1, abs=0.02)


def test_scores_are_scikit_learns_up_to_chance():
    flows, _ = mixture(512)
    probe, _ = mixture(200, seed=1)
    own = []
    for root in range(40):
        detector = detector_of(root)
        own.append(detector.score(detector.init(1, flows[None]), probe[None])[0])
    theirs = [
        -ScikitForest(random_state=seed).fit(flows).score_samples(probe) for seed in range(40)
    ]
    spread = np.std(own, axis=0, ddof=1), np.std(theirs, axis=0, ddof=1)
    error = np.sqrt((spread[0] ** 2 + spread[1] ** 2) / 40)
    z = (np.mean(own, axis=0) - np.mean(theirs, axis=0)) / error
    assert np.abs(z).max() < 5
    assert np.mean(z**2) < 2.5, "means differ by chance only"
    assert np.mean(spread[0]) == pytest.approx(np.mean(spread[1]), rel=0.1)


def test_a_sample_is_drawn_without_replacement_from_the_whole_window():
    flows = np.arange(40, dtype=np.float32)[:, None]
    feature, split, length = grown(flows, trees=300, samples=16)
    del feature
    # Sixteen different flows in a tree of height four: at least one split or leaf each.
    assert np.isfinite(length).any(axis=1).all()
    ends = split[:, 0]
    assert ends.min() < 12
    assert ends.max() > 27


def test_every_node_refits_when_it_is_its_turn_and_not_before():
    detector = detector_of(refit_every=5, window=64, samples=32, trees=10)
    flows, _ = mixture(64)
    state = detector.init(5, flows[None], first=10)
    x, everything = np.repeat(flows[None, :3], 5, axis=0), np.ones((5, 3), dtype=bool)
    for age in range(1, 11):
        before = state["refits"].copy()
        detector.learn(state, x, everything)
        turn = (age + np.arange(10, 15)) % 5 == 0
        assert ((state["refits"] - before) == turn).all()
        assert turn.sum() == 1


def test_a_forest_that_is_lost_is_grown_again_bit_for_bit():
    settings = {"refit_every": 3, "window": 64, "samples": 32, "trees": 10}
    flows, _ = mixture(400)
    detector = detector_of(**settings)
    state = detector.init(3, flows[:64][None].repeat(3, axis=0), first=7)
    x, mask = flows[100:300].reshape(1, 200, 4).repeat(3, axis=0), np.ones((3, 20), dtype=bool)
    for step in range(7):
        detector.learn(state, x[:, 20 * step : 20 * step + 20], mask)
    kept = {name: values.copy() for name, values in state.items()}
    score = detector.score(state, x)
    assert detector_of(**settings).score(kept, x).tobytes() == score.tobytes()
    assert detector_of(root=1, **settings).score(kept, x).tobytes() != score.tobytes()


def test_every_node_and_every_refit_has_random_numbers_of_its_own():
    flows, _ = mixture(64)
    x, everything = flows[None].repeat(3, axis=0), np.ones((3, 64), dtype=bool)
    detector = detector_of(refit_every=1, window=64, samples=32, trees=10)
    state = detector.init(3, flows[None], first=7)
    scores = []
    for _ in range(3):
        scores += [row.tobytes() for row in detector.score(state, x)]
        detector.learn(state, x, everything)  # the window stays as it was
    assert len(set(scores)) == 9


def test_one_detector_serves_states_of_different_origin():
    detector = detector_of(trees=10)
    flows, _ = mixture(900)
    first, second = detector.init(1, flows[None, :400]), detector.init(1, flows[None, 400:800])
    score = detector.score(first, flows[None])
    assert detector.score(second, flows[None]).tobytes() != score.tobytes()
    assert detector.score(first, flows[None]).tobytes() == score.tobytes()


def test_shared_forest_is_one_for_all_nodes_and_asks_for_its_origin():
    flows, strange = mixture(2_000)
    detector = detector_of(shared=True)
    state = detector.init(3, flows[None, :10], first=64)
    with pytest.raises(RuntimeError, match="prepare"):
        detector.score(state, flows[None, :5].repeat(3, axis=0))
    detector.prepare(flows.reshape(4, 500, 4))
    score = detector.score(state, flows[None].repeat(3, axis=0))
    assert len({row.tobytes() for row in score}) == 1
    assert roc_auc_score(strange, score[0]) > 0.9
    other = detector_of(shared=True)
    other.prepare(flows[None])
    assert other.score(state, flows[None].repeat(3, axis=0)).tobytes() == score.tobytes()


def test_windows_too_small_for_a_tree_give_the_neutral_score():
    detector = detector_of()
    state = detector.init(2, np.zeros((2, 1, 3), dtype=np.float32))
    assert (detector.score(state, np.ones((2, 4, 3), dtype=np.float32)) == 0.5).all()
