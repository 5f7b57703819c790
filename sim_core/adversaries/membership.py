"""Which nodes lie, which have turned, and which are there at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig, SleeperAdversary, SybilAdversary
from sim_core.randomness import Streams

Mask = NDArray[np.bool_]


def choose_liars(config: ModelConfig, streams: Streams) -> Mask:
    """Return which nodes lie, `[n_nodes]`: a prefix of one random order of the nodes.

    A larger share contains a smaller one, and a node added to the network takes its place in the
    order without changing that of the others.
    """
    n_nodes = config.simulation.nodes
    settings: Any = config.adversary
    liars = np.zeros(n_nodes, dtype=np.bool_)
    if settings.kind == "none":
        return liars
    count = round(settings.share * n_nodes) if settings.count is None else settings.count
    order = streams.uniforms("adversary", n_nodes)[:, 0]
    liars[np.argsort(order, kind="stable")[:count]] = True
    return liars


def joined_nodes(config: ModelConfig, liars: Mask, step: int) -> Mask:
    """Return which nodes are in the network in a step `[n_nodes]`: sybils join late."""
    adversary = config.adversary
    if isinstance(adversary, SybilAdversary) and step < adversary.join_step:
        return ~liars
    return np.ones(len(liars), dtype=np.bool_)


def wake(config: ModelConfig, liars: Mask, reputation: NDArray[np.float64], awake: Mask) -> Mask:
    """Return which liars have turned: sleepers whose mean reputation has been high once.

    Args:
        config: The model's settings.
        liars: `[n_nodes]`.
        reputation: Beta counts `[n_nodes, 2]`.
        awake: Who had turned before; all nodes are awake from the start with other adversaries.
    """
    if not isinstance(config.adversary, SleeperAdversary):
        return awake
    mean = reputation[:, 0] / (reputation[:, 0] + reputation[:, 1])
    turned: Mask = awake | (liars & (mean >= config.adversary.wake_reputation))
    return turned
