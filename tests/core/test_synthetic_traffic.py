"""Synthetic traffic: services, campaigns and the schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_core.config import ATTACK_FAMILIES, ModelConfig
from sim_core.randomness import Streams
from sim_core.traffic import Flows, make_traffic
from sim_core.traffic.profiles import (
    FAMILY_CARRIER,
    FAMILY_SHIFT,
    FEATURES,
    LOCATION,
    RATIOS,
    SCALE,
    SERVICE_MEAN,
    SERVICES,
)


@pytest.fixture
def source(make_config: Callable[..., ModelConfig]) -> Callable[..., Any]:
    """Return a function from campaigns to traffic over many nodes with many flows."""

    def make(*campaigns: dict[str, Any], nodes: int = 60, flows: int = 100, **settings: Any) -> Any:
        config = make_config(
            simulation={"nodes": nodes, "flows_per_node": flows},
            traffic={"campaigns": list(campaigns), **settings},
        )
        return make_traffic(config, Streams(1, 0))

    return make


def campaign(
    family: str = "ddos", start: int = 3, duration: int = 4, **more: Any
) -> dict[str, Any]:
    return {"family": family, "start": start, "duration": duration, **more}


def test_campaign_runs_in_its_steps_and_no_others(source: Any):
    traffic = source(campaign(start=3, duration=4, flow_share=0.3))
    assert [bool(traffic.draw(step).y.any()) for step in range(10)] == (
        [False] * 3 + [True] * 4 + [False] * 3
    )


def test_campaign_hits_its_share_of_nodes_with_its_share_of_flows(source: Any):
    traffic = source(campaign(node_share=0.4, flow_share=0.3), nodes=400)
    y = np.stack([traffic.draw(step).y for step in range(3, 7)])
    hit = (y > 0).any(axis=(0, 2))
    assert hit.mean() == pytest.approx(0.4, abs=0.07)
    assert (y[:, hit] > 0).mean() == pytest.approx(0.3, abs=0.01)
    every_step = (y > 0).any(axis=2)
    assert (every_step == hit).all(), "the nodes that are hit stay the same"


@pytest.mark.parametrize("family", ATTACK_FAMILIES)
def test_attack_flows_carry_the_label_and_the_shift_of_their_family(source: Any, family: str):
    traffic = source(campaign(family, flow_share=1.0, intensity=0.5))
    flows = traffic.draw(3)
    assert (flows.y == ATTACK_FAMILIES.index(family) + 1).all()
    assert traffic.families[flows.y[0, 0] - 1] == family
    carrier = SERVICE_MEAN[SERVICES.index(FAMILY_CARRIER[family])]
    expected = (carrier + 0.5 * np.array(FAMILY_SHIFT[family]) - LOCATION) / SCALE
    free = [i for i in range(len(FEATURES)) if i not in RATIOS]  # ratios are clipped
    found = flows.x.reshape(-1, len(FEATURES)).mean(axis=0)
    assert found[free] == pytest.approx(expected[free], abs=0.03)
    references = traffic.references()[0].mean(axis=0)
    assert references[free] == pytest.approx(expected[free], abs=0.3)


def test_benign_flows_have_the_same_bits_with_and_without_campaigns(source: Any):
    quiet, loud = source(), source(campaign(flow_share=0.4), campaign("beacon", 2, 3))
    for step in range(8):
        a, b = quiet.draw(step), loud.draw(step)
        benign = b.y == 0
        assert a.x[benign].tobytes() == b.x[benign].tobytes()
    assert quiet.warmup().tobytes() == loud.warmup().tobytes()


def test_campaigns_that_overlap_take_their_shares_one_after_the_other(source: Any):
    traffic = source(campaign("ddos", flow_share=0.3), campaign("worm", flow_share=0.2))
    y = np.stack([traffic.draw(step).y for step in range(3, 7)])
    assert (y == ATTACK_FAMILIES.index("ddos") + 1).mean() == pytest.approx(0.3, abs=0.01)
    assert (y == ATTACK_FAMILIES.index("worm") + 1).mean() == pytest.approx(0.2, abs=0.01)


def test_ratios_stay_between_0_and_1(source: Any):
    traffic = source(campaign("port_scan", start=0, flow_share=0.5, intensity=5.0))
    x = np.concatenate([traffic.draw(0).x.ravel(), traffic.warmup().ravel()]).reshape(-1, 8)
    for ratio in RATIOS:
        natural = x[:, ratio].astype(float) * SCALE[ratio] + LOCATION[ratio]
        assert natural.min() >= -1e-6
        assert natural.max() <= 1 + 1e-6


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.85, 1.0), (1e4, 0.15, 0.3)])
def test_small_alpha_gives_each_node_one_service_and_a_large_one_gives_all(
    source: Any, alpha: float, low: float, high: float
):
    origin = source(mixture_alpha=alpha).draw(0).origin
    shares = np.stack([(origin == service).mean(axis=1) for service in range(len(SERVICES))])
    assert shares.sum(axis=0) == pytest.approx(1.0)
    assert low <= shares.max(axis=0).mean() <= high
    assert (shares.mean(axis=1) > 0.05).all(), "over all nodes every service occurs"


def test_warmup_and_benign_flows_come_from_the_same_services(source: Any):
    traffic = source(nodes=20, flows=2_000, warmup_flows=2_000)
    warmup, flows = traffic.warmup(), traffic.draw(0).x
    assert warmup.mean(axis=1) == pytest.approx(flows.mean(axis=1), abs=0.15)


def test_attackers_come_from_a_few_addresses_per_campaign(source: Any):
    traffic = source(campaign(flow_share=0.5), campaign("worm", flow_share=0.3))
    flows: Flows = traffic.draw(3)
    node, flow = (index.ravel() for index in np.indices(flows.y.shape))
    records = traffic.describe(3, flows, node, flow)
    y = flows.y.ravel()
    per_campaign = [set(records.source_ip[y == k].tolist()) for k in np.unique(y[y > 0])]
    assert [len(addresses) for addresses in per_campaign] == [16, 16]
    assert not per_campaign[0] & per_campaign[1]
    start = (203 << 24) + (113 << 8)
    assert all(start <= a < start + 256 for addresses in per_campaign for a in addresses)
    clients = set(records.source_ip[y == 0].tolist())
    assert len(clients) > 1_000
    assert not clients & (per_campaign[0] | per_campaign[1])


def test_bytes_transferred_are_the_first_feature_in_bytes(source: Any):
    traffic = source()
    flows = traffic.draw(0)
    node, flow = (index.ravel() for index in np.indices(flows.y.shape))
    records = traffic.describe(0, flows, node, flow)
    log10 = flows.x[..., 0].ravel().astype(float) * SCALE[0] + LOCATION[0]
    np.testing.assert_allclose(records.bytes_transferred, 10.0**log10, rtol=1e-6, atol=0.5)


# --- drift, day, worms, Gaussian ----------------------------------------------------------


def test_drift_moves_each_feature_of_a_node_in_one_direction(source: Any):
    plain, drifting = source(flows=40), source(flows=40, drift=2.0)
    free = [i for i in range(len(FEATURES)) if i not in RATIOS]
    at_start = drifting.draw(0).x - plain.draw(0).x
    assert not at_start.any()
    for step in (250, 1_000):
        shift = (drifting.draw(step).x - plain.draw(step).x)[..., free]
        assert np.abs(shift) == pytest.approx(2.0 * step / 1_000, abs=1e-5)
        per_node = np.sign(shift).mean(axis=1)
        assert (np.abs(per_node) == 1).all(), "all flows of a node drift alike"
        assert 0.3 < (per_node > 0).mean() < 0.7, "nodes and features go up or down"


def test_day_moves_volumes_up_and_down_once_a_day(source: Any):
    plain, daily = source(flows=10), source(flows=10, day_amplitude=0.5, day_steps=24)
    shift = np.stack([daily.draw(t).x - plain.draw(t).x for t in range(25)]).mean(axis=(1, 2))
    expected = 0.5 * np.sin(2 * np.pi * np.arange(25) / 24)
    for name in ("log10_bytes_out", "log10_bytes_in", "log10_packets"):
        assert shift[:, FEATURES.index(name)] == pytest.approx(expected, abs=1e-5)
    assert not shift[:, FEATURES.index("log10_duration")].any()


def test_a_worm_hits_those_who_are_infected_and_changes_labels_not_numbers(source: Any):
    worm = campaign("worm", 3, 4, spread="worm", flow_share=0.5)
    traffic = source(worm, nodes=8)
    nobody = np.zeros((1, 8), dtype=bool)
    some = nobody.copy()
    some[0, [1, 5]] = True
    quiet, hit = traffic.draw(3, infected=nobody), traffic.draw(3, infected=some)
    assert not quiet.y.any()
    assert np.flatnonzero(hit.y.any(axis=1)).tolist() == [1, 5]
    assert (hit.y[[1, 5]] > 0).mean() == pytest.approx(0.5, abs=0.1)
    benign = hit.y == 0
    assert quiet.x[benign].tobytes() == hit.x[benign].tobytes()
    assert not traffic.draw(7, infected=some).y.any(), "the campaign is over"


def test_gaussian_flows_are_standard_normal_and_attacks_shifted(
    make_config: Callable[..., ModelConfig],
):
    attack = {"family": "beacon", "start": 1, "duration": 2, "flow_share": 0.5, "intensity": 2.5}
    config = make_config(
        simulation={"nodes": 50, "flows_per_node": 400},
        traffic={"kind": "gaussian", "features": 3, "campaigns": [attack]},
    )
    traffic = make_traffic(config, Streams(2, 0))
    assert traffic.feature_names == ("x0", "x1", "x2")
    benign, flows = traffic.draw(0), traffic.draw(1)
    n = benign.x.size / 3
    assert benign.x.mean(axis=(0, 1)) == pytest.approx(0, abs=4 / np.sqrt(n))
    assert benign.x.var(axis=(0, 1)) == pytest.approx(1, abs=4 * np.sqrt(2 / n))
    attacked = flows.x[flows.y > 0].astype(float)
    assert attacked.mean(axis=0) == pytest.approx(2.5, abs=4 / np.sqrt(len(attacked)))
    assert attacked.std(axis=0) == pytest.approx(1, abs=0.05)


def test_any_slice_of_the_nodes_has_the_same_bits(source: Any):
    traffic = source(campaign(flow_share=0.4), nodes=200, drift=1.0)
    whole, into = traffic.draw(3), Flows.empty(72, 100, 8)
    for first, last in ((0, 64), (64, 128), (128, 200)):
        part = traffic.draw(3, first, last, into=into)
        assert part.first == first
        assert part.x.tobytes() == whole.x[first:last].tobytes()
        assert part.y.tobytes() == whole.y[first:last].tobytes()
        assert part.origin.tobytes() == whole.origin[first:last].tobytes()
        assert np.shares_memory(part.x, into.x)
        assert traffic.warmup(first, last).tobytes() == traffic.warmup()[first:last].tobytes()


def test_liars_change_no_traffic(make_config: Callable[..., ModelConfig]):
    shares = [
        make_traffic(make_config(adversary={"kind": "poisoner", "share": share}), Streams(1, 0))
        for share in (0.0, 0.2, 0.8)
    ]
    for step in range(12):
        honest, *others = (traffic.draw(step) for traffic in shares)
        for flows in others:
            assert np.array_equal(flows.x, honest.x)
            assert np.array_equal(flows.y, honest.y)
