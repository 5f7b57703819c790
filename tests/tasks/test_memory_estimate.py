"""What does not fit into memory is refused before it starts, and what fits is not."""

from __future__ import annotations

from typing import Any

import pytest

from sim_core.config import ExecutorConfig, ExperimentConfig, ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.plan import plan_runs
from sim_core.simulated_network import SimulatedNetwork
from tasks.estimate_memory import (
    COPIES,
    MIB,
    estimated_mb,
    n_workers,
    refuse_what_does_not_fit,
)

INLINE = ExecutorConfig(kind="inline")


def model(nodes: int, **groups: Any) -> ModelConfig:
    return ModelConfig.model_validate({"simulation": {"nodes": nodes, "steps": 3}, **groups})


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"detector": {"kind": "half_space_trees"}},
        {"dissemination": {"kind": "push", "latency": 3}},
        {"traffic": {"kind": "gaussian", "features": 7}, "response": {"blacklist_capacity": 100}},
        {"intervention": {"step": 1, "adversary": {"kind": "flipper", "count": 299}}},
    ],
)
def test_estimate_is_what_the_network_holds(groups: dict[str, Any]):
    config = model(300, **groups)
    held = sum(a.nbytes for a in SimulatedNetwork(config).state.to_arrays().values())
    assert estimated_mb(config) == pytest.approx(COPIES * held / MIB, rel=0.01)


def test_edges_count():
    alone = estimated_mb(model(100_000))
    joined = model(100_000, topology={"kind": "random", "mean_degree": 1_000})
    assert estimated_mb(joined) > alone + 4_000


def test_request_beyond_memory_is_refused_with_estimate_and_advice():
    config = model(50_000)
    each = estimated_mb(config)
    refuse_what_does_not_fit([config], 5, INLINE, each * 1.01)
    with pytest.raises(
        ConfigurationError, match=r"50,000 nodes needs about .* MiB.*simulation\.nodes"
    ):
        refuse_what_does_not_fit([config], 5, INLINE, each * 0.99)
    two = ExecutorConfig(kind="processes", num_cpus=2)
    refuse_what_does_not_fit([config], 1, two, each * 1.01)
    with pytest.raises(ConfigurationError, match="2 at once"):
        refuse_what_does_not_fit([config], 5, two, each * 1.99)


def test_request_beyond_this_machine_is_refused_without_a_limit():
    huge = model(1_000_000, response={"blacklist_capacity": 4_096})
    assert estimated_mb(huge) > 60_000
    many = ExecutorConfig(kind="processes", num_cpus=4_096)
    with pytest.raises(ConfigurationError, match=r"4096 at once .* MiB, and this machine has"):
        refuse_what_does_not_fit([huge], 5_000, many, None)
    refuse_what_does_not_fit([model(1_000)] * 3, 3, INLINE, None)


def test_network_that_is_spread_uses_all_workers_for_one_run():
    assert n_workers(ExecutorConfig(num_cpus=8, network_shards=4)) == 2
    assert n_workers(ExecutorConfig(num_cpus=2, network_shards=4)) == 1


@pytest.mark.parametrize(
    ("limit", "what"),
    [
        ("max_nodes", "simulation.nodes is 20"),
        ("max_flows", "simulation.nodes x flows_per_node is 200"),
        ("max_steps", "simulation.steps is 30"),
        ("max_runs", "4 replicates are 4 runs"),
    ],
)
def test_size_beyond_a_limit_is_refused_by_name(limit: str, what: str):
    sizes = {"nodes": 20, "flows_per_node": 10, "steps": 30}
    exact = {"max_nodes": 20, "max_flows": 200, "max_steps": 30, "max_runs": 4}
    settings = {"simulation": sizes, "experiment": {"replicates": 4}}
    plan_runs(ExperimentConfig.model_validate(settings | {"limits": exact}), [])
    less = exact | {limit: exact[limit] - 1}
    with pytest.raises(ConfigurationError, match=f"limits.{limit}") as refused:
        plan_runs(ExperimentConfig.model_validate(settings | {"limits": less}), [])
    assert what in str(refused.value)
