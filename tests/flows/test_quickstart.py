"""The quick-start study has something to tell: cooperation sees more, liars cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sim_core.results import paired_difference


@pytest.fixture(scope="module")
def outcome(run_flow_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_flow_in(tmp_path_factory.mktemp("quickstart"), "+study=quickstart")


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
    found = paired_difference(outcome.findings.records, metric, "honest", "isolated")
    assert found.n == 10
    assert found.ci_low is not None
    assert found.ci_low > 0


@pytest.mark.parametrize("metric", ["messages_sent", "rejections"])
def test_poisoners_cost_something(outcome: Any, metric: str) -> None:
    found = paired_difference(outcome.findings.records, metric, "poisoned", "honest")
    assert found.n == 10
    assert found.ci_low is not None
    assert found.ci_low > 0


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
