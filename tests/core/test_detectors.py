"""The detectors' arithmetic against independent and slower ways to do the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.config import MahalanobisDetector, Threshold, ZScoreDetector
from sim_core.detectors import initial_thresholds, make_detector, thresholds_of_step
from sim_core.detectors.base import SMALLEST_VARIANCE
from sim_core.detectors.threshold import upper_quantile

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
    detector = make_detector(ZScoreDetector(learning_rate=RATE, aggregate=aggregate, robust=robust))
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
        state = detector.learn(state, x, mask)
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
        detector = make_detector(ZScoreDetector(learning_rate=RATE, robust=robust))
        state = detector.learn(detector.init(N_NODES, warmup), x, everything)
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
    detector = make_detector(MahalanobisDetector(learning_rate=RATE, ridge=ridge))
    state = detector.init(N_NODES, warmup)
    means = [warmup[i].astype(float).mean(axis=0) for i in range(N_NODES)]
    covariances = [np.cov(warmup[i].astype(float).T, bias=True) for i in range(N_NODES)]
    for x, mask in zip(steps, masks, strict=True):
        score = detector.score(state, x)
        state = detector.learn(state, x, mask)
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
        detector = make_detector(config)
        state = detector.init(1, warmup.astype(np.float32))
        scores[config.kind] = detector.score(state, flows)[0]
    along, across = scores["mahalanobis"]
    assert across > 50 * along
    assert scores["zscore"][1] == pytest.approx(scores["zscore"][0], rel=0.2)


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
