"""A traffic source: normal flows, and a burst of attacks every so many steps."""

from typing import Literal

import numpy as np
from pydantic import Field

from sim_core.config import Frozen, Positive, PositiveShare
from sim_core.plugins import Plugin
from sim_core.traffic.base import (
    REFERENCE_FLOWS,
    STEP_MILLISECONDS,
    TCP,
    UDP,
    FlowRecords,
    Flows,
    Target,
    address,
    scramble,
)

WARMUP_FLOWS = 256
ATTACK = 1


class BurstsTraffic(Frozen):
    """Standard normal flows of two features; in bursts some of them are shifted."""

    kind: Literal["bursts"] = "bursts"
    every: int = Field(10, ge=2)
    """Steps from one burst, which lasts one step, to the next."""
    flow_share: PositiveShare = 0.3
    """Share of a node's flows that are attacks in a burst."""
    shift: Positive = 5.0
    """Standard deviations by which an attack is shifted."""


class Bursts:
    feature_names = ("rate", "size")
    families = ("burst",)
    protocols = np.array([TCP, UDP], dtype=np.uint8)  # by origin: benign, attack

    def __init__(self, config, streams):
        self.settings, self.streams = config.traffic, streams
        self.n_nodes = config.simulation.nodes
        self.n_flows = config.simulation.flows_per_node
        self.targets = (Target("burst", ATTACK, start=self.settings.every, duration=None),)

    def normal(self, purpose, n_flows, first, last, step=0):
        n_nodes = (self.n_nodes if last is None else last) - first
        found = self.streams.normals(purpose, n_nodes, 2 * n_flows, first=first, step=step)
        return found.reshape(n_nodes, n_flows, 2)

    def warmup(self, first=0, last=None):
        return self.normal("warmup", WARMUP_FLOWS, first, last)

    def draw(self, step, first=0, last=None, *, infected=None, into=None):
        x = self.normal("traffic", self.n_flows, first, last, step)
        room = Flows.empty(*x.shape) if into is None else into
        flows = Flows(room.x[: len(x)], room.y[: len(x)], room.origin[: len(x)], first)
        lot = self.streams.uniforms("campaign", len(x), self.n_flows, first=first, step=step)
        is_burst = step > 0 and step % self.settings.every == 0
        flows.y[:] = flows.origin[:] = is_burst & (lot < self.settings.flow_share)
        flows.x[:] = x + self.settings.shift * flows.y[..., None]
        return flows

    def references(self):
        shape = 1, REFERENCE_FLOWS, 2
        z = self.streams.generator("reference").standard_normal(shape, dtype=np.float32)
        return z + np.float32(self.settings.shift)

    def describe(self, step, flows, rows, columns):
        node = flows.first + np.asarray(rows)
        noise = scramble(node, columns, step)
        return FlowRecords(
            timestamp=step * STEP_MILLISECONDS + (noise % STEP_MILLISECONDS).astype(np.int64),
            source_ip=address("198.18.0.0", noise % 65_536),
            destination_ip=address("10.0.0.0", node),
            bytes_transferred=np.rint(500 + 100 * np.abs(flows.x[rows, columns, 1])).astype(
                np.int64
            ),
            protocol=self.protocols[flows.origin[rows, columns]],
        )


PLUGIN = Plugin(config=BurstsTraffic, make=Bursts, quick={"every": 4})
