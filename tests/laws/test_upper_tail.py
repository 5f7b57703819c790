"""The score by which two Gaussians are told apart in the laws."""

from __future__ import annotations

import numpy as np
from scipy import special

from sim_core.config import ZScoreDetector
from sim_core.detectors import make_detector
from sim_core.laws import scores
from sim_core.randomness import Streams

KNOWN = ZScoreDetector(aggregate="upper_tail", moments="known", learn=False)


def score_of(x: np.ndarray) -> np.ndarray:
    """Return the scores of flows `[n_flows, n_features]` at one node with known moments."""
    detector = make_detector(KNOWN, Streams(1, 0))
    state = detector.init(1, np.zeros((1, 8, x.shape[1]), dtype=np.float32))
    return detector.score(state, x[None].astype(np.float32))[0]


def test_score_is_minus_the_logarithm_of_the_upper_tail() -> None:
    z = np.linspace(-8, 12, 401).astype(np.float32)
    expected = -special.log_ndtr(-z.astype(np.float64))
    np.testing.assert_allclose(score_of(z[:, None]), expected, rtol=1e-6)


def test_score_grows_and_stays_finite() -> None:
    z = np.array([-1e6, -40, -5, 0, 5, 30, 37, 38, 100, 1e6])
    found = score_of(z[:, None])
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert found[0] >= 0


def test_largest_feature_decides() -> None:
    x = np.array([[1.0, -9.0, 2.0], [-3.0, -2.0, -9.0]])
    np.testing.assert_array_equal(score_of(x), score_of(x.max(axis=1)[:, None]))


def test_bins_of_the_histogram_take_less_than_20_millionths_from_the_auroc() -> None:
    edges = (np.arange(1, 0x7F80, dtype=np.uint32) << 16).view(np.float32)  # all that are finite
    z = -special.ndtri_exp(-edges.astype(np.float64))
    for shift in (0.5, 1.0, 2.0, 3.0):
        benign = np.diff(special.ndtr(z), prepend=0, append=1)
        attack = np.diff(special.ndtr(z - shift), prepend=0, append=1)
        below = np.cumsum(benign) - benign
        binned = float(attack @ (below + benign / 2))
        bias = scores.gaussian_auroc(shift) - binned
        assert 0 < bias < 2e-5
