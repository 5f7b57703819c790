"""The detectors' arithmetic against independent and slower ways to do the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew

from sim_core.config import (
    EcodDetector,
    HalfSpaceTreesDetector,
    HbosDetector,
    MahalanobisDetector,
    Threshold,
    ZScoreDetector,
)
from sim_core.detectors import initial_thresholds, make_detector, thresholds_of_step
from sim_core.detectors.hbos import _bin
from sim_core.detectors.moments import SMALLEST_VARIANCE
from sim_core.detectors.threshold import upper_quantile
from sim_core.randomness import Streams

STREAMS = Streams(root=1, replicate=0)

N_NODES, N_FLOWS, N_FEATURES, N_STEPS, RATE = 4, 7, 5, 12, 0.1


@pytest.fixture
def history() -> tuple[Any, list[Any], list[Any]]:
    """Return correlated warm-up `[n, 60, d]`, and flows and masks of several steps."""
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((N_NODES, N_FEATURES, N_FEATURES))

    def flows(n: int) -> Any:
        z = rng.standard_normal((N_NODES, n, N_FEATURES))
        return (np.einsum("nij,nbj->nbi", mixing, z) + 0.5).astype(np.float32)

    masks = [rng.random((N_NODES, N_FLOWS)) < 0.7 for _ in range(N_STEPS)]
    masks[4][1] = False  # one node learns nothing in one step
    return flows(60), [flows(N_FLOWS) for _ in range(N_STEPS)], masks


def batch_moments(rate: float, mean: float, variance: float, values: list[float]) -> Any:
    """Return Finch's exponentially weighted mean and variance after a batch of one feature."""
    if not values:
        return mean, variance
    shift = sum(value - mean for value in values) / len(values)
    square = sum((value - mean) ** 2 for value in values) / len(values)
    return mean + rate * shift, (1 - rate) * variance + rate * square - (rate * shift) ** 2


@pytest.mark.parametrize("aggregate", ["mean_square", "max"])
@pytest.mark.parametrize("robust", [False, True])
def test_zscore_equals_a_plain_loop_over_nodes_and_features(history, aggregate, robust):
    warmup, steps, masks = history
    detector = make_detector(
        ZScoreDetector(learning_rate=RATE, aggregate=aggregate, robust=robust), STREAMS
    )
    state = detector.init(N_NODES, warmup)
    moments = {
        (i, k): (
            float(np.mean(w := warmup[i, :, k].astype(float))),
            float(np.mean((w - w.mean()) ** 2)),
        )
        for i in range(N_NODES)
        for k in range(N_FEATURES)
    }
    for x, mask in zip(steps, masks, strict=True):
        score = detector.score(state, x)
        for i in range(N_NODES):
            for j in range(N_FLOWS):
                z = [
                    (float(x[i, j, k]) - moments[i, k][0]) / moments[i, k][1] ** 0.5
                    for k in range(N_FEATURES)
                ]
                largest, mean_square = max(map(abs, z)), sum(v * v for v in z) / len(z)
                expected = largest if aggregate == "max" else mean_square
                assert score[i, j] == pytest.approx(expected, rel=1e-4)
        detector.learn(state, x, mask)
        for (i, k), (mean, variance) in moments.items():
            values = [float(v) for v in x[i, mask[i], k]]
            if robust:
                width = 3 * variance**0.5
                values = [min(max(v, mean - width), mean + width) for v in values]
            moments[i, k] = batch_moments(RATE, mean, variance, values)
            assert state["mean"][i, k] == pytest.approx(moments[i, k][0], rel=1e-5, abs=1e-6)
            assert state["variance"][i, k] == pytest.approx(moments[i, k][1], rel=1e-5)


def test_robust_zscore_learns_less_from_one_outlier(history):
    warmup, (x, *_), _ = history
    x = x.copy()
    x[:, 0] = 1e4
    everything = np.ones((N_NODES, N_FLOWS), dtype=bool)
    variances = []
    for robust in (False, True):
        detector = make_detector(ZScoreDetector(learning_rate=RATE, robust=robust), STREAMS)
        state = detector.init(N_NODES, warmup)
        detector.learn(state, x, everything)
        variances.append(state["variance"])
    assert (variances[1] < variances[0] / 1e3).all()


def correlation(covariance: Any, ridge: float) -> tuple[Any, Any]:
    """Return standard deviations, and the correlation matrix with a ridge on its diagonal."""
    sd = np.sqrt(np.maximum(np.diag(covariance), SMALLEST_VARIANCE))
    matrix = covariance / np.outer(sd, sd)
    np.fill_diagonal(matrix, 1 + ridge)
    return sd, matrix


