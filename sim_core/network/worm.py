"""Worms: attacks that spread from infected nodes to their neighbours.

An infectious node infects each susceptible neighbour on its own with the same probability: the chain
binomial model of Reed and Frost (Abbey, "An examination of the Reed-Frost theory of epidemics", 1952)
on a graph. On the complete graph, with nodes infectious for one step, it is exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import njit, uint32
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.config.traffic import Campaign
from sim_core.network.topology import Neighbours, Network, Topology
from sim_core.philox import UNIT, philox4x32
from sim_core.randomness import Streams

Mask = NDArray[np.bool_]
Infected = NDArray[np.int64]


def seed_worms(config: ModelConfig, streams: Streams) -> Infected:
    """Return in which step each worm infects its first nodes, -1 is never.

    Shape `[n_campaigns, n_nodes]`, or `[0, n_nodes]` where no campaign is a worm. Each worm takes
    its `first_infected` nodes from a random order of all nodes, joined or not; a larger number
    contains a smaller one.
    """
    n_nodes, campaigns = config.simulation.nodes, _campaigns(config)
    worms = dict(_worms(config))
    infected = np.full((len(campaigns) if worms else 0, n_nodes), -1, dtype=np.int64)
    if worms:
        place = streams.words("worm", n_nodes, len(campaigns))
        for c, worm in worms.items():
            order = np.argsort(place[:, c], kind="stable")
            infected[c, order[: worm.first_infected]] = worm.start
    return infected


def infected_now(config: ModelConfig, infected: Infected, step: int) -> Mask | None:
    """Return which nodes are infected (and infectious) `[n_campaigns, n_nodes]`; None without worms.

    A node stays so for the worm's `infectious_steps`, and no longer than the campaign lasts.
    """
    if not len(infected):
        return None
    now = (infected >= 0) & (infected <= step)
    for c, worm in _worms(config):
        if worm.infectious_steps is not None:
            now[c] &= step < infected[c] + worm.infectious_steps
        if step >= worm.start + worm.duration:
            now[c] = False
    return now


def spread_worms(
    config: ModelConfig,
    streams: Streams,
    topology: Topology,
    network: Network,
    infected: Infected,
    up: Mask,
    immune: Mask,
    step: int,
) -> None:
    """Note in `infected` whom the worms infect at the end of this step, as infected in the next.

    A node that is up, not immune and was never infected stays healthy with probability
    (1 - transmission)^k, k being its neighbours that are up and infectious.

    Args:
        config: Has the campaigns.
        streams: Give one uniform number per node, campaign and step.
        topology: Says who is whose neighbour.
        network: State of the topology.
        infected: Step of each infection `[n_campaigns, n_nodes]`, changed in place.
        up: Nodes that are up `[n_nodes]`.
        immune: Nodes that block a campaign's flows `[n_nodes, n_campaigns or more]`.
        step: The step that ends.
    """
    now = infected_now(config, infected, step)
    if now is None or not (now & up).any():
        return
    neighbours = topology.neighbours(network) or _NOBODY
    key = streams.key("worm")
    for c, worm in _worms(config):
        _spread(
            infected[c], now[c] & up, up, immune[:, c], neighbours.indptr, neighbours.indices,
            worm.transmission, c, step + 1, *key,
        )  # fmt: skip


_NOBODY = Neighbours(np.zeros(0, np.int64), np.zeros(0, np.int32))
"""Stands for the complete graph in compiled code."""


def _campaigns(config: ModelConfig) -> tuple[Campaign, ...]:
    campaigns: tuple[Campaign, ...] = getattr(config.traffic, "campaigns", ())
    return campaigns


def _worms(config: ModelConfig) -> Iterator[tuple[int, Campaign]]:
    """Yield number and configuration of each campaign that is a worm."""
    return ((c, w) for c, w in enumerate(_campaigns(config)) if w.spread == "worm")


@njit(cache=True, nogil=True)
def _spread(
    infected: Any, infectious: Any, up: Any, immune: Any, indptr: Any, indices: Any,
    transmission: float, campaign: int, next_step: int, k0: Any, k1: Any,
) -> None:  # fmt: skip
    """Infect nodes from `next_step` on; word 0 of item `campaign` of the node decides."""
    is_complete = indptr.shape[0] == 0
    k = 0
    if is_complete:
        for j in range(infectious.shape[0]):
            k += infectious[j]
    for i in range(infected.shape[0]):
        if infected[i] >= 0 or not up[i] or immune[i]:
            continue
        if not is_complete:
            k = 0
            for place in range(indptr[i], indptr[i + 1]):
                k += infectious[indices[place]]
        if k == 0:
            continue
        word = philox4x32(uint32(0), uint32(campaign), uint32(i), uint32(next_step), k0, k1)[0]
        if word * UNIT < 1.0 - (1.0 - transmission) ** k:
            infected[i] = next_step
