"""The quick-start study has something to tell: cooperation sees more, liars cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from flows.display import verdicts
from sim_core.comparison.corrections import holm
from sim_core.comparison.differences import unpaired_difference
from sim_core.comparison.pairing import Key, finished_runs, sample
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import Verdict
from sim_core.metrics import Metrics
from sim_core.results import MAIN_METRICS
from tasks.mlflow_notes import describe_comparison
from tasks.show_in_prefect import verdict_rows


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def outcome(run_flow_in: Callable[..., Any], workspace: Path) -> Any:
    return run_flow_in(workspace, "+study=quickstart")


def test_every_honest_replicate_confirms_a_true_signature(outcome: Any) -> None:
    honest = [r for r in outcome.findings.records if r.label == "honest"]
    assert len(honest) == 10
    assert all(r.metrics["true_confirmations"] >= 1 for r in honest)


def test_study_both_confirms_and_rejects(outcome: Any) -> None:
    for record in outcome.findings.records:
        assert record.metrics["true_confirmations"] > 0
        assert record.metrics["rejections"] > 0


@pytest.mark.parametrize("metric", ["recall", "immunity_share"])
def test_cooperation_sees_more_than_isolation(outcome: Any, metric: str) -> None:
    report = compared(outcome, metric, baseline="isolated")
    (found,) = [c for c in report.comparisons if c.point == "honest"]
    assert (found.found.n, found.verdict) == (10, Verdict.BETTER)


@pytest.mark.parametrize(
    ("metric", "verdict"), [("messages_sent", Verdict.WORSE), ("rejections", Verdict.HIGHER)]
)
def test_poisoners_cost_something(outcome: Any, metric: str, verdict: Verdict) -> None:
    report = compared(outcome, metric, baseline="honest")
    (found,) = [c for c in report.comparisons if c.point == "poisoned"]
    assert (found.found.n, found.verdict) == (10, verdict)


def compared(outcome: Any, *metrics: str, baseline: str) -> Report:
    question = Question(baseline=baseline, metrics=metrics)
    return compare(outcome.findings.records, outcome.findings.labels, question)


def test_liars_change_no_traffic_so_pairs_vary_less(outcome: Any) -> None:
    steps = outcome.findings.steps
    flows = steps.assign(attack=steps["tp"] + steps["fn"], benign=steps["fp"] + steps["tn"])
    honest, poisoned = (
        flows[flows["label"] == label].set_index(["replicate", "step"])[["attack", "benign"]]
        for label in ("honest", "poisoned")
    )
    assert honest.equals(poisoned)
    report = compared(outcome, "f1", "recall", "auroc", baseline="honest")
    saved = {c.metric: c.found.variance_saved for c in report.comparisons if c.point == "poisoned"}
    assert {metric for metric, share in saved.items() if share and share > 0.3} == {*saved}


@pytest.mark.parametrize("label", ["isolated", "honest", "poisoned"])
def test_halves_of_the_replicates_of_a_point_differ_as_seldom_as_alpha(
    outcome: Any, label: str
) -> None:
    """An A/A test: of all 126 ways to part ten replicates, some are unlucky, but few."""
    runs = finished_runs(outcome.findings.records)[label]
    others = sorted(runs)[1:]
    halves = [{sorted(runs)[0], *some} for some in combinations(others, 4)]
    alarms = sum(
        any(p is not None and p < 0.05 for p in p_values_of_halves(runs, half)) for half in halves
    )
    assert len(halves) == 126
    assert alarms <= 0.05 * len(halves)


def p_values_of_halves(runs: Mapping[Key, Metrics], half: set[Key]) -> list[float | None]:
    first = {key: metrics for key, metrics in runs.items() if key in half}
    second = {key: metrics for key, metrics in runs.items() if key not in half}
    parts = [sample(first, second, metric) for metric in MAIN_METRICS]
    assert not any(part.is_paired for part in parts)
    return holm([unpaired_difference(part.values, part.baseline).p for part in parts])


def test_outcome_tells_what_distinguishes_the_points_from_the_first(outcome: Any) -> None:
    report = outcome.comparison
    assert report.baseline == "isolated"
    assert (
        report.comparisons
        == compare(outcome.findings.records, outcome.findings.labels, Question()).comparisons
    )
    lines = verdicts(outcome)
    assert len(lines) <= 12
    assert "true_confirmations is lower: -11" in lines[1]
    assert "quorumlab compare" in lines[-1]


def test_files_tell_it_too(outcome: Any, workspace: Path) -> None:
    folder = workspace / "experiments" / outcome.name
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["comparisons"] == outcome.comparison.rows()
    document = json.loads((folder / "comparison.json").read_text())
    assert document["experiments"] == [outcome.name]
    assert document["comparisons"] == summary["comparisons"]


def test_tables_of_prefect_and_notes_of_mlflow_begin_with_what_is_surest(outcome: Any) -> None:
    report = outcome.comparison
    rows = verdict_rows(report)
    assert len(rows) == len(report.comparisons)
    surest = report.findings[0]
    assert (rows[0]["point"], rows[0]["metric"]) == (surest.point, surest.metric)
    assert f"- {surest.sentence}\n" in describe_comparison(report)
    assert describe_comparison(None) == describe_comparison(report, 100) == ""
    short = describe_comparison(report, 400)
    assert 200 < len(short) <= 400
    assert f"- {surest.sentence}\n" in short


def test_points_share_their_random_numbers(outcome: Any) -> None:
    """What is never flagged nor learned differently is the same: attacks seen at step 0 to 14."""
    steps = outcome.findings.steps
    early = steps[steps["step"] == 0].set_index(["label", "replicate"])
    for replicate in range(10):
        first = early.loc[("isolated", replicate), ["tp", "fp", "tn", "fn"]].tolist()
        assert early.loc[("honest", replicate), ["tp", "fp", "tn", "fn"]].tolist() == first
        assert early.loc[("poisoned", replicate), ["tp", "fp", "tn", "fn"]].tolist() == first


def test_rows_of_a_poisoned_run_are_few(outcome: Any) -> None:
    poisoned = [r for r in outcome.findings.records if r.label == "poisoned"]
    assert all(0 < r.ledger_rows < 1500 for r in poisoned)
