"""Whether what is asked for fits into the memory of this machine, found out before it starts.

A run's arrays grow by the same number of bytes with each node: two networks of a few nodes, measured,
tell how much a large one needs. While a checkpoint is made, all of it is there twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import psutil

from sim_core.config import ExecutorConfig, ModelConfig
from sim_core.errors import ConfigurationError, UserError
from sim_core.simulated_network import SimulatedNetwork

LARGEST_UNASKED = 1_000
"""Nodes up to which a network is not estimated: it fits wherever this program does."""
MEASURED_NODES = (16, 32)
MEASURED_CONFIGS = 8
"""Configurations of an experiment that are estimated, those of most nodes first."""
COPIES = 2
BYTES_OF_EDGE = 100
"""What NetworkX takes at least for an edge while a graph is made."""
MIB = 1 << 20
ADVICE = (
    "Lower simulation.nodes, response.blacklist_capacity or executor.num_cpus, choose another "
    "detector, or raise limits.max_estimated_mb if you know better"
)


def refuse_what_does_not_fit(
    configs: Sequence[ModelConfig],
    n_runs: int,
    executor: ExecutorConfig,
    most_mb: float | None,
) -> None:
    """Check that the runs of an experiment fit into memory, as many as are executed at once.

    Args:
        configs: One per point.
        n_runs: Runs of all points.
        executor: Where they are executed.
        most_mb: MiB that they may take; None: the memory of this machine.

    Raises:
        ConfigurationError: they do not; says the estimate and what to change.
    """
    large = [c for c in configs if c.simulation.nodes > LARGEST_UNASKED]
    if not large:
        return
    at_once = min(n_runs, n_workers(executor))
    limit = machine_mb() if most_mb is None else most_mb
    where = "this machine has" if most_mb is None else "limits.max_estimated_mb allows"
    distinct = {json.dumps(_measured_part(c), sort_keys=True): c for c in large}
    for config in sorted(distinct.values(), key=lambda c: -c.simulation.nodes)[:MEASURED_CONFIGS]:
        each = estimated_mb(config)
        if each * at_once > limit:
            raise ConfigurationError(
                f"a run of {config.simulation.nodes:,} nodes needs about {each:,.0f} MiB, "
                f"{at_once} at once {each * at_once:,.0f} MiB, and {where} {limit:,.0f}. {ADVICE}"
            )


def n_workers(executor: ExecutorConfig) -> int:
    """Return how many runs an executor has at work at the same time."""
    if executor.kind == "inline":
        return 1
    return max(1, (executor.num_cpus or os.cpu_count() or 1) // executor.network_shards)


def estimated_mb(config: ModelConfig) -> float:
    """Return about how many MiB a run takes beyond the program itself."""
    n_nodes = config.simulation.nodes
    sizes = [_state_bytes(config, n) for n in MEASURED_NODES]
    ((few, more),) = pairwise(MEASURED_NODES)
    state = sizes[0] + (sizes[1] - sizes[0]) / (more - few) * (n_nodes - few)
    return (COPIES * state + BYTES_OF_EDGE * _edges(config)) / MIB


def machine_mb() -> float:
    """Return the memory of this machine in MiB."""
    return float(psutil.virtual_memory().total) / MIB


def _state_bytes(config: ModelConfig, n_nodes: int) -> int:
    """Return the bytes of the arrays of a network like this one, of another size."""
    part = _measured_part(config)
    part["simulation"] |= {"nodes": n_nodes}
    try:
        state = SimulatedNetwork(ModelConfig.model_validate(part)).state
    except UserError:  # of the data: said later, about the network that is asked for
        return 0
    return sum(array.nbytes for array in state.to_arrays().values())


def _measured_part(config: ModelConfig) -> dict[str, Any]:
    """Return what the size of the arrays depends on; edges and liars are counted apart."""
    beside = {"topology", "adversary", "metrics", "intervention"}
    part = config.model_dump(mode="json", exclude=beside)
    part["simulation"] |= {"steps": 1}
    return part


def _edges(config: ModelConfig) -> float:
    topology: Any = config.topology
    n_nodes = config.simulation.nodes
    match topology.kind:
        case "ring" | "small_world":
            return float(n_nodes * topology.neighbours) / 2
        case "scale_free":
            return float(n_nodes * topology.attachments)
        case "random":
            return float(n_nodes * min(topology.mean_degree, n_nodes)) / 2
    return 0.0
