"""Synthetic flows: benign service profiles, attack families, a schedule of campaigns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ATTACK_FAMILIES, Campaign, ModelConfig, SyntheticTraffic
from sim_core.randomness import BLOCK_NODES, Streams
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

FEATURES = (
    "log10_bytes_out",
    "log10_bytes_in",
    "log10_packets",
    "log10_duration",
    "log10_destination_ports",
    "syn_ratio",
    "failed_ratio",
    "interarrival_variation",
)
SERVICES = ("web", "dns", "mail", "backup", "iot")
SERVICE_PROTOCOLS = (TCP, UDP, TCP, TCP, UDP)

# Bytes, packets, seconds and ports as log10; ratios of packets; coefficient of variation.
SERVICE_MEAN = np.array(
    [
        [3.0, 4.5, 1.5, 0.0, 0.30, 0.15, 0.03, 1.00],
        [1.9, 2.3, 0.3, -1.5, 0.05, 0.02, 0.04, 0.80],
        [4.2, 3.2, 1.4, 0.5, 0.10, 0.12, 0.03, 1.20],
        [6.5, 3.8, 3.4, 2.0, 0.02, 0.02, 0.02, 0.30],
        [2.3, 2.0, 0.7, -0.5, 0.02, 0.20, 0.06, 0.15],
    ]
)
SERVICE_SD = np.array(
    [
        [0.45, 0.55, 0.30, 0.45, 0.15, 0.05, 0.02, 0.25],
        [0.20, 0.30, 0.15, 0.35, 0.05, 0.02, 0.02, 0.25],
        [0.55, 0.40, 0.30, 0.40, 0.08, 0.04, 0.02, 0.25],
        [0.50, 0.40, 0.40, 0.35, 0.03, 0.02, 0.02, 0.10],
        [0.20, 0.20, 0.15, 0.30, 0.03, 0.05, 0.03, 0.06],
    ]
)
# Each family rides on the service that it looks like and shifts some of its features.
FAMILY_CARRIER = {
    "port_scan": "web",
    "ddos": "web",
    "brute_force": "mail",
    "exfiltration": "web",
    "beacon": "iot",
    "worm": "web",
}
FAMILY_SHIFT = {
    "port_scan": [-1.0, -2.0, -0.6, -1.0, 1.8, 0.55, 0.55, -0.5],
    "ddos": [1.2, -1.5, 1.8, -0.8, 0.0, 0.60, 0.25, -0.8],
    "brute_force": [-0.8, -0.5, 0.2, -0.4, 0.0, 0.25, 0.50, -0.9],
    "exfiltration": [3.2, -0.8, 2.0, 1.8, 0.0, -0.08, 0.00, -0.5],
    "beacon": [0.9, 0.4, 0.2, 0.8, 0.0, 0.00, 0.10, -0.1],
    "worm": [0.4, -1.2, 0.4, -0.6, 1.1, 0.35, 0.35, -0.4],
}
RATIOS = [FEATURES.index("syn_ratio"), FEATURES.index("failed_ratio")]
# Location and scale of an even mixture of the services: the unit that all features are given in.
LOCATION = SERVICE_MEAN.mean(axis=0)
SCALE = np.sqrt((SERVICE_SD**2 + (SERVICE_MEAN - LOCATION) ** 2).mean(axis=0))
ATTACKERS_PER_CAMPAIGN = 16


class Synthetic:
    """Flows from service profiles; each node has its own mixture of services.

    The numbers drawn never depend on campaigns or adversaries, only what is made of them does:
    configurations that differ there see the same benign traffic.
    """

    feature_names = FEATURES
    families = ATTACK_FAMILIES

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        """Draw what stays the same for the whole run: mixtures, and who is hit by which campaign."""
        assert isinstance(config.traffic, SyntheticTraffic)
        self._settings = config.traffic
        self._n_nodes = config.simulation.nodes
        self._n_flows = config.simulation.flows_per_node
        self._streams = streams
        campaigns = config.traffic.campaigns
        self._mean, self._sd = _profiles(campaigns)
        self._protocol = np.array(
            SERVICE_PROTOCOLS + tuple(_carrier_protocol(c) for c in campaigns),
            dtype=np.uint8,
        )
        alpha = np.full(len(SERVICES), config.traffic.mixture_alpha)
        mixture = streams.per_node(
            "mixture", self._n_nodes, lambda rng: rng.dirichlet(alpha, BLOCK_NODES)
        )
        self._cumulative = np.cumsum(mixture, axis=1)[:, :-1].astype(np.float32)
        self._hit = streams.per_node(
            "campaign",
            self._n_nodes,
            lambda rng: rng.random((BLOCK_NODES, len(campaigns))),
        ) < np.array([c.node_share for c in campaigns])
        self.targets = tuple(
            Target(
                f"{c.family}_{i}",
                ATTACK_FAMILIES.index(c.family) + 1,
                c.start,
                c.duration,
            )
            for i, c in enumerate(campaigns)
        )

    def warmup(self) -> NDArray[np.float32]:
        """Return each node's own benign flows `[n_nodes, warmup_flows, 8]`."""
        pick, _, z = self._numbers("warmup", self._settings.warmup_flows, step=0)
        return self._features(self._service(pick), z)

    def draw(self, step: int) -> Flows:
        """Return the flows of one step; campaigns that overlap take shares one after the other."""
        pick, attack, z = self._numbers("traffic", self._n_flows, step=step)
        origin = self._service(pick)
        y = np.zeros(origin.shape, dtype=np.int16)
        lower = np.zeros(self._n_nodes, dtype=np.float32)
        for index, campaign in enumerate(self._settings.campaigns):
            if not campaign.start <= step < campaign.start + campaign.duration:
                continue
            upper = lower + np.where(self._hit[:, index], np.float32(campaign.flow_share), 0)
            chosen = (attack >= lower[:, None]) & (attack < upper[:, None])
            origin[chosen] = len(SERVICES) + index
            y[chosen] = self.targets[index].family
            lower = upper.astype(np.float32)
        return Flows(self._features(origin, z), y, origin)

    def references(self) -> NDArray[np.float32]:
        """Return flows of each campaign `[n_campaigns, 64, 8]`."""
        n_campaigns = len(self._settings.campaigns)
        rng = self._streams.generator("reference")
        z = rng.standard_normal((n_campaigns, REFERENCE_FLOWS, len(FEATURES)), dtype=np.float32)
        origin = np.broadcast_to(
            np.arange(n_campaigns, dtype=np.int32)[:, None] + len(SERVICES),
            (n_campaigns, REFERENCE_FLOWS),
        )
        return self._features(origin, z)

    def describe(
        self, step: int, flows: Flows, nodes: NDArray[Any], columns: NDArray[Any]
    ) -> FlowRecords:
        """Return records: attackers come from a few addresses per campaign, 203.0.113.0 on."""
        noise = scramble(nodes, columns, step)
        origin = flows.origin[nodes, columns]
        campaign = np.maximum(origin - len(SERVICES), 0)
        attacker = address(
            "203.0.113.0",
            campaign * ATTACKERS_PER_CAMPAIGN
            + (noise % np.uint64(ATTACKERS_PER_CAMPAIGN)).astype(np.int64),
        )
        client = address("198.18.0.0", noise % np.uint64(1 << 17))
        volume = flows.x[nodes, columns, 0].astype(np.float64) * SCALE[0] + LOCATION[0]
        return FlowRecords(
            timestamp=step * STEP_MILLISECONDS
            + (noise >> np.uint64(20)).astype(np.int64) % STEP_MILLISECONDS,
            source_ip=np.where(origin >= len(SERVICES), attacker, client),
            destination_ip=address("10.0.0.0", nodes),
            bytes_transferred=np.rint(10.0 ** np.minimum(volume, 15)).astype(np.int64),
            protocol=self._protocol[origin],
        )

    def _numbers(
        self, purpose: Any, n_flows: int, *, step: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return two uniforms `[n_nodes, n_flows]` and normals `[n_nodes, n_flows, 8]`."""
        n_blocks = -(-self._n_nodes // BLOCK_NODES)
        uniforms = np.empty((n_blocks, 2, BLOCK_NODES, n_flows), dtype=np.float32)
        normals = np.empty((n_blocks, BLOCK_NODES, n_flows, len(FEATURES)), dtype=np.float32)
        for block in range(n_blocks):
            rng = self._streams.generator(purpose, block=block, step=step)
            rng.random(out=uniforms[block], dtype=np.float32)
            rng.standard_normal(out=normals[block], dtype=np.float32)
        flat = uniforms.transpose(1, 0, 2, 3).reshape(2, -1, n_flows)[:, : self._n_nodes]
        z = normals.reshape(-1, n_flows, len(FEATURES))[: self._n_nodes]
        return flat[0], flat[1], z

    def _service(self, pick: NDArray[np.float32]) -> NDArray[np.int32]:
        above = pick[..., None] >= self._cumulative[:, None, :]
        service: NDArray[np.int32] = above.sum(axis=-1, dtype=np.int32)
        return service

    def _features(self, origin: NDArray[np.int32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        x: NDArray[np.float32] = self._mean[origin]
        x += self._sd[origin] * z
        for ratio in RATIOS:  # a share of packets stays between 0 and 1
            low, high = (np.array([0.0, 1.0]) - LOCATION[ratio]) / SCALE[ratio]
            np.clip(x[..., ratio], np.float32(low), np.float32(high), out=x[..., ratio])
        return x


def _profiles(
    campaigns: tuple[Campaign, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return standardised mean and sd `[5 + n_campaigns, 8]`: the services, then the campaigns."""
    mean, sd = [*SERVICE_MEAN], [*SERVICE_SD]
    for campaign in campaigns:
        carrier = SERVICES.index(FAMILY_CARRIER[campaign.family])
        shift = np.array(FAMILY_SHIFT[campaign.family])
        mean.append(SERVICE_MEAN[carrier] + campaign.intensity * shift)
        sd.append(SERVICE_SD[carrier])
    standard_mean = (np.array(mean) - LOCATION) / SCALE
    standard_sd = np.array(sd) / SCALE
    return standard_mean.astype(np.float32), standard_sd.astype(np.float32)


def _carrier_protocol(campaign: Campaign) -> int:
    return SERVICE_PROTOCOLS[SERVICES.index(FAMILY_CARRIER[campaign.family])]
