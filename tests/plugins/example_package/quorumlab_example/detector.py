"""A detector: how far a flow is from the mean of what the node has learned."""

from typing import Literal

import numpy as np

from sim_core.config import DetectorBase, PositiveShare
from sim_core.detectors.base import Stationary, flows_innermost, spread_rows
from sim_core.plugins import Plugin


class DistanceDetector(DetectorBase):
    """Largest distance of a feature from its running mean."""

    kind: Literal["distance"] = "distance"
    learning_rate: PositiveShare = 0.02
    """Weight of one step's flows in the mean."""


class Distance(Stationary):
    def __init__(self, config, streams):
        self.rate = config.learning_rate

    def init(self, n_nodes, warmup, *, first=0):
        return {"mean": spread_rows(flows_innermost(warmup).mean(axis=2), n_nodes)}

    def score(self, state, x, rows=None):
        mean = state["mean"] if rows is None else state["mean"][rows]
        return np.abs(x - mean[:, None]).max(axis=2)

    def learn(self, state, x, mask):
        n, masked = mask.sum(axis=1)[:, None], flows_innermost(x * mask[..., None])
        moved = self.rate * (masked.sum(axis=2) / np.maximum(n, 1) - state["mean"])
        state["mean"] += np.where(n > 0, moved, 0)


PLUGIN = Plugin(config=DistanceDetector, make=Distance)
