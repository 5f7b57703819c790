"""What every traffic source must do; each check says it in its first line."""

from __future__ import annotations

import numpy as np

from sim_core.contracts.cases import Case
from sim_core.randomness import Streams
from sim_core.traffic import Flows, Traffic, make_traffic
from sim_core.traffic.base import REFERENCE_FLOWS, STEP_MILLISECONDS

N_NODES, N_FLOWS = 8, 10


def _make(case: Case, *, nodes: int = N_NODES, seed: int = 1, replicate: int = 0) -> Traffic:
    config = case.config(traffic=case.quick.model_dump(), simulation={"nodes": nodes})
    return make_traffic(config, Streams(seed, replicate))


def _is_drawn(traffic: Traffic) -> bool:
    """Return whether a source draws anything: some replays play a file as it is."""
    return bool(getattr(traffic, "replicates_differ", True))


def check_shapes_and_types(case: Case) -> None:
    """Arrays have the shapes and types of the protocol."""
    traffic = _make(case)
    n_features = len(traffic.feature_names)
    assert len(set(traffic.feature_names)) == n_features > 0
    flows = traffic.draw(3)
    assert flows.x.shape == (N_NODES, N_FLOWS, n_features)
    assert flows.x.dtype == np.float32
    assert flows.y.shape == (N_NODES, N_FLOWS)
    assert flows.y.dtype == np.int16
    assert flows.origin.shape == (N_NODES, N_FLOWS)
    assert flows.origin.dtype == np.int32
    warmup = traffic.warmup()
    assert warmup.dtype == np.float32
    assert warmup.shape[0] in (1, N_NODES)
    assert warmup.shape[1] >= 8
    assert warmup.shape[2] == n_features
    references = traffic.references()
    assert references.dtype == np.float32
    assert references.shape == (len(traffic.targets), REFERENCE_FLOWS, n_features)


def check_all_features_are_finite_and_benign_ones_of_order_one(case: Case) -> None:
    """Features are in standard deviations of benign traffic."""
    traffic = _make(case)
    for x in (traffic.warmup(), traffic.references(), *(traffic.draw(t).x for t in range(12))):
        assert np.isfinite(x).all()
    together = traffic.warmup().reshape(-1, len(traffic.feature_names))
    assert np.abs(together.mean(axis=0)).max() < 1
    assert 0.1 < together.std(axis=0).mean() < 2


def check_labels_name_families_and_every_target_has_one(case: Case) -> None:
    """There are attacks, and what should be noticed names them."""
    traffic = _make(case)
    labels = {int(k) for t in range(12) for k in np.unique(traffic.draw(t).y)}
    assert labels > {0}
    assert max(labels) <= len(traffic.families)
    assert {target.family for target in traffic.targets} >= labels - {0}
    assert len({target.name for target in traffic.targets}) == len(traffic.targets)
    for target in traffic.targets:
        assert 1 <= target.family <= len(traffic.families)
        assert target.start >= 0
        assert target.duration is None or target.duration >= 1


def check_flows_of_a_step_depend_on_nothing_but_the_step(case: Case) -> None:
    """In whatever order steps are asked for: runs are resumed anywhere."""
    first, second = _make(case), _make(case)
    forwards = [first.draw(t) for t in range(4)]
    backwards = [second.draw(t) for t in (3, 2, 1, 0)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.x.tobytes() == b.x.tobytes()
        assert a.y.tobytes() == b.y.tobytes()
        assert a.origin.tobytes() == b.origin.tobytes()
    assert len({flows.x.tobytes() for flows in forwards}) == 4
    assert first.warmup().tobytes() == second.warmup().tobytes()
    assert first.references().tobytes() == second.references().tobytes()


def check_adding_nodes_leaves_the_flows_of_the_others_alone(case: Case) -> None:
    """A node sees the same in a larger network."""
    few, many = _make(case), _make(case, nodes=70)
    for step in range(6):
        a, b = few.draw(step), many.draw(step)
        assert a.x.tobytes() == b.x[:N_NODES].tobytes()
        assert a.y.tobytes() == b.y[:N_NODES].tobytes()
    assert few.references().tobytes() == many.references().tobytes()
    assert few.targets == many.targets


def check_seed_and_replicate_change_the_flows_and_zero_is_a_seed(case: Case) -> None:
    """Each seed and replicate has flows of its own, where anything is drawn."""
    found = {
        _make(case, seed=seed, replicate=replicate).draw(0).x.tobytes()
        for seed in (0, 1)
        for replicate in (0, 1)
    }
    assert len(found) == (4 if _is_drawn(_make(case)) else 1)


def check_some_nodes_alone_see_what_they_see_among_all(case: Case) -> None:
    """`draw(step, first, last, into=...)` gives views of the arrays that it was given."""
    nodes, step = 70, 4
    whole = _make(case, nodes=nodes).draw(step)
    traffic = _make(case, nodes=nodes)
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


def check_nodes_see_different_flows(case: Case) -> None:
    """No two nodes see the same, where anything is drawn."""
    traffic = _make(case, nodes=70)
    assert len({row.tobytes() for row in traffic.draw(0).x}) == (70 if _is_drawn(traffic) else 1)


def check_records_are_in_range_and_a_flow_has_its_own(case: Case) -> None:
    """Records have times of the step, one address per node, known protocols."""
    traffic, step = _make(case), 5
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


def check_no_flows_have_no_records(case: Case) -> None:
    """Asked for nothing, `describe` gives arrays without an entry."""
    traffic = _make(case)
    nobody = np.zeros(0, dtype=np.int64)
    records = traffic.describe(0, traffic.draw(0), nobody, nobody)
    assert all(values.shape == (0,) for values in vars(records).values())


def check_the_model_sees_the_flows_of_its_source(case: Case) -> None:
    """Positives of a step's metrics are the source's attack flows."""
    network = case.network(traffic=case.quick.model_dump())
    expected = _make(case)
    for step in range(3):
        assert network.traffic.draw(step).x.tobytes() == expected.draw(step).x.tobytes()
        network.step()
        entry = network.entries["metrics"][0]
        assert entry["tp"] + entry["fn"] == (expected.draw(step).y > 0).sum()


TRAFFIC_CHECKS = (
    check_shapes_and_types,
    check_all_features_are_finite_and_benign_ones_of_order_one,
    check_labels_name_families_and_every_target_has_one,
    check_flows_of_a_step_depend_on_nothing_but_the_step,
    check_adding_nodes_leaves_the_flows_of_the_others_alone,
    check_seed_and_replicate_change_the_flows_and_zero_is_a_seed,
    check_some_nodes_alone_see_what_they_see_among_all,
    check_nodes_see_different_flows,
    check_records_are_in_range_and_a_flow_has_its_own,
    check_no_flows_have_no_records,
    check_the_model_sees_the_flows_of_its_source,
)
