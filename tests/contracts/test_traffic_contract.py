"""What every traffic source in the registry must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_core.config import ModelConfig
from sim_core.datasets import DATASETS
from sim_core.randomness import Streams
from sim_core.traffic import TRAFFIC, Flows, Traffic, make_traffic
from sim_core.traffic.base import REFERENCE_FLOWS, STEP_MILLISECONDS

N_NODES, N_FLOWS = 8, 10
WITH_ATTACKS: dict[str, dict[str, Any]] = {
    "smtp": {"attack_share": 0.1},
    "nab": {"files": ["iio_us-east-1_i-a2eb1cd9_NetworkIn"]},
    "gaussian": {"campaigns": [{"family": "ddos", "start": 2, "duration": 6}]},
}
"""Settings of sources that would have no attack in the few steps of these tests."""
Make = Callable[..., Traffic]


def is_drawn(traffic: Traffic) -> bool:
    """Return whether a source draws anything: some replays play a file as it is."""
    return getattr(traffic, "replicates_differ", True)


@pytest.fixture(params=TRAFFIC)
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the configuration of a source of this kind."""
    kind = request.param
    if kind == "table":
        path = request.getfixturevalue("tmp_path") / "flows.csv"
        path.write_text(some_table(), encoding="utf-8")
        columns = {"label": "label", "bytes_transferred": "bytes", "protocol": "protocol"}
        return {"kind": kind, "path": str(path), "columns": columns}
    if kind in DATASETS:
        folder = request.getfixturevalue("data_folder") / DATASETS[kind].folder
        return {"kind": kind, "path": str(folder)} | WITH_ATTACKS.get(kind, {})
    return {"kind": kind} | WITH_ATTACKS.get(kind, {})


def some_table() -> str:
    """Return a table of flows, a fifth of them attacks."""
    rng = np.random.default_rng(5)
    lines = ["bytes,duration,protocol,label"]
    for row in range(1_000):
        label = ("normal", "normal", "scan", "normal", "normal")[row % 5]
        n_bytes, duration = rng.integers(40, 1_500), rng.exponential()
        lines.append(f"{n_bytes},{duration:.4f},{('tcp', 'udp', '1')[row % 3]},{label}")
    return "\n".join(lines)


@pytest.fixture
def make(settings: dict[str, Any], make_config: Callable[..., ModelConfig]) -> Make:
    """Return a function from the number of nodes and the seed to a source of this kind."""

    def source(*, nodes: int = N_NODES, seed: int = 1, replicate: int = 0) -> Traffic:
        config = make_config(simulation={"nodes": nodes}, traffic=settings)
        return make_traffic(config, Streams(seed, replicate))

    return source


def test_shapes_and_types(make: Make):
    traffic = make()
    n_features = len(traffic.feature_names)
    assert len(set(traffic.feature_names)) == n_features > 0
    flows = traffic.draw(3)
    assert (flows.x.shape, flows.x.dtype) == ((N_NODES, N_FLOWS, n_features), np.float32)
    assert (flows.y.shape, flows.y.dtype) == ((N_NODES, N_FLOWS), np.int16)
    assert (flows.origin.shape, flows.origin.dtype) == ((N_NODES, N_FLOWS), np.int32)
    warmup = traffic.warmup()
    assert warmup.dtype == np.float32
    assert warmup.shape[0] in (1, N_NODES)
    assert warmup.shape[1] >= 8
    assert warmup.shape[2] == n_features
    references = traffic.references()
    assert references.dtype == np.float32
    assert references.shape == (len(traffic.targets), REFERENCE_FLOWS, n_features)


def test_all_features_are_finite_and_benign_ones_of_order_one(make: Make):
    traffic = make()
    for x in (traffic.warmup(), traffic.references(), *(traffic.draw(t).x for t in range(12))):
        assert np.isfinite(x).all()
    together = traffic.warmup().reshape(-1, len(traffic.feature_names))
    assert np.abs(together.mean(axis=0)).max() < 1
    assert 0.1 < together.std(axis=0).mean() < 2


def test_labels_name_families_and_every_target_has_one(make: Make):
    traffic = make()
    labels = {int(k) for t in range(12) for k in np.unique(traffic.draw(t).y)}
    assert labels > {0}
    assert max(labels) <= len(traffic.families)
    assert {target.family for target in traffic.targets} >= labels - {0}
    assert len({target.name for target in traffic.targets}) == len(traffic.targets)
    for target in traffic.targets:
        assert 1 <= target.family <= len(traffic.families)
        assert target.start >= 0
        assert target.duration is None or target.duration >= 1