@pytest.mark.parametrize("ridge", [1e-3, 0.3])
def test_mahalanobis_equals_numpys_linear_algebra(history, ridge):
    warmup, steps, masks = history
    detector = make_detector(MahalanobisDetector(learning_rate=RATE, ridge=ridge), STREAMS)
    state = detector.init(N_NODES, warmup)
    means = [warmup[i].astype(float).mean(axis=0) for i in range(N_NODES)]
    covariances = [np.cov(warmup[i].astype(float).T, bias=True) for i in range(N_NODES)]
    for x, mask in zip(steps, masks, strict=True):
        score = detector.score(state, x)
        detector.learn(state, x, mask)
        for i in range(N_NODES):
            sd, matrix = correlation(covariances[i], ridge)
            z = (x[i].astype(float) - means[i]) / sd
            expected = np.einsum("bi,ij,bj->b", z, np.linalg.inv(matrix), z) / N_FEATURES
            np.testing.assert_allclose(score[i], expected, rtol=2e-3)
            learnt = x[i, mask[i]].astype(float)
            if len(learnt):
                deviation = learnt - means[i]
                shift = deviation.mean(axis=0)
                covariances[i] = (
                    (1 - RATE) * covariances[i]
                    + RATE * deviation.T @ deviation / len(learnt)
                    - np.outer(RATE * shift, RATE * shift)
                )
                means[i] = means[i] + RATE * shift
            np.testing.assert_allclose(state["mean"][i], means[i], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(state["covariance"][i], covariances[i], rtol=1e-3, atol=1e-5)
            factor = np.linalg.cholesky(correlation(state["covariance"][i], ridge)[1])
            np.testing.assert_allclose(state["factor"][i], factor, rtol=1e-6, atol=1e-9)


def test_mahalanobis_sees_what_breaks_a_correlation():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((1, 2_000, 1))
    warmup = np.concatenate([base, base + 0.1 * rng.standard_normal(base.shape)], axis=2)
    flows = np.array([[[1.5, 1.5], [1.5, -1.5]]], dtype=np.float32)
    scores = {}
    for config in (MahalanobisDetector(), ZScoreDetector()):
        detector = make_detector(config, STREAMS)
        state = detector.init(1, warmup.astype(np.float32))
        scores[config.kind] = detector.score(state, flows)[0]
    along, across = scores["mahalanobis"]
    assert across > 50 * along
    assert scores["zscore"][1] == pytest.approx(scores["zscore"][0], rel=0.2)


def histogram_scores(warmup: Any, x: Any, bins: int, alpha: float = 0.1, tol: float = 0.5) -> Any:
    """Return HBOS scores the way PyOD takes them from NumPy's histogram, with heights up to 1."""
    total = np.zeros(len(x))
    for k in range(warmup.shape[1]):
        height, edges = np.histogram(warmup[:, k].astype(float), bins=bins)
        bits = -np.log2((height / height.max() + alpha) / (1 + alpha))
        place, value = np.digitize(x[:, k], edges), x[:, k]
        reach = tol * (edges[1] - edges[0])
        below = np.where(edges[0] - value <= reach, bits[0], bits.max())
        above = np.where(value - edges[-1] <= reach, bits[-1], bits.max())
        inside = bits[np.clip(place - 1, 0, bins - 1)]
        total += np.where(place == 0, below, np.where(place == bins + 1, above, inside))
    return total


@pytest.mark.parametrize("bins", [2, 10, 37])
def test_hbos_equals_numpys_histogram(bins):
    rng = np.random.default_rng(4)
    warmup = rng.gamma(2.0, size=(2, 400, 3)).astype(np.float32)
    warmup[:, :, 1] = rng.integers(0, 11, (2, 400)) / 10  # values on the edges of bins
    warmup[:, :, 2] = 0.25
    x = np.concatenate([warmup[:, :50], warmup[:, :50] * 3 - 2], axis=1)
    detector = make_detector(HbosDetector(bins=bins), STREAMS)
    score = detector.score(detector.init(2, warmup), x)
    for i in range(2):
        np.testing.assert_allclose(
            score[i], histogram_scores(warmup[i], x[i], bins), rtol=1e-5, atol=1e-5
        )


def test_hbos_bins_are_numpys_on_the_edges_too():
    rng = np.random.default_rng(9)
    for bins in (2, 3, 7, 10, 37):
        for _ in range(200):
            low = float(np.float32(rng.normal() * 10.0 ** rng.integers(-2, 3)))
            width = float(rng.integers(1, 50)) / bins * 10.0 ** rng.integers(-3, 2)
            edges = low + np.arange(bins + 1) * width
            values = np.concatenate([edges[:-1], np.nextafter(edges[1:-1], -np.inf)])
            expected = np.digitize(values, edges) - 1
            found = [_bin(value, low, width, bins) for value in values]
            assert found == expected.tolist()


def test_hbos_learns_what_lies_beyond_its_range_and_forgets_the_rest():
    warmup = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, -1, 1)
    detector = make_detector(HbosDetector(bins=4, learning_rate=0.5), STREAMS)
    state = detector.init(1, warmup)
    beyond = np.array([[[5.0]]], dtype=np.float32)
    detector.learn(state, beyond, np.ones((1, 1), dtype=bool))
    np.testing.assert_allclose(state["share"][0, 0, 4:], [0, 0.5])
    np.testing.assert_allclose(state["share"][0, 0, :4].sum(), 0.5)
    assert detector.score(state, beyond)[0, 0] == 0


