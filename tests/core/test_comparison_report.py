"""What a report of comparisons says: verdicts, directions, families, what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sim_core.comparison.directions import BETTER_HIGHER, BETTER_LOWER, DEPENDS
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import Comparison, SmallestEffect, Verdict
from sim_core.errors import UserError
from sim_core.metrics import summarise
from sim_core.model import NetworkModel
from sim_core.results import MAIN_METRICS, RESOURCE_METRICS, RunRecord

Values = Mapping[str, Sequence[float | None] | np.ndarray]


def record(label: str, replicate: int, metrics: dict[str, Any], **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_id": f"{label}{replicate}",
        "number": 0,
        "point_index": 0,
        "label": label,
        "point": {},
        "replicate": replicate,
        "seed": 1,
        "state": "finished",
        "steps": 1,
        "steps_executed": 1,
        "resumed_from_step": 0,
        "horizon": 1,
        "ledger_head": None,
        "ledger_rows": 0,
        "metrics": metrics,
        "wall_seconds": 1.0,
        "claimed_at": 0.0,
        "config": {},
    }
    return RunRecord(**(fields | changes))


def records(
    label: str, seed: int = 1, **values: Sequence[float | None] | np.ndarray
) -> list[RunRecord]:
    """Return a run per value; all metrics have equally many."""
    n = len(next(iter(values.values())))
    return [
        record(label, i, {metric: v[i] for metric, v in values.items()}, seed=seed)
        for i in range(n)
    ]


def report_of(*points: list[RunRecord], **question: Any) -> Report:
    labels = [point[0].label for point in points]
    return compare([r for point in points for r in point], labels, Question(**question))


def only(report: Report) -> Comparison:
    (comparison,) = report.comparisons
    return comparison


BASE = np.random.default_rng(1).normal(0.8, 0.05, 20)
NOISE = np.random.default_rng(2).normal(0.0, 0.01, 20)


# --- verdicts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("f1", 0.1, Verdict.BETTER),
        ("f1", -0.1, Verdict.WORSE),
        ("missed", 0.1, Verdict.WORSE),
        ("cost", -0.1, Verdict.BETTER),
        ("rejections", 0.1, Verdict.HIGHER),
        ("rejections", -0.1, Verdict.LOWER),
        ("true_confirmations", 0.1, Verdict.HIGHER),
    ],
)
def test_planted_effect_is_found_and_called_by_its_direction(
    metric: str, shift: float, verdict: Verdict
) -> None:
    report = report_of(
        records("a", **{metric: BASE}),
        records("b", **{metric: BASE + NOISE + shift}),
        metrics=(metric,),
    )
    found = only(report)
    assert (found.verdict, found.is_small) == (verdict, False)
    assert f"b against a: {metric} is {verdict}: " in found.sentence
    assert found.sentence.endswith("p < .0001")
    assert report.findings == [found]


def test_what_is_small_and_not_shown_is_no_difference() -> None:
    noise = NOISE - NOISE.mean()
    found = only(report_of(records("a", f1=BASE), records("b", f1=BASE + noise), metrics=("f1",)))
    assert found.verdict == Verdict.NO_DIFFERENCE
    assert found.replicates_needed is None
    assert "shows no difference (smaller than 0.0" in found.sentence


def test_what_is_shown_and_does_not_matter_is_said_to_be_small() -> None:
    shifted = BASE + NOISE - NOISE.mean() + 0.01
    found = only(report_of(records("a", f1=BASE), records("b", f1=shifted), metrics=("f1",)))
    assert (found.verdict, found.is_small) == (Verdict.BETTER, True)
    assert ", less than 0.0" in found.sentence


def test_large_p_with_a_wide_interval_is_no_evidence_of_equality() -> None:
    noise = np.random.default_rng(3).normal(0, 0.3, 6)
    a, b = records("a", f1=BASE[:6]), records("b", f1=BASE[:6] + noise - noise.mean())
    found = only(report_of(a, b, metrics=("f1",)))
    assert found.p_adjusted == pytest.approx(1.0)
    assert found.verdict == Verdict.TOO_FEW
    assert found.replicates_needed is not None
    assert found.replicates_needed > 100
    assert "replicates are needed to see 0.0" in found.sentence


def test_smallest_effect_may_be_a_size_or_a_share() -> None:
    noise = NOISE - NOISE.mean()
    runs = records("a", f1=BASE), records("b", f1=BASE + noise)
    strict = SmallestEffect(absolute={"f1": 0.0001})
    assert only(report_of(*runs, metrics=("f1",), smallest=strict)).verdict == Verdict.TOO_FEW
    share = SmallestEffect(shares={"f1": 0.0001})
    assert only(report_of(*runs, metrics=("f1",), smallest=share)).verdict == Verdict.TOO_FEW


def test_shares_next_to_zero_are_not_asked_for_differences_that_nobody_sees() -> None:
    """5 % of a share of 0.015 would take thousands of replicates: 0.01 is the least by default."""
    low = BASE * 0.02
    noise = NOISE - NOISE.mean()
    runs = (
        records("a", recall=low, missed=low),
        records("b", recall=low + noise, missed=low + noise),
    )
    recall, missed = report_of(*runs, metrics=("recall", "missed")).comparisons
    assert recall.smallest_effect == pytest.approx(0.01)
    assert missed.smallest_effect == pytest.approx(0.05 * low.mean())
    assert recall.verdict == Verdict.NO_DIFFERENCE
    assert missed.verdict == Verdict.TOO_FEW
    for asked, size in [
        (SmallestEffect(0.01), 0.002),
        (SmallestEffect(shares={"recall": 0.05}), 0.05 * low.mean()),
        (SmallestEffect(absolute={"recall": 0.003}), 0.003),
    ]:
        report = report_of(*runs, metrics=("recall",), smallest=asked)
        assert only(report).smallest_effect == pytest.approx(size)


def test_baseline_of_zero_asks_what_matters() -> None:
    a = records("a", missed=np.zeros(5))
    b = records("b", missed=[0.0, 2.0, 0.0, 1.0, 0.0])
    found = only(report_of(a, b, metrics=("missed",)))
    assert (found.verdict, found.smallest_effect) == (Verdict.TOO_FEW, None)
    assert "--smallest-effect missed=SIZE" in found.sentence


def test_every_metric_has_a_direction(make_model: Callable[..., NetworkModel]) -> None:
    model = make_model()
    names = {*summarise(model.state, model.traffic.targets, 12), *RESOURCE_METRICS, "cost"}
    assert names == BETTER_HIGHER | BETTER_LOWER | DEPENDS
    assert len(names) == len(BETTER_HIGHER) + len(BETTER_LOWER) + len(DEPENDS)


# --- families and pairs -------------------------------------------------------------------


def test_family_is_all_points_and_metrics() -> None:
    points = [
        records(name, f1=BASE + i * NOISE, recall=BASE - i * NOISE) for i, name in enumerate("abc")
    ]
    whole = report_of(*points)
    assert whole.family == 4
    assert [(c.point, c.metric) for c in whole.comparisons] == [
        (point, metric) for point in "bc" for metric in ("f1", "recall")
    ]
    smallest = min(whole.comparisons, key=lambda c: c.found.p or 1.0)
    assert smallest.found.p is not None
    assert smallest.p_adjusted == pytest.approx(min(1.0, 4 * smallest.found.p))
    alone = only(report_of(*points[:2], metrics=("f1",)))
    assert alone.p_adjusted == alone.found.p


def test_pairs_are_replicates_of_the_same_number_and_seed() -> None:
    """In reverse order the same runs are the same pairs; of another seed they are none."""
    a, b = records("a", f1=BASE), records("b", f1=BASE + 0.001 * NOISE)
    assert only(report_of(a, b[::-1])).found == only(report_of(a, b)).found
    other = only(report_of(a, records("b", seed=2, f1=BASE + 0.001 * NOISE)))
    assert (other.found.is_paired, other.found.n, other.found.n_baseline) == (False, 20, 20)
    assert other.found.variance_saved is None


def test_runs_without_a_result_or_a_partner_are_left_out_and_named() -> None:
    a, b = records("a", f1=BASE[:6]), records("b", f1=BASE[:6] + NOISE[:6])
    a[0] = record("a", 0, {}, state="failed", error="out of time")
    b[1] = record("b", 1, {"f1": 0.0}, state="quarantined", error="one vote too many")
    b[2] = record("b", 2, {}, state="planned")
    report = report_of(a, b, metrics=("f1",))
    assert only(report).found.n == 3
    assert [str(gap) for gap in report.left_out] == [
        "a: 1 run failed: out of time",
        "b: 1 run quarantined: one vote too many",
        "b: 1 run not finished (planned)",
        "b: 1 run without a finished run of the same replicate at a",
        "a: 2 runs without a finished run of the same replicate at b",
    ]


def test_undefined_values_are_left_out_pair_by_pair() -> None:
    a = records("a", auroc=[0.9, None, 0.8, 0.7])
    b = records("b", auroc=[0.9, 0.8, float("nan"), 0.75])
    found = only(report_of(a, b, metrics=("auroc",)))
    assert (found.found.n, found.n_undefined) == (2, 2)
    nowhere = only(report_of(records("a", auroc=[None, None]), b[:2], metrics=("auroc",)))
    assert (nowhere.verdict, nowhere.p_adjusted) == (Verdict.UNDEFINED, None)


def test_one_replicate_is_too_few() -> None:
    found = only(report_of(records("a", f1=[0.5]), records("b", f1=[0.9]), metrics=("f1",)))
    assert found.verdict == Verdict.TOO_FEW
    assert "two replicates of each at least are needed" in found.sentence


def test_report_of_a_point_without_any_finished_run() -> None:
    a, b = records("a", f1=BASE), [record("b", 0, {}, state="failed", error="lost")]
    found = only(report_of(a, b, metrics=("f1",)))
    assert found.verdict == Verdict.UNDEFINED


# --- questions ----------------------------------------------------------------------------


def test_unknown_names_are_refused_with_near_ones() -> None:
    runs = records("honest", f1=BASE), records("poisoned", f1=BASE)
    with pytest.raises(UserError, match=r"no point 'honset': did you mean honest\?"):
        report_of(*runs, baseline="honset")
    with pytest.raises(UserError, match=r"no metric 'f2': did you mean f1\?"):
        report_of(*runs, metrics=("f2",))
    with pytest.raises(UserError, match=r"no metric 'zzz': there are: f1"):
        report_of(*runs, metrics=("zzz",))


def test_without_a_question_the_first_point_and_the_main_metrics_are_compared() -> None:
    values = dict.fromkeys((*MAIN_METRICS, "cost", "wall_seconds"), BASE)
    report = report_of(records("a", **values), records("b", **values))
    assert report.baseline == "a"
    assert [c.metric for c in report.comparisons] == [*MAIN_METRICS, "cost"]


def test_report_is_json_with_a_flat_row_per_comparison() -> None:
    report = report_of(records("a", f1=BASE), records("b", f1=BASE + NOISE), metrics=("f1",))
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    (row,) = document["comparisons"]
    assert document["correction"] == "holm"
    assert row["test"] == "paired t"
    assert row["p"] == only(report).found.p
    assert row["bootstrap_low"] < row["difference"] < row["bootstrap_high"]
    assert not any(isinstance(value, dict | list) for value in row.values())
