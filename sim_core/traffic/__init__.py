"""Sources of flows: one module per kind, one registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim_core.config import ModelConfig
from sim_core.randomness import Streams
from sim_core.traffic.base import FlowRecords, Flows, Target, Traffic
from sim_core.traffic.nab import nab_files, replay_nab
from sim_core.traffic.nsl_kdd import nsl_kdd_files, replay_nsl_kdd
from sim_core.traffic.smtp import replay_smtp, smtp_files
from sim_core.traffic.synthetic import Synthetic
from sim_core.traffic.user_table import replay_table, table_files

TRAFFIC: dict[str, Callable[[ModelConfig, Streams], Traffic]] = {
    "synthetic": Synthetic,
    "gaussian": Synthetic,
    "nsl_kdd": replay_nsl_kdd,
    "smtp": replay_smtp,
    "nab": replay_nab,
    "table": replay_table,
}
DATA_FILES: dict[str, Callable[[Any], tuple[Path, ...]]] = {
    "nsl_kdd": nsl_kdd_files,
    "smtp": smtp_files,
    "nab": nab_files,
    "table": table_files,
}


def make_traffic(config: ModelConfig, streams: Streams) -> Traffic:
    """Return the traffic source that `config.traffic.kind` names.

    Raises:
        DataError: a data file is missing or damaged.
    """
    return TRAFFIC[config.traffic.kind](config, streams)


def data_files(config: ModelConfig) -> tuple[Path, ...]:
    """Return the data files that a configuration reads (none for synthetic traffic).

    Raises:
        DataError: a file is missing, or none is named.
    """
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