def tail_scores(window: Any, flow: Any) -> float:
    """Return PyOD's ECOD score of one flow that is added to its training set."""
    everyone = np.vstack([window, flow[None]])
    total = 0.0
    for k, value in enumerate(flow):
        column = everyone[:, k]
        left = -np.log((column <= value).mean())
        right = -np.log((column >= value).mean())
        sign = np.sign(skew(window[:, k].astype(float)))
        picked = left * -np.sign(sign - 1) + right * np.sign(sign + 1)
        total += max(left, right, picked)
    return total


def test_ecod_equals_counting_the_tails():
    rng = np.random.default_rng(5)
    warmup = rng.gamma(2.0, size=(2, 90, 4)).astype(np.float32).round(1)
    warmup[:, :, 1] *= -1
    warmup[:, :, 2] = np.tile(np.array([-1, 0, 1], dtype=np.float32), 30)  # no skewness
    detector = make_detector(EcodDetector(window=60), STREAMS)
    state = detector.init(2, warmup)
    x = np.concatenate([warmup[:, :40], 2 * warmup[:, 40:80] + 0.05], axis=1)
    score = detector.score(state, x)
    expected = [[tail_scores(warmup[i, -60:], flow) for flow in x[i]] for i in range(2)]
    np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_ecod_window_is_sorted_anew_after_an_eighth_of_it():
    rng = np.random.default_rng(6)
    detector = make_detector(EcodDetector(window=80), STREAMS)
    flows = rng.standard_normal((1, 300, 2)).astype(np.float32)
    state = detector.init(1, flows[:, :100])
    start = 100
    for size, is_new in ((9, False), (1, True), (30, True), (5, False), (5, True), (90, True)):
        before = detector.score(state, flows)
        detector.learn(state, flows[:, start : start + size], np.ones((1, size), dtype=bool))
        start += size
        score = detector.score(state, flows)
        assert (score.tobytes() != before.tobytes()) is is_new
        if is_new:
            fresh = detector.init(1, flows[:, start - 80 : start])
            assert detector.score(fresh, flows).tobytes() == score.tobytes()


def path_mass(state: Any, trees: Any, flow: Any, size_limit: float) -> float:
    """Return River's sum of mass times 2^depth over the paths of one flow at node 0."""
    place = (flow - state["low"][0]) / state["span"][0]
    mass = 0.0
    for tree, (feature, split) in enumerate(zip(*trees, strict=True)):
        node, depth = 0, 0
        while True:
            here = float(state["reference"][0, tree, node])
            mass += here * 2**depth
            if here < size_limit * state["total"][0] or node >= len(feature):
                break
            node = 2 * node + (2 if place[feature[node]] > split[node] else 1)
            depth += 1
    return mass


def test_half_space_trees_sum_masses_along_paths():
    rng = np.random.default_rng(7)
    config = HalfSpaceTreesDetector(trees=6, height=5, window=50)
    detector = make_detector(config, STREAMS)
    warmup = rng.standard_normal((1, 80, 3)).astype(np.float32)
    state = detector.init(1, warmup)
    trees = detector._grown(3)
    flows = rng.standard_normal((1, 40, 3)).astype(np.float32) * 2
    largest = 50 * 6 * (2**6 - 1)
    masses = [path_mass(state, trees, flow, 0.1) for flow in flows[0]]
    np.testing.assert_allclose(
        detector.score(state, flows)[0], np.log2((largest + 1) / (np.array(masses) + 1)), rtol=1e-5
    )
    assert (state["reference"][0, :, 0] == 50).all()
    inner = state["reference"][0, :, :31]
    below = state["reference"][0, :, 1:].reshape(6, 31, 2).sum(axis=2)
    np.testing.assert_array_equal(inner, below)


