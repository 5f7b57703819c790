"""Control charts against their exact run lengths and against going through flows one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from sim_core.config import CusumDetector, EwmaDetector, ModelConfig, ZScoreDetector
from sim_core.detectors import make_detector
from sim_core.randomness import Streams

STREAMS = Streams(root=1, replicate=0)
N_CHARTS = 20_000
QUANTILE = 3.29
"""Of the normal distribution: 99.9 % lie within so many standard errors."""


def run_lengths(config: Any, threshold: float, shift: float, seed: int) -> Any:
    """Return after how many flows each of many charts first passes the threshold."""
    rng = np.random.default_rng(seed)
    detector = make_detector(config, STREAMS)
    state = detector.init(N_CHARTS, np.zeros((1, 1, 1), dtype=np.float32))
    lengths = []
    step = 0
    while len(state["mean"]):
        step += 1
        x = rng.standard_normal((len(state["mean"]), 1, 1), dtype=np.float32) + np.float32(shift)
        alarmed = detector.score(state, x)[:, 0] > threshold
        detector.advance(state, x, np.ones_like(alarmed), alarmed)
        if alarmed.any():
            lengths += [step] * int(alarmed.sum())
            state = {name: values[~alarmed] for name, values in state.items()}
    return np.array(lengths)


def assert_mean(lengths: Any, expected: float) -> None:
    error = QUANTILE * lengths.std(ddof=1) / len(lengths) ** 0.5
    assert lengths.mean() == pytest.approx(expected, abs=error)


def quadrature(low: float, high: float, n: int = 200) -> tuple[Any, Any]:
    """Return nodes and weights of the Gauss-Legendre rule on an interval."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2


def shewhart_run_length(limit: float, shift: float) -> float:
    return float(1 / (norm.sf(limit - shift) + norm.cdf(-limit - shift)))


def ewma_run_length(weight: float, limit: float, shift: float) -> float:
    """Return the solution at 0 of the integral equation of Crowder, Technometrics 29 (1987)."""
    reach = limit * (weight / (2 - weight)) ** 0.5
    v, w = quadrature(-reach, reach)

    def kernel(u: Any) -> Any:
        return norm.pdf((v - (1 - weight) * u) / weight - shift) / weight * w

    inside = np.linalg.solve(np.eye(len(v)) - kernel(v[:, None]), np.ones(len(v)))
    return float(1 + kernel(0.0) @ inside)


def cusum_run_length(slack: float, limit: float, shift: float) -> float:
    """Return the two-sided run length from those of both sides (van Dobben de Bruyn 1968)."""
    sides = [one_sided(slack, limit, shift), one_sided(slack, limit, -shift)]
    return 1 / sum(1 / side for side in sides)


def one_sided(slack: float, limit: float, shift: float) -> float:
    """Return the solution at 0 of Page's integral equation (1954)."""
    v, w = quadrature(0, limit)
    u = np.concatenate([[0.0], v])
    kernel = norm.pdf(v - u[:, None] + slack - shift) * w
    at_zero = norm.cdf(slack - u - shift)
    matrix = np.eye(len(u)) - np.column_stack([at_zero, kernel])
    return float(np.linalg.solve(matrix, np.ones(len(u)))[0])


def shewhart() -> Any:
    return ZScoreDetector(aggregate="max", moments="known", learn=False)


def ewma(weight: float) -> Any:
    return EwmaDetector(weight=weight, moments="known", learn=False)


def cusum(slack: float) -> Any:
    return CusumDetector(slack=slack, moments="known", learn=False)


def test_exact_run_lengths_are_those_of_the_tables():
    assert shewhart_run_length(3, 0) == pytest.approx(370.40, abs=0.005)
    assert shewhart_run_length(3, 1) == pytest.approx(43.89, abs=0.005)
    assert cusum_run_length(0.5, 5, 0) == pytest.approx(465.44, abs=0.005)
    assert cusum_run_length(0.5, 5, 1) == pytest.approx(10.38, abs=0.005)
    assert ewma_run_length(0.1, 2.814, 0) == pytest.approx(499.58, abs=0.05)
    assert ewma_run_length(0.1, 2.814, 1) == pytest.approx(10.33, abs=0.005)


@pytest.mark.parametrize(("limit", "shift"), [(3, 0), (3, 1), (2.5, 0), (2.5, -0.7)])
def test_shewhart_run_length(limit, shift):
    assert_mean(run_lengths(shewhart(), limit, shift, seed=1), shewhart_run_length(limit, shift))


