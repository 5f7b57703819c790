"""Service profiles and attack families: the tables that synthetic flows are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_core.config import Campaign
from sim_core.traffic.base import TCP, UDP

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
VOLUMES = ("log10_bytes_out", "log10_bytes_in", "log10_packets")
RATIOS = [FEATURES.index("syn_ratio"), FEATURES.index("failed_ratio")]
# Location and scale of an even mixture of the services: the unit that all features are given in.
LOCATION = SERVICE_MEAN.mean(axis=0)
SCALE = np.sqrt((SERVICE_SD**2 + (SERVICE_MEAN - LOCATION) ** 2).mean(axis=0))


@dataclass(frozen=True)
class Profiles:
    """What flows are made of: a row per service, then one per campaign; features standardised."""

    features: tuple[str, ...]
    n_services: int
    mean: NDArray[np.float32]
    """`[n_services + n_campaigns, n_features]`."""
    sd: NDArray[np.float32]
    protocol: NDArray[np.uint8]
    """IANA protocol number of each row."""
    low: NDArray[np.float32]
    """Smallest value of each feature `[n_features]`."""
    high: NDArray[np.float32]
    is_volume: NDArray[np.bool_]
    """Features that follow the day cycle `[n_features]`."""
    bytes_location: float
    """log10 of the bytes of a flow whose first feature is 0."""
    bytes_scale: float


def service_profiles(campaigns: Sequence[Campaign]) -> Profiles:
    """Return the five services, and each campaign on the service that it looks like."""
    mean, sd, protocol = [*SERVICE_MEAN], [*SERVICE_SD], [*SERVICE_PROTOCOLS]
    for campaign in campaigns:
        carrier = SERVICES.index(FAMILY_CARRIER[campaign.family])
        shift = np.array(FAMILY_SHIFT[campaign.family])
        mean.append(SERVICE_MEAN[carrier] + campaign.intensity * shift)
        sd.append(SERVICE_SD[carrier])
        protocol.append(SERVICE_PROTOCOLS[carrier])
    low, high = np.full(len(FEATURES), -np.inf), np.full(len(FEATURES), np.inf)
    for ratio in RATIOS:  # a share of packets stays between 0 and 1
        low[ratio], high[ratio] = (np.array([0.0, 1.0]) - LOCATION[ratio]) / SCALE[ratio]
    return Profiles(
        features=FEATURES,
        n_services=len(SERVICES),
        mean=((np.array(mean) - LOCATION) / SCALE).astype(np.float32),
        sd=(np.array(sd) / SCALE).astype(np.float32),
        protocol=np.array(protocol, dtype=np.uint8),
        low=low.astype(np.float32),
        high=high.astype(np.float32),
        is_volume=np.isin(FEATURES, VOLUMES),
        bytes_location=float(LOCATION[0]),
        bytes_scale=float(SCALE[0]),
    )


def gaussian_profiles(campaigns: Sequence[Campaign], n_features: int) -> Profiles:
    """Return one service of standard normal features; campaigns shift each by their intensity."""
    n_rows = 1 + len(campaigns)
    shift = np.array([0.0, *(c.intensity for c in campaigns)], dtype=np.float32)
    unbounded = np.full(n_features, np.inf, dtype=np.float32)
    return Profiles(
        features=tuple(f"x{d}" for d in range(n_features)),
        n_services=1,
        mean=np.repeat(shift[:, None], n_features, axis=1),
        sd=np.ones((n_rows, n_features), dtype=np.float32),
        protocol=np.full(n_rows, TCP, dtype=np.uint8),
        low=-unbounded,
        high=unbounded,
        is_volume=np.ones(n_features, dtype=np.bool_),
        bytes_location=3.0,
        bytes_scale=0.5,
    )