def test_half_space_trees_swap_profiles_after_a_window_of_learned_flows():
    detector = make_detector(HalfSpaceTreesDetector(window=50), STREAMS)
    rng = np.random.default_rng(8)
    flows = rng.standard_normal((1, 250, 3)).astype(np.float32)
    state = detector.init(1, flows[:, :50])
    before = state["reference"].copy()
    everything = np.ones((1, 200), dtype=bool)
    detector.learn(state, flows[:, 50:99], everything[:, :49])
    assert state["count"][0] == 49
    assert (state["reference"] == before).all()
    detector.learn(state, flows[:, 99:152], everything[:, :53])
    assert state["count"][0] == 2
    start = {**state, "reference": np.zeros_like(before), "latest": np.zeros_like(before)}
    start = {name: values.copy() for name, values in start.items()} | {"count": np.zeros(1, int)}
    detector.learn(start, flows[:, 100:150], everything[:, :50])
    assert (state["reference"] == start["reference"]).all()


@pytest.mark.parametrize("height", [1, 4, 8])
def test_half_spaces_halve_a_work_range_around_the_warmup(height):
    config = HalfSpaceTreesDetector(trees=200, height=height)
    feature, split = make_detector(config, STREAMS)._grown(4)
    assert np.bincount(feature[:, 0], minlength=4).min() > 20, "every feature splits first"
    assert (np.abs(split[:, 0] - 0.5) <= 0.5).all(), "the first split is inside the warm-up"
    for tree in range(200):
        for node in range(1, 2**height - 1):
            parent = (node - 1) // 2
            if feature[tree, parent] == feature[tree, node]:
                goes_right = node == 2 * parent + 2
                assert (split[tree, node] > split[tree, parent]) == goes_right


@given(
    score=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60),
    share=st.floats(0.001, 1),
)
def test_at_most_the_share_lies_above_the_quantile_and_it_is_the_smallest_such(score, share):
    scores = np.array([score], dtype=np.float32)
    threshold = upper_quantile(scores, share)[0]
    allowed = share * len(score) + 1e-9
    assert (scores > threshold).sum() <= allowed
    below = [s for s in score if s < threshold]
    if below:
        assert (scores > np.float32(max(below))).sum() > min(allowed, len(score) - 1)


def test_thresholds_of_each_mode():
    warmup_score = np.arange(200, dtype=np.float32)[None]
    score = np.array([[1, 2, 3, 4], [40, 30, 20, 10]], dtype=np.float32)
    fixed = Threshold(mode="fixed", value=2.5)
    kept = initial_thresholds(fixed, warmup_score, 2)
    assert kept.dtype == np.float32
    assert kept.tolist() == [2.5, 2.5]
    assert thresholds_of_step(fixed, kept, score).tolist() == [2.5, 2.5]
    calibrated = Threshold(mode="calibrated", share=0.1)
    kept = initial_thresholds(calibrated, warmup_score, 2)
    assert kept.tolist() == [179, 179], "20 of 200 scores lie above"
    assert thresholds_of_step(calibrated, kept, score).tolist() == [179, 179]
    quantile = Threshold(mode="quantile", share=0.25)
    kept = initial_thresholds(quantile, warmup_score, 2)
    assert thresholds_of_step(quantile, kept, score).tolist() == [3, 30]


def test_calibrated_threshold_keeps_the_rate_of_false_alarms_on_benign_traffic(make_model):
    model = make_model(
        simulation={"nodes": 10, "flows_per_node": 500},
        traffic={"kind": "synthetic", "warmup_flows": 4_000, "campaigns": []},
        detector={"kind": "zscore", "learn": False, "threshold": {"share": 0.05}},
        signature={"min_support": 1_000},
    )
    counts = np.zeros(2)
    for _ in range(10):
        model.step()
        row = model.entries["metrics"][0]
        counts += row["fp"], row["fp"] + row["tn"]
    assert counts[0] / counts[1] == pytest.approx(0.05, abs=0.005)
