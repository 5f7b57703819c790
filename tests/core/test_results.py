"""What is told of an experiment, read back from the ledger alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sim_core.config import CostConfig
from sim_core.ledger.blocks import METRIC_COUNTS, METRIC_VALUES
from sim_core.ledger.store import Ledger
from sim_core.results import (
    Execution,
    RunRecord,
    collect_findings,
    interval,
    point_intervals,
    run_records,
    runs_frame,
    steps_frame,
)
from sim_core.simulate import RunSpec, simulate

MakeSpec = Callable[..., RunSpec]
LABELS = ("zscore", "mahalanobis", "planned")
VALUES = tuple({"detector": label} for label in LABELS)


@pytest.fixture
def specs(make_spec: MakeSpec) -> list[RunSpec]:
    return [make_spec(), make_spec(detector={"kind": "mahalanobis"}), make_spec(replicate=7)]


@pytest.fixture
def records(ledger: Ledger, specs: list[RunSpec], register: Any, execute: Any) -> list[RunRecord]:
    register(ledger, *specs)
    for spec in specs[:2]:
        execute(ledger, spec)
    return run_records(ledger, "experiment", LABELS, VALUES)


# --- records ------------------------------------------------------------------------------


def test_records_say_what_each_run_found(
    records: list[RunRecord], specs: list[RunSpec], ledger: Ledger
):
    assert [r.label for r in records] == list(LABELS)
    assert [r.point for r in records] == list(VALUES)
    assert [r.state for r in records] == ["finished", "finished", "planned"]
    for record, spec in zip(records, specs, strict=True):
        assert (record.run_id, record.replicate, record.seed) == (
            spec.run_key,
            spec.replicate,
            spec.seed,
        )
        assert record.ledger_rows == ledger.row_counts([record.number])[record.number]
    for record, spec in zip(records[:2], specs[:2], strict=True):
        last = list(simulate(spec))[-1]
        assert record.ledger_head == last.head.hex()
        assert last.summary is not None
        assert {k: record.metrics[k] for k in last.summary} == last.summary
        assert record.steps == record.horizon == 12
        assert record.metrics["wall_seconds"] == record.wall_seconds > 0
        assert record.metrics["steps_per_minute"] == pytest.approx(720 / record.wall_seconds)
        assert record.metrics["peak_rss_mb"] > 10
    assert records[2].metrics == {}
    assert records[2].ledger_head is None
    assert records[2].ledger_rows == 0


def test_record_of_a_longer_run_is_that_of_the_horizon_asked_for(
    ledger: Ledger, make_spec: MakeSpec, register: Any, execute: Any
):
    long, short = make_spec(), make_spec(simulation={"steps": 5})
    register(ledger, long)
    execute(ledger, long)
    register(ledger, short, name="short")
    (claim,) = ledger.claim([short])
    for segment in simulate(short):
        ledger.commit(claim, segment)
    (record,) = run_records(ledger, "short", ["a"], [{}])
    last = list(simulate(short))[-1]
    assert (record.steps, record.horizon, record.state) == (5, 5, "finished")
    assert record.ledger_head == last.head.hex()
    assert len(steps_frame(ledger, [record])) == 5


def test_run_that_is_quarantined_or_failed_says_so_and_why(
    records: list[RunRecord], ledger: Ledger, specs: list[RunSpec]
):
    ledger.quarantine({specs[0].run_key: "broken"})
    (claim,) = ledger.claim([specs[2]])
    ledger.fail(claim, "out of memory")
    found = run_records(ledger, "experiment", LABELS, VALUES)
    assert [(r.state, r.error) for r in found] == [
        ("quarantined", "broken"),
        ("finished", None),
        ("failed", "out of memory"),
    ]


def test_executions_tell_reused_runs_from_those_that_ran(
    records: list[RunRecord], ledger: Ledger, specs: list[RunSpec]
):
    done = {specs[1].run_key: Execution(resumed_from_step=4).advanced(8, is_over=True)}
    found = run_records(ledger, "experiment", LABELS, VALUES, executions=done)
    assert [(r.resumed_from_step, r.steps_executed) for r in found] == [(0, 0), (4, 8), (0, 0)]


@pytest.mark.parametrize(
    ("cost", "weights"), [({"missed": 3.0, "blocked": 0.5}, (3, 0.5)), ({"missed": 2.0}, (2, 0))]
)
def test_cost_is_that_of_missed_and_of_blocked_flows(
    records: list[RunRecord], ledger: Ledger, cost: dict[str, float], weights: tuple[float, float]
):
    assert "cost" not in records[0].metrics
    found = run_records(ledger, "experiment", LABELS, VALUES, CostConfig(**cost))
    metrics = found[0].metrics
    assert metrics["missed"] > 0
    expected = weights[0] * metrics["missed"] + weights[1] * metrics["benign_blocked"]
    assert metrics["cost"] == expected
    assert found[2].metrics == {}


# --- intervals ----------------------------------------------------------------------------


def test_interval_is_students_over_the_values_that_are_defined():
    values = [1.0, 4.0, None, 2.5, math.nan, 3.0]
    known = [1.0, 4.0, 2.5, 3.0]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(known), stats.sem(known))
    assert (found.n, found.mean) == (4, pytest.approx(np.mean(known)))
    assert (found.ci_low, found.ci_high) == (pytest.approx(low), pytest.approx(high))
    assert found.sd == pytest.approx(np.std(known, ddof=1))


def test_interval_of_few_values_leaves_undefined_what_it_cannot_say():
    assert vars(interval([])) == vars(interval([None])) | {"n": 0}
    assert interval([None]).mean is None
    one = interval([5.0, None])
    assert (one.n, one.mean, one.ci_low, one.ci_high, one.sd) == (1, 5.0, None, None, None)
    same = interval([2.0, 2.0])
    assert (same.ci_low, same.ci_high) == (2.0, 2.0)


def made_up(records: list[RunRecord], found: dict[tuple[str, int], Any]) -> list[RunRecord]:
    return [
        replace(records[0], label=label, replicate=r, point_index=LABELS.index(label), metrics=m)
        for (label, r), m in found.items()
    ]


def test_intervals_of_points_count_finished_runs_alone(records: list[RunRecord]):
    some = made_up(
        records,
        {
            ("zscore", 0): {"f1": 0.5, "mcc": None},
            ("zscore", 1): {"f1": 0.7, "mcc": 0.1},
            ("mahalanobis", 0): {"f1": 0.9, "mcc": 0.2},
        },
    )
    some[1] = replace(some[1], state="quarantined")
    first, second, third = point_intervals(some, 3)
    assert (first["f1"].n, first["f1"].mean) == (1, 0.5)
    assert (first["mcc"].n, first["mcc"].mean) == (0, None)
    assert (second["f1"].n, second["mcc"].mean) == (1, 0.2)
    assert third["f1"].n == 0


# --- tables -------------------------------------------------------------------------------


def test_table_of_runs_has_a_row_per_run(records: list[RunRecord]):
    frame = runs_frame(records)
    assert frame["run_id"].tolist() == [r.run_id for r in records]
    assert frame["detector"].tolist() == list(LABELS)
    assert frame["f1"].tolist()[:2] == [r.metrics["f1"] for r in records[:2]]


def test_table_of_steps_has_the_models_metrics_and_ratios(
    records: list[RunRecord], ledger: Ledger, make_model: Any
):
    frame = steps_frame(ledger, records)
    assert len(frame) == 24
    assert frame.columns.tolist()[:4] == ["run_id", "label", "replicate", "step"]
    model = make_model()
    mine = frame[frame["run_id"] == records[0].run_id]
    for step in range(12):
        model.step()
        (row,) = model.entries["metrics"]
        (found,) = mine[mine["step"] == step].to_dict("records")
        assert {n: found[n] for n in METRIC_COUNTS} == {n: row[n] for n in METRIC_COUNTS}
        for name in METRIC_VALUES:
            assert found[name] == row[name] or (np.isnan(found[name]) and np.isnan(row[name]))
        tp, fp = int(row["honest_tp"]), int(row["honest_fp"])
        if tp + fp:
            assert found["precision"] == tp / (tp + fp)
        else:
            assert math.isnan(found["precision"])


def test_tables_of_no_runs_are_empty(ledger: Ledger):
    assert len(runs_frame([])) == 0
    assert len(steps_frame(ledger, [])) == 0


def test_findings_are_all_of_an_experiment(
    records: list[RunRecord], ledger: Ledger, specs: list[RunSpec]
):
    described = [{"label": label, "settings": {}, "values": {"x": label}} for label in LABELS]
    ledger.set_experiment("experiment", points=described)
    found = collect_findings(ledger, "experiment", CostConfig(missed=1.0))
    assert found.labels == list(LABELS)
    assert found.point_descriptions == described
    assert [r.point for r in found.records] == [{"x": label} for label in LABELS]
    assert [r.ledger_head for r in found.records] == [r.ledger_head for r in records]
    assert [point["cost"].n for point in found.points] == [1, 1, 0]
    assert len(found.steps) == 24