@pytest.mark.parametrize(
    ("slack", "limit", "shift"),
    [(0.5, 5, 0), (0.5, 5, 1), (0.25, 8, 0), (0.25, 8, -0.5), (1, 2.5, 0), (0, 6, 0.3)],
)
def test_cusum_run_length(slack, limit, shift):
    expected = cusum_run_length(slack, limit, shift)
    assert_mean(run_lengths(cusum(slack), limit, shift, seed=2), expected)


@pytest.mark.parametrize(
    ("weight", "limit", "shift"),
    [(0.1, 2.814, 0), (0.1, 2.814, 1), (0.4, 2.9, 0), (0.05, 2.6, -0.5), (1, 3, 0)],
)
def test_ewma_run_length(weight, limit, shift):
    expected = ewma_run_length(weight, limit, shift)
    assert_mean(run_lengths(ewma(weight), limit, shift, seed=3), expected)


def plain_ewma(flows: Any, weight: float) -> tuple[Any, Any]:
    w, scores = np.zeros(flows.shape[1]), []
    for z in flows:
        w = (1 - weight) * w + weight * z
        scores.append(np.abs(w).max() / (weight / (2 - weight)) ** 0.5)
    return np.array(scores), {"statistic": w}


def plain_cusum(flows: Any, slack: float) -> tuple[Any, Any]:
    up, down, scores = np.zeros(flows.shape[1]), np.zeros(flows.shape[1]), []
    for z in flows:
        up, down = np.maximum(0, up + z - slack), np.maximum(0, down - z - slack)
        scores.append(max(up.max(), down.max()))
    return np.array(scores), {"upper": up, "lower": down}


@pytest.mark.parametrize(
    ("config", "plain"), [(ewma(0.2), plain_ewma), (cusum(0.3), plain_cusum)], ids=["ewma", "cusum"]
)
def test_charts_follow_flows_in_their_order_over_steps_of_any_size(config, plain):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 60, 3), dtype=np.float32)
    parameter = getattr(config, "weight", None) or config.slack
    detector = make_detector(config, STREAMS)
    state = detector.init(2, x[:, :1])
    scores = []
    for part in np.split(x, [1, 2, 20, 21, 50], axis=1):
        scores.append(detector.score(state, part))
        detector.advance(state, part, np.ones(2, dtype=bool), np.zeros(2, dtype=bool))
    for i in range(2):
        expected, final = plain(x[i].astype(float), parameter)
        np.testing.assert_allclose(np.concatenate(scores, axis=1)[i], expected, rtol=1e-5)
        for name, values in final.items():
            np.testing.assert_allclose(state[name][i], values, rtol=1e-9)


@pytest.mark.parametrize("config", [ewma(0.2), cusum(0.3)], ids=["ewma", "cusum"])
def test_charts_start_anew_after_an_alarm_at_that_node_only(config):
    x = np.ones((2, 5, 3), dtype=np.float32)
    detector = make_detector(config, STREAMS)
    state = detector.init(2, x)
    fresh = detector.score(state, x)
    detector.advance(state, x, np.array([True, True]), np.array([True, False]))
    score = detector.score(state, x)
    np.testing.assert_array_equal(score[0], fresh[0])
    assert (score[1] > fresh[1]).all()


@pytest.mark.parametrize("config", [EwmaDetector(), CusumDetector()], ids=["ewma", "cusum"])
def test_charts_take_the_moments_of_the_warmup_and_go_on_learning_them(config):
    rng = np.random.default_rng(6)
    warmup = (rng.standard_normal((1, 4_000, 2)) * [2, 5] + [10, -3]).astype(np.float32)
    detector = make_detector(config, STREAMS)
    state = detector.init(1, warmup)
    np.testing.assert_allclose(state["mean"][0], [10, -3], atol=0.3)
    np.testing.assert_allclose(state["variance"][0] ** 0.5, [2, 5], rtol=0.05)
    before = state["mean"].copy()
    detector.learn(state, warmup[:, :10] + 4, np.ones((1, 10), dtype=bool))
    shift = warmup[0, :10].mean(axis=0) + 4 - before[0]
    np.testing.assert_allclose(state["mean"][0], before[0] + 0.02 * shift, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ewma", "cusum"])
def test_charts_of_nodes_that_are_down_stand_still(kind: str):
    detector = make_detector(
        ModelConfig.model_validate({"detector": {"kind": kind, "moments": "known"}}).detector,
        Streams(0, 0),
    )
    x = np.full((2, 3, 1), 2.0, dtype=np.float32)
    state = detector.init(2, x)
    before = {name: values.copy() for name, values in state.items()}
    detector.advance(state, x, np.array([True, False]), np.array([False, False]))
    assert any((values[0] != before[name][0]).any() for name, values in state.items())
    assert all((values[1] == before[name][1]).all() for name, values in state.items())
