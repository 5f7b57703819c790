"""An experiment of a name may become more of the same, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sim_core.config import ExperimentConfig
from sim_core.errors import ExperimentConflict
from sim_core.growth import check_growth
from sim_core.identity import model_version
from sim_core.ledger.tables import Experiment
from sim_core.plan import Plan, Point, plan_runs

BASE: dict[str, Any] = {
    "simulation": {"nodes": 5, "steps": 10},
    "experiment": {"name": "mine", "replicates": 2, "seed": 1},
}
POINTS = (
    Point(label="a", settings={}),
    Point(label="b", settings={"detector": {"kind": "mahalanobis"}}),
)


def planned(points: tuple[Point, ...], **changes: Any) -> tuple[Plan, ExperimentConfig]:
    groups = {name: {**BASE.get(name, {}), **group} for name, group in changes.items()}
    config = ExperimentConfig.model_validate({**BASE, **groups})
    return plan_runs(config, points), config


def stored(**changes: Any) -> Experiment:
    """Return the experiment as it is in the ledger."""
    plan, config = planned(POINTS)
    row = Experiment(
        name="mine",
        key=plan.key,
        state="finished",
        config=config.model_dump(mode="json"),
        points=[point.model_dump() for point in POINTS],
        environment={"model_version": model_version()},
        created_at=0.0,
        updated_at=0.0,
    )
    for name, value in changes.items():
        setattr(row, name, value)
    return row


MORE = Point(label="c", settings={"churn": {"crash_rate": 0.1}})


@pytest.mark.parametrize(
    ("points", "changes"),
    [
        (POINTS, {}),
        (POINTS[::-1], {}),
        ((*POINTS, MORE), {}),
        (POINTS, {"experiment": {"replicates": 3}}),
        (POINTS, {"simulation": {"steps": 20}}),
        ((MORE, *POINTS), {"experiment": {"replicates": 9}, "simulation": {"steps": 11}}),
        (POINTS, {"executor": {"kind": "inline"}, "ledger": {"kind": "sqlite", "detail": "all"}}),
        ((Point(label="renamed", settings={}), POINTS[1]), {}),
    ],
)
def test_the_same_and_more_of_it_are_accepted(points: tuple[Point, ...], changes: Any):
    check_growth(stored(), *planned(points, **changes))


@pytest.mark.parametrize(
    ("points", "changes", "reason"),
    [
        (POINTS, {"experiment": {"seed": 2}}, r"experiment\.seed was 1"),
        (POINTS, {"experiment": {"replicates": 1}}, "2 replicates already"),
        (POINTS, {"simulation": {"steps": 9}}, "10 steps already"),
        (POINTS[:1], {}, "points b are missing"),
        (POINTS, {"simulation": {"nodes": 6}}, "points a, b are missing or configured differently"),
        (POINTS, {"signature": {"min_support": 4}}, "points a, b"),
    ],
)
def test_anything_else_is_refused_saying_what_differs(
    points: tuple[Point, ...], changes: Any, reason: str
):
    with pytest.raises(ExperimentConflict, match=reason) as refused:
        check_growth(stored(), *planned(points, **changes))
    assert "'mine'" in str(refused.value)
    assert "experiment.name" in str(refused.value)


def test_other_code_is_refused():
    old = stored(environment={"model_version": "another"}, key="another")
    with pytest.raises(ExperimentConflict, match="code of the model has changed"):
        check_growth(old, *planned(POINTS))
