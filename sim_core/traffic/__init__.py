"""Sources of flows: one module per kind, one registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim_core.config import ModelConfig
from sim_core.randomness import Streams
from sim_core.traffic.base import FlowRecords, Flows, Target, Traffic
from sim_core.traffic.nsl_kdd import NslKdd, nsl_kdd_files
from sim_core.traffic.synthetic import Synthetic

TRAFFIC: dict[str, Callable[[ModelConfig, Streams], Traffic]] = {
    "synthetic": Synthetic,
    "gaussian": Synthetic,
    "nsl_kdd": NslKdd,
}
DATA_FILES: dict[str, Callable[[Any], tuple[Path, ...]]] = {"nsl_kdd": nsl_kdd_files}


def make_traffic(config: ModelConfig, streams: Streams) -> Traffic:
    """Return the traffic source that `config.traffic.kind` names.

    Raises:
        DataError: a data file is missing or damaged.
    """
    return TRAFFIC[config.traffic.kind](config, streams)


def data_files(config: ModelConfig) -> tuple[Path, ...]:
    """Return the data files that a configuration reads (none for synthetic traffic)."""
    find = DATA_FILES.get(config.traffic.kind)
    return find(config.traffic) if find else ()


__all__ = [
    "DATA_FILES",
    "TRAFFIC",
    "FlowRecords",
    "Flows",
    "Target",
    "Traffic",
    "data_files",
    "make_traffic",
]
