"""The schema refuses what cannot be run."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from sim_core.config import ExperimentConfig, ModelConfig
from sim_core.errors import ConfigurationError


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refused:
        ExperimentConfig.model_validate(settings)
    return str(refused.value)


def campaign(**changes: Any) -> dict[str, Any]:
    whole = {"family": "ddos", "start": 0, "duration": 1} | changes
    return {"traffic": {"kind": "synthetic", "campaigns": [whole]}}


def test_defaults_are_valid_and_survive_a_round_trip_through_json():
    config = ExperimentConfig()
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"nodes": 5}, "nodes"),
        ({"simulation": {"node": 5}}, "simulation.node"),
        ({"detector": {"kind": "zscore", "ridge": 0.1}}, "detector.zscore.ridge"),
        ({"adversary": {"kind": "none", "share": 0.1}}, "adversary.none.share"),
        (campaign(familly="ddos"), "familly"),
        ({"executor": {"kind": "inline", "cpus": 2}}, "executor.cpus"),
    ],
)
def test_unknown_key_is_refused_by_name(settings: dict[str, Any], where: str):
    message = refusal(settings)
    assert where in message
    assert "Extra inputs are not permitted" in message


@pytest.mark.parametrize(
    "settings",
    [
        {"simulation": {"nodes": "many"}},
        {"simulation": {"nodes": 10.5}},
        {"simulation": {"nodes": None}},
        {"simulation": 5},
        {"detector": {"kind": "no_such_detector"}},
        {"detector": {}},
        {"detector": {"kind": "zscore", "robust": "perhaps"}},
        {"adversary": {"kind": "flipper", "share": [0.1]}},
        campaign(family="unheard_of"),
        {"traffic": {"kind": "synthetic", "campaigns": "ddos"}},
    ],
)
def test_wrong_type_or_unknown_choice_is_refused(settings: dict[str, Any]):
    refusal(settings)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"adversary": {"kind": "flipper", "share": 1.01}}, "share"),
        ({"adversary": {"kind": "flipper", "share": -0.01}}, "share"),
        (campaign(flow_share=1.5), "flow_share"),
        (campaign(node_share=0), "node_share"),
        (campaign(start=-1), "start"),
        (campaign(duration=0), "duration"),
        ({"consensus": {"kind": "supermajority", "share": 0.5}}, "share"),
        ({"consensus": {"kind": "majority", "min_turnout": 1.1}}, "min_turnout"),
        ({"simulation": {"nodes": 0}}, "nodes"),
        ({"simulation": {"nodes": 10**7}}, "nodes"),
        ({"churn": {"crash_rate": 2}}, "crash_rate"),
        ({"churn": {"recovery_rate": 0}}, "recovery_rate"),
        ({"experiment": {"seed": -1}}, "seed"),
        ({"experiment": {"seed": 2**63}}, "seed"),
    ],
)
def test_value_out_of_range_is_refused_by_name(settings: dict[str, Any], where: str):
    assert where in refusal(settings)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "inf", "nan"])
@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("detector", "learning_rate"),
        ("signature", "match_radius"),
        ("churn", "crash_rate"),
        ("limits", "max_seconds"),
        ("cost", "missed"),
        ("adversary", "share"),
    ],
)
def test_infinite_or_undefined_number_is_refused(group: str, key: str, value: object):
    kind = {"detector": {"kind": "zscore"}, "adversary": {"kind": "flipper"}}.get(group, {})
    assert key in refusal({group: {**kind, key: value}})


def test_more_liars_than_nodes_are_refused_with_both_numbers():
    message = refusal({"simulation": {"nodes": 5}, "adversary": {"kind": "flipper", "count": 6}})
    assert "adversary.count is 6" in message
    assert "simulation.nodes=5" in message
    all_lie = {"simulation": {"nodes": 5}, "adversary": {"kind": "flipper", "count": 5}}
    assert ModelConfig.model_validate(all_lie).adversary.count == 5


@pytest.mark.parametrize(
    "name",
    ["", "-a", "_a", "a/b", "../a", "a b", "a.b", "a\n", "a\0", "ä", "x" * 65, "${oc.env:HOME}"],
)
def test_name_that_could_leave_the_workspace_is_refused(name: str):
    assert "experiment.name" in refusal({"experiment": {"name": name}})


@pytest.mark.parametrize("name", ["a", "A-1_b", "x" * 64, "0"])
def test_plain_name_is_accepted(name: str):
    assert ExperimentConfig.model_validate({"experiment": {"name": name}}).experiment.name == name


def test_configuration_cannot_be_changed():
    config = ExperimentConfig()
    with pytest.raises(ValidationError):
        config.simulation.nodes = 5


def test_model_part_is_what_results_depend_on_and_no_more():
    config = ExperimentConfig.model_validate(
        {"simulation": {"nodes": 5}, "executor": {"kind": "inline"}, "churn": {"crash_rate": 0.5}}
    )
    part = config.model_part()
    assert type(part) is ModelConfig
    assert part.simulation.nodes == 5
    assert part.churn.crash_rate == 0.5


def test_settings_replace_whole_groups_and_are_validated_again():
    config = ExperimentConfig.model_validate({"simulation": {"nodes": 5, "steps": 7}})
    changed = config.with_settings({"simulation": {"nodes": 6}})
    assert (changed.simulation.nodes, changed.simulation.steps) == (6, 100)
    with pytest.raises(ConfigurationError, match="more liars than nodes"):
        config.with_settings({"adversary": {"kind": "flipper", "count": 6}})