def test_flows_of_a_step_depend_on_nothing_but_the_step(make: Make):
    first, second = make(), make()
    forwards = [first.draw(t) for t in range(4)]
    backwards = [second.draw(t) for t in (3, 2, 1, 0)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.x.tobytes() == b.x.tobytes()
        assert a.y.tobytes() == b.y.tobytes()
        assert a.origin.tobytes() == b.origin.tobytes()
    assert len({flows.x.tobytes() for flows in forwards}) == 4
    assert first.warmup().tobytes() == second.warmup().tobytes()
    assert first.references().tobytes() == second.references().tobytes()


def test_adding_nodes_leaves_the_flows_of_the_others_alone(make: Make):
    few, many = make(), make(nodes=70)
    for step in range(6):
        a, b = few.draw(step), many.draw(step)
        assert a.x.tobytes() == b.x[:N_NODES].tobytes()
        assert a.y.tobytes() == b.y[:N_NODES].tobytes()
    assert few.references().tobytes() == many.references().tobytes()
    assert few.targets == many.targets


def test_seed_and_replicate_change_the_flows_and_zero_is_a_seed(make: Make):
    found = {
        make(seed=seed, replicate=replicate).draw(0).x.tobytes()
        for seed in (0, 1)
        for replicate in (0, 1)
    }
    assert len(found) == (4 if is_drawn(make()) else 1)


def test_some_nodes_alone_see_what_they_see_among_all(make: Make):
    nodes, step = 70, 4
    whole = make(nodes=nodes).draw(step)
    traffic = make(nodes=nodes)
    room = Flows.empty(64, N_FLOWS, len(traffic.feature_names))
    for first, last in ((64, 70), (0, 64), (3, 5)):
        part = traffic.draw(step, first, last, into=room)
        assert part.first == first
        assert np.shares_memory(part.x, room.x)
        for name in ("x", "y", "origin"):
            expected = getattr(whole, name)[first:last]
            assert getattr(part, name).tobytes() == expected.tobytes()
        some = np.arange(last - first)
        records = traffic.describe(step, part, some, some % N_FLOWS)
        among_all = traffic.describe(step, whole, some + first, some % N_FLOWS)
        for name, values in vars(records).items():
            assert values.tolist() == getattr(among_all, name).tolist()


def test_nodes_see_different_flows(make: Make):
    traffic = make(nodes=70)
    assert len({row.tobytes() for row in traffic.draw(0).x}) == (70 if is_drawn(traffic) else 1)


def test_records_are_in_range_and_a_flow_has_its_own(make: Make):
    traffic, step = make(), 5
    flows = traffic.draw(step)
    node, flow = (index.ravel() for index in np.indices((N_NODES, N_FLOWS)))
    records = traffic.describe(step, flows, node, flow)
    for values in vars(records).values():
        assert values.shape == node.shape
    assert records.timestamp.dtype == np.int64
    if getattr(traffic, "clock", "run") == "run":
        assert (records.timestamp >= step * STEP_MILLISECONDS).all()
        assert (records.timestamp < (step + 1) * STEP_MILLISECONDS).all()
    else:  # the file's own times, since 1970
        assert (np.diff(records.timestamp.reshape(N_NODES, N_FLOWS)) > 0).all()
    assert records.source_ip.dtype == records.destination_ip.dtype == np.uint32
    assert [len(set(records.destination_ip[node == i].tolist())) for i in range(N_NODES)] == (
        [1] * N_NODES
    )
    assert len(set(records.destination_ip.tolist())) == N_NODES
    assert records.bytes_transferred.dtype == np.int64
    assert (records.bytes_transferred >= 0).all()
    assert records.protocol.dtype == np.uint8
    assert set(records.protocol.tolist()) <= {1, 6, 17}
    some = np.array([17, 3, 42])
    part = traffic.describe(step, flows, node[some], flow[some])
    for name, values in vars(records).items():
        assert getattr(part, name).tolist() == values[some].tolist()


def test_no_flows_have_no_records(make: Make):
    traffic = make()
    nobody = np.zeros(0, dtype=np.int64)
    records = traffic.describe(0, traffic.draw(0), nobody, nobody)
    assert all(values.shape == (0,) for values in vars(records).values())


def test_the_model_sees_the_flows_of_its_source(
    make: Make, settings: dict[str, Any], make_model: Any
):
    model = make_model(traffic=settings)
    expected = make()
    for step in range(3):
        assert model.traffic.draw(step).x.tobytes() == expected.draw(step).x.tobytes()
        model.step()
        entry = model.entries["metrics"][0]
        assert entry["tp"] + entry["fn"] == (expected.draw(step).y > 0).sum()
