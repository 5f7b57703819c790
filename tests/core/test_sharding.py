"""One network in several shards gives the same bits as in one piece."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from sim_core import shard
from sim_core.checkpoint import decode, encode
from sim_core.config import ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.model import NetworkModel
from sim_core.sharding import ShardReplica, ShardSpec, cut_edges, open_sharded

RUN_KEY = "ab" * 32
LIVELY: dict[str, Any] = {
    "simulation": {"nodes": 200, "flows_per_node": 12, "steps": 16},
    "adversary": {"kind": "poisoner", "share": 0.2},
    "churn": {"crash_rate": 0.05},
    "metrics": {"auroc_every": 3, "from_step": 2},
}


class Elsewhere:
    """A shard behind a handle: what it is sent cannot be written, as after a journey."""

    def __init__(self, spec: ShardSpec) -> None:
        self._replica = ShardReplica(spec)

    def submit(self, method: str, *arguments: Any) -> Callable[[], Any]:
        for argument in arguments:
            for array in vars(argument).values() if hasattr(argument, "step") else [argument]:
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)
        result = getattr(self._replica, method)(*arguments)
        return lambda: result


def model_of(config: ModelConfig, n_shards: int, state: Any = None) -> NetworkModel:
    opened = partial(open_sharded, n_shards=n_shards, keeps_alerts=True, open_remote=Elsewhere)
    return NetworkModel(config, seed=5, run_key=RUN_KEY, state=state, open_shards=opened)


def heads(model: NetworkModel, steps: int) -> list[bytes]:
    found = []
    for _ in range(steps):
        model.step()
        found.append(model.state.head)
    model.close()
    return found


@pytest.mark.parametrize("n_shards", [1, 2, 3, 9])
@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"dissemination": {"kind": "push_pull"}, "detector": {"kind": "mahalanobis"}},
        {
            "traffic": {
                "campaigns": [
                    {
                        "family": "worm",
                        "start": 1,
                        "duration": 12,
                        "flow_share": 0.5,
                        "spread": "worm",
                        "transmission": 0.02,
                    }
                ]
            },
            "detector": {"kind": "isolation_forest", "refit_every": 4, "trees": 10, "window": 64},
        },
        {"detector": {"kind": "cusum"}, "voting": {"mode": "competence"}},
    ],
    ids=["poisoned", "gossip", "worm", "competence"],
)
def test_any_number_of_shards_gives_the_same_bits(
    make_config: Callable[..., ModelConfig], n_shards: int, groups: dict[str, Any]
):
    config = make_config(**(LIVELY | groups))
    whole = NetworkModel(config, seed=5, run_key=RUN_KEY)
    expected = heads(whole, 16)
    cut = model_of(config, n_shards)
    assert heads(cut, 16) == expected
    assert encode(cut.collect(), RUN_KEY) == encode(whole.collect(), RUN_KEY)


def test_shards_go_on_from_a_checkpoint_of_another_number_of_shards(
    make_config: Callable[..., ModelConfig],
):
    config = make_config(**LIVELY)
    expected = heads(model_of(config, 1), 16)
    model = model_of(config, 3)
    found = []
    for n_shards in (2, 1, 4):
        found += heads(model, 4)
        state = decode(encode(model.collect(), RUN_KEY), RUN_KEY)
        model = model_of(config, n_shards, state)
    found += heads(model, 4)
    assert found == expected


def test_size_of_chunks_changes_no_bit(
    make_config: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch
):
    config = make_config(**LIVELY)
    expected = heads(NetworkModel(config, seed=5, run_key=RUN_KEY), 16)
    monkeypatch.setattr(shard, "CHUNK_FLOATS", 1)
    assert heads(NetworkModel(config, seed=5, run_key=RUN_KEY), 16) == expected


@pytest.mark.parametrize(("n_nodes", "n_shards"), [(1, 4), (64, 2), (65, 2), (1000, 3), (200, 9)])
def test_shards_are_whole_blocks_and_cover_all_nodes(n_nodes: int, n_shards: int):
    edges = cut_edges(n_nodes, n_shards)
    assert edges[0] == 0
    assert edges[-1] == n_nodes
    assert len(edges) <= n_shards + 1
    assert edges == sorted(set(edges))
    assert all(edge % 64 == 0 for edge in edges[:-1])
    sizes = np.diff(edges)
    assert sizes.max() - sizes.min() < 128


def test_a_centre_cannot_be_cut(make_config: Callable[..., ModelConfig]):
    config = make_config(**LIVELY, dissemination={"kind": "centralised"})
    with pytest.raises(ConfigurationError, match="one detector for all nodes"):
        model_of(config, 2)
