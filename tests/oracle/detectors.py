"""A node's own detector: moments and control charts written out, the others one row at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.detectors import make_detector
from tests.oracle.signatures import Flows, Mask, Proposal

LARGEST = float(np.finfo(np.float32).max)


def calibrate(score: NDArray[np.float32], share: float) -> np.float32:
    """Return the smallest score that at most `share` of the scores exceed.

    >>> float(calibrate(np.array([4, 1, 3, 2], dtype=np.float32), 0.25))
    3.0
    """
    allowed = share * len(score) + 1e-9  # 0.1 of 30 is 3, whatever the last bit of 0.1 says
    ordered = np.sort(score)
    return next(s for s in ordered if (score > s).sum() <= allowed)


class Detector:
    """Exponentially weighted mean and variance of each feature (Finch 2009, section 9)."""

    is_exact = False
    """Whether scores are those of the model to the last bit."""

    def __init__(self, config: Any, warmup: Flows) -> None:
        """Start from benign flows `[n, n_features]`, or from known moments."""
        self.config = config
        x = warmup.astype(np.float64)
        self.mean, self.variance = x.mean(axis=0), np.maximum(x.var(axis=0), 1e-6)
        if config.moments == "known":
            self.mean, self.variance = np.zeros(x.shape[1]), np.ones(x.shape[1])

    def z(self, x: Flows) -> NDArray[np.float64]:
        """Return flows in standard deviations from the mean."""
        z: NDArray[np.float64] = (x - self.mean) / np.sqrt(self.variance)
        return z

    def score(self, x: Flows) -> NDArray[np.float32]:
        """Return how strange each flow of `[n, n_features]` is."""
        raise NotImplementedError

    def learn(self, x: Flows) -> None:
        """Learn flows, one at least."""
        rate, d = self.config.learning_rate, x - self.mean
        if getattr(self.config, "robust", False):
            reach = 3 * np.sqrt(self.variance)
            d = d.clip(-reach, reach)
        shift = d.mean(axis=0)
        grown = (1 - rate) * self.variance + rate * (d**2).mean(axis=0) - (rate * shift) ** 2
        self.mean, self.variance = self.mean + rate * shift, np.maximum(grown, 1e-6)

    def advance(self, x: Flows, *, alarmed: bool) -> None:
        """Follow all flows of a step, in order; with an alarm among them, start again from zero."""

    def forget(self, proposal: Proposal, radius: float) -> None:
        """Drop kept flows that a newly received signature matches."""


class ZScore(Detector):
    """Mean of squared z, or the largest absolute z."""

    def score(self, x: Flows) -> NDArray[np.float32]:
        """Return how strange each flow is."""
        z = self.z(x)
        largest = self.config.aggregate == "max"
        score = np.abs(z).max(axis=1) if largest else (z**2).mean(axis=1)
        finite: NDArray[np.float32] = score.clip(max=LARGEST).astype(np.float32)
        return finite


class Ewma(Detector):
    """EWMA chart: the largest absolute statistic, in its asymptotic standard deviations."""

    def __init__(self, config: Any, warmup: Flows) -> None:
        """Start the statistic from zero."""
        super().__init__(config, warmup)
        self.statistic = np.zeros(warmup.shape[1])

    def follow(self, x: Flows) -> list[NDArray[np.float64]]:
        """Return the statistic after each flow."""
        weight, w, path = self.config.weight, self.statistic, []
        for z in self.z(x):
            w = (1 - weight) * w + weight * z
            path.append(w)
        return path

    def score(self, x: Flows) -> NDArray[np.float32]:
        """Return how strange each flow is."""
        sd = math.sqrt(self.config.weight / (2 - self.config.weight))
        return np.array([np.abs(w).max() / sd for w in self.follow(x)]).astype(np.float32)

    def advance(self, x: Flows, *, alarmed: bool) -> None:
        """Keep the statistic after the last flow."""
        path = self.follow(x)
        self.statistic = np.zeros_like(self.statistic) if alarmed else path[-1]


class Cusum(Detector):
    """CUSUM chart: the larger of the upper and the lower sum."""

    def __init__(self, config: Any, warmup: Flows) -> None:
        """Start both sums from zero."""
        super().__init__(config, warmup)
        self.upper = self.lower = np.zeros(warmup.shape[1])

    def follow(self, x: Flows) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return both sums after each flow."""
        upper, lower, path = self.upper, self.lower, []
        for z in self.z(x):
            upper = np.maximum(0, upper + z - self.config.slack)
            lower = np.maximum(0, lower - z - self.config.slack)
            path.append((upper, lower))
        return path

    def score(self, x: Flows) -> NDArray[np.float32]:
        """Return how strange each flow is."""
        return np.array([max(u.max(), v.max()) for u, v in self.follow(x)]).astype(np.float32)

    def advance(self, x: Flows, *, alarmed: bool) -> None:
        """Keep the sums after the last flow."""
        self.upper, self.lower = self.follow(x)[-1]
        if alarmed:
            self.upper = self.lower = np.zeros_like(self.upper)


class OneRow(Detector):
    """One row of a detector of `sim_core.detectors`, which have tests of their own."""

    is_exact = True

    def __init__(self, shared: Any, number: int, warmup: Flows) -> None:
        """Start from benign flows."""
        self.shared = shared
        self.state = shared.init(1, np.ascontiguousarray(warmup[None]), first=number)

    def score(self, x: Flows) -> NDArray[np.float32]:
        """Return how strange each flow is."""
        score: NDArray[np.float32] = self.shared.score(self.state, np.ascontiguousarray(x[None]))[0]
        return score

    def learn(self, x: Flows) -> None:
        """Learn flows."""
        everything: Mask = np.ones((1, len(x)), dtype=np.bool_)
        self.shared.learn(self.state, np.ascontiguousarray(x[None]), everything)

    def forget(self, proposal: Proposal, radius: float) -> None:
        """Drop kept flows that a newly received signature matches."""
        signature, row = proposal.signature, np.zeros(1, dtype=np.int64)
        self.shared.forget(self.state, row, signature.centroid[None], signature.scale[None], radius)


PLAIN: dict[str, type[Detector]] = {"zscore": ZScore, "ewma": Ewma, "cusum": Cusum}


class DetectorFactory:
    """Makes the detector of each node, or the only one of a centre."""

    def __init__(self, config: ModelConfig, streams: Any, common: NDArray[np.float32]) -> None:
        """Take what all nodes start from: flows `[n_nodes, n_warmup, n_features]`."""
        self.config = config.detector
        self.shared: Any = None
        if self.config.kind not in PLAIN:
            self.shared = make_detector(self.config, streams)
            self.shared.prepare(common)

    def make(self, number: int, warmup: Flows) -> Detector:
        """Return the detector of a node that has seen these flows `[n_warmup, n_features]`."""
        if self.shared is None:
            return PLAIN[self.config.kind](self.config, warmup)
        return OneRow(self.shared, number, warmup)

    def threshold(self, detector: Detector, warmup: Flows) -> np.float32:
        """Return the score above which a flow is an alarm; with mode `quantile`, for votes alone."""
        settings = self.config.threshold
        if settings.mode == "calibrated":
            return calibrate(detector.score(warmup), settings.share)
        return np.float32(settings.value)
