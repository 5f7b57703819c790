"""The network: who is whose neighbour, how proposals and decisions travel, how worms spread."""

from __future__ import annotations

from sim_core.config import ModelConfig
from sim_core.network.dissemination import (
    Centralised,
    Deliveries,
    Dissemination,
    Isolated,
    SharedLedger,
)
from sim_core.network.gossip import Flood, Pull, Push, PushPull
from sim_core.network.lattice import LatticeTopology
from sim_core.network.topology import (
    EdgeListTopology,
    GraphTopology,
    Neighbours,
    Topology,
    topology_files,
)
from sim_core.network.worm import infected_now, seed_worms, spread_worms
from sim_core.randomness import Streams

__all__ = [
    "DISSEMINATIONS",
    "TOPOLOGIES",
    "Deliveries",
    "Dissemination",
    "Neighbours",
    "Topology",
    "infected_now",
    "make_dissemination",
    "make_topology",
    "seed_worms",
    "spread_worms",
    "topology_files",
]

TOPOLOGIES: dict[str, type[Topology]] = {
    "complete": Topology,
    "ring": GraphTopology,
    "lattice": LatticeTopology,
    "small_world": GraphTopology,
    "scale_free": GraphTopology,
    "random": GraphTopology,
    "edge_list": EdgeListTopology,
}

DISSEMINATIONS: dict[str, type[Dissemination]] = {
    "ledger": SharedLedger,
    "push": Push,
    "pull": Pull,
    "push_pull": PushPull,
    "flood": Flood,
    "none": Isolated,
    "centralised": Centralised,
}


def make_topology(config: ModelConfig, streams: Streams) -> Topology:
    """Return the topology that `config.topology.kind` names.

    Raises:
        DataError: the file of an edge list is missing or damaged.
    """
    return TOPOLOGIES[config.topology.kind](config, streams)


def make_dissemination(config: ModelConfig, streams: Streams, topology: Topology) -> Dissemination:
    """Return the dissemination that `config.dissemination.kind` names."""
    return DISSEMINATIONS[config.dissemination.kind](config, streams, topology)
