"""Synthetic flows: benign service profiles, attack families, a schedule of campaigns."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numba import float32, float64, njit, uint32
from numpy.typing import NDArray

from sim_core.config import ATTACK_FAMILIES, GaussianTraffic, ModelConfig, SyntheticTraffic
from sim_core.philox import WORDS, fill_normals, fill_words
from sim_core.randomness import BLOCK_NODES, Purpose, Streams
from sim_core.traffic.base import (
    REFERENCE_FLOWS,
    STEP_MILLISECONDS,
    FlowRecords,
    Flows,
    Target,
    mix,
)
from sim_core.traffic.profiles import Profiles, gaussian_profiles, service_profiles

ATTACKERS_PER_CAMPAIGN = 16
ATTACKERS, CLIENTS, NODES = (int(IPv4Address(a)) for a in ("203.0.113.0", "198.18.0.0", "10.0.0.0"))
_PICK, _ATTACK, _NORMALS = 0, 1, 2
"""Words of a flow: the service, whether it is an attack, then the features."""


class Synthetic:
    """Flows from service profiles; each node has its own mixture of services.

    The numbers drawn never depend on campaigns or adversaries, only what is made of them does:
    configurations that differ there see the same benign traffic.
    """

    families = ATTACK_FAMILIES

    def __init__(self, config: ModelConfig, streams: Streams) -> None:
        """Keep the settings, and make the tables that flows are drawn from."""
        settings = config.traffic
        assert isinstance(settings, SyntheticTraffic | GaussianTraffic)
        self._settings = settings
        self._n_nodes = config.simulation.nodes
        self._n_flows = config.simulation.flows_per_node
        self._streams = streams
        self._profiles = _profiles_of(settings)
        self._traits: dict[tuple[int, int], _Traits] = {}
        self.feature_names = self._profiles.features
        self.protocols = self._profiles.protocol
        self.targets = tuple(
            Target(f"{c.family}_{i}", ATTACK_FAMILIES.index(c.family) + 1, c.start, c.duration)
            for i, c in enumerate(settings.campaigns)
        )

    def warmup(self, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """Return each node's own benign flows `[n_nodes, warmup_flows, n_features]`."""
        last = self._n_nodes if last is None else last
        flows = Flows.empty(last - first, self._settings.warmup_flows, len(self.feature_names))
        nobody = np.zeros((last - first, 0), dtype=np.float32)
        self._draw("warmup", 0, first, flows, nobody, np.zeros(0, dtype=np.int64), None)
        return flows.x

    def draw(
        self,
        step: int,
        first: int = 0,
        last: int | None = None,
        *,
        infected: NDArray[np.bool_] | None = None,
        into: Flows | None = None,
    ) -> Flows:
        """Return flows; campaigns that overlap take shares one after the other."""
        last = self._n_nodes if last is None else last
        n_nodes = last - first
        if into is None:
            into = Flows.empty(n_nodes, self._n_flows, len(self.feature_names))
        flows = Flows(into.x[:n_nodes], into.y[:n_nodes], into.origin[:n_nodes], first)
        hit = self._traits_of(first, last).hit
        active, bounds = [], []
        upper = np.zeros(n_nodes, dtype=np.float32)
        for index, campaign in enumerate(self._settings.campaigns):
            if not campaign.start <= step < campaign.start + campaign.duration:
                continue
            if campaign.spread == "worm":
                assert infected is not None, "worms need to be told who is infected"
                here = infected[index]
            else:
                here = hit[:, index]
            upper = upper + here * np.float32(campaign.flow_share)
            active.append(index)
            bounds.append(upper)
        bound = np.stack(bounds, axis=1) if bounds else np.zeros((n_nodes, 0), dtype=np.float32)
        shift = self._shift(step, first, last)
        self._draw("traffic", step, first, flows, bound, np.array(active, dtype=np.int64), shift)
        return flows

    def references(self) -> NDArray[np.float32]:
        """Return flows of each campaign `[n_campaigns, 64, n_features]`."""
        profiles, n_campaigns = self._profiles, len(self.targets)
        shape = n_campaigns, REFERENCE_FLOWS, len(self.feature_names)
        z = self._streams.generator("reference").standard_normal(shape, dtype=np.float32)
        rows = np.arange(n_campaigns) + profiles.n_services
        x = profiles.mean[rows][:, None] + profiles.sd[rows][:, None] * z
        clipped: NDArray[np.float32] = np.clip(x, profiles.low, profiles.high)
        return clipped

    def describe(
        self, step: int, flows: Flows, rows: NDArray[Any], columns: NDArray[Any]
    ) -> FlowRecords:
        """Return records: attackers come from a few addresses per campaign, 203.0.113.0 on."""
        profiles, n = self._profiles, len(rows)
        records = FlowRecords(
            timestamp=np.empty(n, dtype=np.int64),
            source_ip=np.empty(n, dtype=np.uint32),
            destination_ip=np.empty(n, dtype=np.uint32),
            bytes_transferred=np.empty(n, dtype=np.int64),
            protocol=np.empty(n, dtype=np.uint8),
        )
        _describe(
            step, flows.first, np.asarray(rows), np.asarray(columns), flows.origin, flows.x,
            profiles.protocol, profiles.n_services, profiles.bytes_scale, profiles.bytes_location,
            records.timestamp, records.source_ip, records.destination_ip,
            records.bytes_transferred, records.protocol,
        )  # fmt: skip
        return records

    def _draw(
        self,
        purpose: Purpose,
        step: int,
        first: int,
        flows: Flows,
        bound: NDArray[np.float32],
        active: NDArray[np.int64],
        shift: NDArray[np.float32] | None,
    ) -> None:
        n_nodes, _, n_features = flows.x.shape
        family = np.array([t.family for t in self.targets], dtype=np.int16)
        traits, profiles = self._traits_of(first, first + n_nodes), self._profiles
        _draw_flows(
            flows.x.transpose(0, 2, 1), flows.y, flows.origin, first, step,
            *self._streams.key(purpose), traits.cumulative, bound, active, family,
            profiles.mean, profiles.sd, profiles.low, profiles.high,
            np.zeros((0, n_features), dtype=np.float32) if shift is None else shift,
        )  # fmt: skip

    def _shift(self, step: int, first: int, last: int) -> NDArray[np.float32] | None:
        """Return what drift and day cycle add to each node's features, None without them."""
        settings = self._settings
        if settings.drift == 0 and settings.day_amplitude == 0:
            return None
        drifted = self._traits_of(first, last).direction * (settings.drift * step / 1_000)
        day = settings.day_amplitude * np.sin(
            2 * np.pi * (step % settings.day_steps) / settings.day_steps
        )
        shift: NDArray[np.float32] = (drifted + self._profiles.is_volume * day).astype(np.float32)
        return shift

    def _traits_of(self, first: int, last: int) -> _Traits:
        """Return what stays the same for these nodes, drawn when first asked for."""
        found = self._traits.get((first, last))
        if found is None:
            found = _Traits(
                self._mixture(first, last),
                self._hit(first, last),
                np.sign(
                    self._streams.normals(
                        "drift", last - first, len(self.feature_names), first=first
                    )
                ),
            )
            self._traits[first, last] = found
        return found

    def _mixture(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the cumulative shares of all services but the last `[n_nodes, n_services - 1]`."""
        if not isinstance(self._settings, SyntheticTraffic):
            return np.zeros((last - first, 0), dtype=np.float32)
        alpha = np.full(self._profiles.n_services, self._settings.mixture_alpha)
        start = first // BLOCK_NODES
        parts = [
            self._streams.generator("mixture", block=block).dirichlet(alpha, BLOCK_NODES)
            for block in range(start, -(-last // BLOCK_NODES))
        ]
        mixture = np.concatenate(parts)[first - start * BLOCK_NODES :][: last - first]
        return np.cumsum(mixture, axis=1)[:, :-1].astype(np.float32)

    def _hit(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return which nodes the static campaigns hit `[n_nodes, n_campaigns]`."""
        share = np.array([c.node_share for c in self._settings.campaigns])
        hit: NDArray[np.bool_] = (
            self._streams.uniforms("campaign", last - first, len(share), first=first) < share
        )
        return hit


class _Traits:
    """What stays the same for some nodes during a run."""

    __slots__ = ("cumulative", "direction", "hit")

    def __init__(
        self,
        cumulative: NDArray[np.float32],
        hit: NDArray[np.bool_],
        direction: NDArray[np.float32],
    ) -> None:
        self.cumulative, self.hit, self.direction = cumulative, hit, direction


def _profiles_of(settings: SyntheticTraffic | GaussianTraffic) -> Profiles:
    if isinstance(settings, GaussianTraffic):
        return gaussian_profiles(settings.campaigns, settings.features)
    return service_profiles(settings.campaigns)


@njit(cache=True, nogil=True)
def _draw_flows(
    x: Any, y: Any, origin: Any, first: int, step: int, k0: Any, k1: Any, cumulative: Any,
    bound: Any, active: Any, family: Any, mean: Any, sd: Any, low: Any, high: Any, shift: Any,
) -> None:  # fmt: skip
    """Write the flows of nodes from `first` on into x `[n_nodes, n_features, n_flows]`.

    Node by node, so that a node's random words are still in the cache when its flows are made.
    """
    n_nodes, n_features, n_flows = x.shape
    words = np.empty((1, (n_features + _NORMALS + WORDS - 1) // WORDS, WORDS, n_flows), np.uint32)
    for i in range(n_nodes):
        fill_words(words, first + i, step, k0, k1)
        fill_normals(x[i : i + 1], words, _NORMALS, first + i, step, k0, k1)
        _choose_origins(y[i], origin[i], words[0, 0], cumulative[i], bound[i], active, family)
        for d in range(n_features):
            add = shift[i, d] if shift.shape[0] > 0 else float32(0)
            lowest, highest = low[d], high[d]
            row, source = x[i, d], origin[i]
            for b in range(n_flows):
                value = mean[source[b], d] + sd[source[b], d] * row[b] + add
                row[b] = min(max(value, lowest), highest)


@njit(cache=True, nogil=True)
def _choose_origins(
    y: Any, origin: Any, words: Any, cumulative: Any, bound: Any, active: Any, family: Any
) -> None:
    """Write which service or campaign makes each flow of a node, and the truth about it."""
    n_flows, n_above, n_active = y.shape[0], cumulative.shape[0], active.shape[0]
    pick, attack = words[_PICK], words[_ATTACK]
    unit = float32(2.0**-24)
    for b in range(n_flows):
        u = float32(np.int32(pick[b] >> uint32(8))) * unit
        service = 0
        for k in range(n_above):
            service += u >= cumulative[k]
        origin[b] = service
        y[b] = 0
    if n_active == 0 or bound[n_active - 1] == 0:
        return
    for b in range(n_flows):
        u = float32(np.int32(attack[b] >> uint32(8))) * unit
        for k in range(n_active):
            if u < bound[k]:
                origin[b] = n_above + 1 + active[k]
                y[b] = family[active[k]]
                break


@njit(cache=True, nogil=True)
def _describe(
    step: int, first: int, rows: Any, columns: Any, origin: Any, x: Any, protocols: Any,
    n_services: int, bytes_scale: Any, bytes_location: Any, timestamp: Any, source_ip: Any,
    destination_ip: Any, bytes_transferred: Any, protocol: Any,
) -> None:  # fmt: skip
    """Write the records of the flows at (rows, columns)."""
    for k in range(rows.shape[0]):
        i, b = rows[k], columns[k]
        node, row = first + i, origin[i, b]
        noise = mix(mix(mix(np.uint64(0), np.uint64(node)), np.uint64(b)), np.uint64(step))
        late = (noise >> np.uint64(20)) % np.uint64(STEP_MILLISECONDS)
        timestamp[k] = step * STEP_MILLISECONDS + np.int64(late)
        if row >= n_services:
            pick = np.int64(noise % np.uint64(ATTACKERS_PER_CAMPAIGN))
            source_ip[k] = ATTACKERS + (row - n_services) * ATTACKERS_PER_CAMPAIGN + pick
        else:
            source_ip[k] = CLIENTS + np.int64(noise % np.uint64(1 << 17))
        destination_ip[k] = NODES + node
        digits = min(float64(x[i, b, 0]) * bytes_scale + bytes_location, 15.0)
        bytes_transferred[k] = np.int64(np.rint(10.0**digits))
        protocol[k] = protocols[row]
