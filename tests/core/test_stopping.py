"""Replicates until it is known: the rule, and how often its intervals hold the truth."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from sim_core.config.stopping import MetricName, UntilConfig
from sim_core.results import interval
from sim_core.simulate import simulate
from sim_core.stopping import counts_so_far, next_count, stop_of, stopping_count

F1 = UntilConfig(metrics=("f1",), half_width=0.1, minimum=3, step=2, maximum=9)


def rows(values: list[float | None], point: int = 0) -> list[dict[str, Any]]:
    """Return runs as the ledger gives them; None: without a result."""
    return [
        {"point": point, "replicate": r, "summary": None if v is None else {"f1": v}}
        for r, v in enumerate(values)
    ]


def test_known_metrics_are_those_of_a_run(make_spec: Any):
    summary = list(simulate(make_spec()))[-1].summary
    assert summary is not None
    assert set(get_args(MetricName)) == set(summary)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "say how narrow"),
        ({"half_width": 0}, "greater than 0"),
        ({"half_width": 1, "minimum": 9, "maximum": 8}, "minimum=9 is above maximum=8"),
        ({"half_width": 1, "metrics": ["f2"]}, "f1"),
    ],
)
def test_a_rule_without_an_end_is_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        UntilConfig.model_validate({"metrics": ["f1"], **settings})


def test_a_point_stops_only_after_whole_steps_and_at_the_maximum():
    wide = {"f1": [0.0, 1.0] * 5}
    assert [next_count(wide, n, F1) for n in (3, 5, 7, 9)] == [5, 7, 9, 9]
    assert stopping_count(wide, F1) == 9
    narrow_from_4 = {"f1": [0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]}
    assert stopping_count(narrow_from_4, F1) == 5, "looked at after 3 and 5, not after 4"


def test_all_metrics_have_to_be_known():
    both = F1.model_copy(update={"metrics": ("f1", "recall")})
    values = {"f1": [0.5] * 9, "recall": [0.0, 1.0] * 5}
    assert stopping_count(values, F1) == 3
    assert stopping_count(values, both) == 9


def test_a_metric_that_is_undefined_is_not_known():
    assert stopping_count({"f1": [None] * 9}, F1) == 9
    assert stopping_count({"f1": [0.5, None, None, None, 0.5, 0.5, 0.5, 0.5, 0.5]}, F1) == 5


def test_relative_width_is_a_share_of_the_mean():
    rule = UntilConfig(metrics=("f1",), relative=0.2, minimum=3, step=3, maximum=30)
    small = {"f1": [1.0, 1.1, 0.9] * 10}
    large = {"f1": [101.0, 101.1, 100.9] * 10}
    assert stopping_count(large, rule) == 3
    assert stopping_count(small, rule) == 6


def test_the_decision_ignores_the_order_of_completion_and_what_is_beyond_it():
    values = [0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    found = rows(values[:5])
    assert counts_so_far(found, 1, F1) == counts_so_far(found[::-1], 1, F1) == [7]
    later = [*found, {"point": 0, "replicate": 6, "summary": {"f1": 0.5}}]
    assert counts_so_far(later, 1, F1) == [7], "replicate 5 is not there yet"
    latest = [*later, {"point": 0, "replicate": 7, "summary": {"f1": 0.5}}]
    assert counts_so_far(latest, 1, F1) == [7], "seven results are not the first seven"


def test_interrupted_at_any_run_the_same_replicates_are_asked_for():
    values: list[float | None] = [0.3, 0.7, 0.5, 0.45, 0.5, 0.5, 0.5, 0.5, 0.5]
    whole = stopping_count({"f1": values}, F1)
    for done in range(len(values) + 1):
        n = 0
        known = rows(values[:done])
        while (more := counts_so_far(known, 1, F1)[0]) != n:
            n = more
            known = rows(values[: max(n, min(done, n))])
        assert n == whole


def test_a_run_without_a_result_holds_its_point_and_no_other():
    assert counts_so_far([*rows([0.0, None, 1.0]), *rows([0.0, 1.0, 0.5], 1)], 2, F1) == [3, 5]


def test_a_point_tells_whether_it_is_known():
    assert stop_of([{"f1": 0.5}] * 3, F1).reached
    wide = stop_of([{"f1": 0.0}, {"f1": 1.0}] * 4, F1)
    assert not wide.reached
    assert wide.replicates == 8
    assert wide.half_widths["f1"] == pytest.approx(0.447, abs=0.001)
    assert stop_of([{"f1": None}], F1).half_widths == {"f1": None}


@pytest.mark.parametrize(
    ("minimum", "least", "most"), [(2, 0.86, 0.92), (5, 0.915, 0.95), (10, 0.93, 0.96)]
)
def test_coverage_after_stopping_is_as_documented(minimum: int, least: float, most: float):
    """2,000 points with a known mean; half widths where stopping early hurts most (sd 1.5 to 2)."""
    until = UntilConfig(
        metrics=("f1",), half_width=0.6, minimum=minimum, step=min(minimum, 5), maximum=100
    )
    rng = np.random.default_rng(20_26)
    covered = 0
    for _ in range(2_000):
        values = rng.normal(7.0, 1.0, size=until.maximum).tolist()
        found = interval(values[: stopping_count({"f1": values}, until)])
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered += found.ci_low <= 7.0 <= found.ci_high
    assert least <= covered / 2_000 <= most
