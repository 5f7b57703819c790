"""Experiments as lists of runs, and how points are told apart by a reader."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError
from sim_core.plan import Plan, Point, plan_runs

BASE: dict[str, Any] = {"simulation": {"nodes": 5, "steps": 7}, "experiment": {"replicates": 3}}


def plan(*points: Point, **settings: Any) -> Plan:
    return plan_runs(ExperimentConfig.model_validate({**BASE, **settings}), points)


def point(label: str, **settings: Any) -> Point:
    return Point(label=label, settings=settings)


def test_without_points_the_base_is_the_only_one():
    found = plan()
    assert found.labels == ("base",)
    assert found.values == ({},)
    assert [run.point for run in found.runs] == [0, 0, 0]
    assert [run.spec.replicate for run in found.runs] == [0, 1, 2]


def test_every_point_and_replicate_has_a_run_of_its_own():
    found = plan(point("a"), point("b", detector={"kind": "mahalanobis"}))
    assert len({run.spec.run_key for run in found.runs}) == 6
    assert [(run.point, run.spec.replicate) for run in found.runs] == [
        (p, r) for p in range(2) for r in range(3)
    ]
    assert [c.detector.kind for c in found.configs] == ["zscore", "mahalanobis"]
    assert all(run.spec.config is found.configs[run.point] for run in found.runs)


def test_workers_compress_checkpoints_when_told_and_the_run_is_the_same_one():
    plain, packed = plan(), plan(checkpoint={"compress": True})
    assert not any(run.spec.compress_checkpoints for run in plain.runs)
    assert all(run.spec.compress_checkpoints for run in packed.runs)
    assert [r.spec.run_key for r in packed.runs] == [r.spec.run_key for r in plain.runs]


def test_runs_carry_what_a_worker_needs_and_share_the_root_seed():
    found = plan(
        point("a"),
        experiment={"seed": 0, "replicates": 2},
        ledger={"kind": "sqlite", "detail": "votes"},
        checkpoint={"every": 3},
        limits={"max_seconds": 9},
    )
    for run in found.runs:
        spec = run.spec
        assert (spec.seed, spec.detail, spec.checkpoint_every, spec.max_seconds) == (
            0,
            "votes",
            3,
            9,
        )
        assert spec.config.simulation.steps == 7


def test_keys_of_runs_that_are_planned_already_stay_when_an_experiment_grows():
    small = plan(point("a"))
    large = plan(
        point("b", detector={"kind": "mahalanobis"}),
        point("a"),
        experiment={"replicates": 5},
        simulation={"nodes": 5, "steps": 70},
        executor={"kind": "inline"},
        ledger={"kind": "sqlite", "detail": "all"},
        validation={"mode": "off"},
        checkpoint={"every": 1},
    )
    assert {r.spec.run_key for r in small.runs} < {r.spec.run_key for r in large.runs}
    assert small.key != large.key


def test_name_is_the_given_one_or_says_title_and_key():
    assert plan(experiment={"name": "mine"}).name == "mine"
    found = plan(experiment={"title": "quorums"})
    assert found.name == f"quorums-{found.key[:8]}"


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "a")])
def test_two_points_of_the_same_configuration_are_refused(labels: tuple[str, str]):
    default = {"kind": "zscore", "robust": False}
    with pytest.raises(ConfigurationError, match="same configuration"):
        plan(point(labels[0]), point(labels[1], detector=default))


def test_invalid_point_is_a_configuration_error_that_names_the_setting():
    with pytest.raises(ConfigurationError, match=r"simulation\.nodes"):
        plan(point("a", simulation={"nodes": 0}))
    with pytest.raises(ConfigurationError, match="simulatoin"):
        plan(point("a", simulatoin={"nodes": 5}))


def test_more_runs_than_the_limit_are_refused_with_the_numbers():
    points = [point(f"p{i}", signature={"min_support": i + 1}) for i in range(4)]
    assert len(plan(*points, limits={"max_runs": 12}).runs) == 12
    with pytest.raises(ConfigurationError) as refused:
        plan(*points, limits={"max_runs": 11})
    assert "4 points x 3 replicates are 12 runs" in str(refused.value)
    assert "limits.max_runs=11" in str(refused.value)


@pytest.mark.parametrize("label", ["", "-a", "a b", "a/b", "../a", "a\n", "${x}"])
def test_label_that_is_no_plain_name_is_refused(label: str):
    with pytest.raises(ValidationError):
        Point(label=label)


def values(*points: Point) -> tuple[dict[str, Any], ...]:
    return plan(*points).values


def test_values_are_what_differs_between_points():
    few = {"nodes": 5, "steps": 7}
    assert values(point("a", simulation=few), point("b", simulation={**few, "nodes": 6})) == (
        {"simulation.nodes": 5},
        {"simulation.nodes": 6},
    )


def test_choice_of_a_group_is_told_by_its_kind_without_its_settings():
    found = values(
        point("a", detector={"kind": "zscore"}), point("b", detector={"kind": "mahalanobis"})
    )
    assert found == ({"detector": "zscore"}, {"detector": "mahalanobis"})


def test_settings_of_a_choice_are_told_where_points_of_that_choice_differ():
    found = values(
        point("a", detector={"kind": "zscore"}),
        point("b", detector={"kind": "zscore", "robust": True}),
        point("c", detector={"kind": "mahalanobis"}),
    )
    assert found == (
        {"detector": "zscore", "detector.robust": False},
        {"detector": "zscore", "detector.robust": True},
        {"detector": "mahalanobis"},
    )


def test_share_of_liars_is_told_beside_their_kind():
    found = values(
        point("none"),
        point("few", adversary={"kind": "flipper", "share": 0.1}),
        point("many", adversary={"kind": "flipper", "share": 0.3}),
    )
    assert found == (
        {"adversary": "none"},
        {"adversary": "flipper", "adversary.share": 0.1},
        {"adversary": "flipper", "adversary.share": 0.3},
    )


def test_share_of_liars_is_told_where_only_one_point_has_any():
    found = values(point("none"), point("some", adversary={"kind": "flipper", "share": 0.1}))
    assert found == ({"adversary": "none"}, {"adversary": "flipper", "adversary.share": 0.1})


def test_campaigns_are_told_as_text():
    campaign = {"family": "ddos", "start": 0, "duration": 5}
    quiet, loud = values(
        point("quiet"), point("loud", traffic={"kind": "synthetic", "campaigns": [campaign]})
    )
    assert quiet == {"traffic.campaigns": "[]"}
    assert '"family": "ddos"' in loud["traffic.campaigns"]


def test_of_as_many_campaigns_only_what_differs_is_told():
    campaign = {"family": "ddos", "start": 0, "duration": 5}
    weak, strong = values(
        *(
            point(
                label,
                traffic={
                    "kind": "synthetic",
                    "campaigns": [campaign, campaign | {"intensity": intensity}],
                },
            )
            for label, intensity in (("weak", 0.5), ("strong", 2.0))
        )
    )
    assert weak == {"traffic.campaigns.1.intensity": 0.5}
    assert strong == {"traffic.campaigns.1.intensity": 2.0}


TWO = (point("a"), point("b", detector={"kind": "mahalanobis"}))


def test_baseline_of_comparisons_is_one_of_the_points():
    assert plan(*TWO, comparison={"baseline": "b"}).labels == ("a", "b")
    with pytest.raises(
        ConfigurationError, match=r"comparison.baseline='c' is none of the points: a"
    ):
        plan(*TWO, comparison={"baseline": "c"})


def test_how_points_are_compared_changes_no_run():
    first, second = (
        plan(*TWO, comparison=settings)
        for settings in ({}, {"baseline": "b", "alpha": 0.01, "smallest_effect": 0.2})
    )
    assert [r.spec.run_key for r in first.runs] == [r.spec.run_key for r in second.runs]
    assert (first.key, first.name) == (second.key, second.name)
