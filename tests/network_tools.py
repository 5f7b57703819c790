"""A network without its nodes' traffic: topology and dissemination, driven step by step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.network import Deliveries, make_dissemination, make_topology
from sim_core.randomness import Streams
from sim_core.state import Proposals

Mask = NDArray[np.bool_]


def network_config(n_nodes: int, topology: Any = "complete", way: Any = "ledger") -> ModelConfig:
    """Return the configuration of a network; topology and way are kinds, or groups."""
    groups = {
        name: {"kind": group} if isinstance(group, str) else group
        for name, group in (("topology", topology), ("dissemination", way))
    }
    return ModelConfig.model_validate({"simulation": {"nodes": n_nodes}, **groups})


def unpacked(bits: NDArray[np.uint64]) -> Mask:
    """Return arrays of words `[n_nodes, n_words]` as booleans `[n_nodes, n_slots]`."""
    return np.unpackbits(bits.astype("<u8").view(np.uint8), axis=1, bitorder="little").astype(bool)


class Wire:
    """Proposals that travel through a network in which all nodes may vote."""

    def __init__(self, config: ModelConfig, replicate: int = 0) -> None:
        streams = Streams(7, replicate)
        self.topology = make_topology(config, streams)
        self.way = make_dissemination(config, streams, self.topology)
        self.network = self.way.init()
        self.n_nodes = config.simulation.nodes
        self.n_seats = config.n_voters
        self.proposals = Proposals.empty(self.n_seats, 1)
        self.up = self.joined = np.ones(self.n_nodes, dtype=np.bool_)
        self.step = self.published = 0

    def publish(self, proposers: Iterable[int]) -> None:
        """Publish a proposal of each proposer in this step."""
        proposer = np.array([*proposers], dtype=np.int64)
        n = len(proposer)
        seats = proposer[:, None] if self.n_seats == 1 else np.arange(self.n_seats)
        new = Proposals(
            number=self.published + np.arange(n),
            step=np.full(n, self.step),
            proposer=proposer,
            centroid=np.zeros((n, 1), dtype=np.float32),
            scale=np.ones((n, 1), dtype=np.float32),
            is_true=np.ones(n, dtype=np.bool_),
            family=np.zeros(n, dtype=np.int16),
            outcome=np.full(n, Outcome.PENDING, dtype=np.uint8),
            decided=np.full(n, -1),
            slot=np.full(n, -1),
            voters=np.broadcast_to(seats, (n, self.n_seats)).astype(np.int32),
            ballots=np.zeros((n, self.n_seats), dtype=np.uint8),
        )
        self.published += n
        self.way.publish(self.network, new)
        self.proposals = self.proposals.append(new)

    def travel(self) -> Deliveries:
        """Run phase 5 of this step."""
        return self.way.travel(self.network, self.proposals, self.step, self.up, self.joined)

    def decide(self, rows: Any, outcome: Outcome = Outcome.CONFIRMED) -> None:
        """Let decisions fall in this step."""
        self.proposals.outcome[rows] = outcome
        self.proposals.decided[rows] = self.step

    def retire(self) -> Mask:
        """End this step; return which proposals stayed."""
        stays = self.way.retire(self.network, self.proposals, self.step, self.joined)
        self.proposals = self.proposals.take(stays)
        self.topology.walk(self.network, self.up, self.step)
        self.step += 1
        return stays

    def run_step(self) -> Deliveries:
        """Run a whole step in which nothing is published or decided."""
        arrived = self.travel()
        self.retire()
        return arrived

    @property
    def held(self) -> Mask:
        """Return who holds each proposal `[n_nodes, n]`."""
        return unpacked(self.network["held"])[:, self.proposals.slot]

    @property
    def informed(self) -> Mask:
        """Return who is informed of each decision `[n_nodes, n]`."""
        return unpacked(self.network["informed"])[:, self.proposals.slot]
