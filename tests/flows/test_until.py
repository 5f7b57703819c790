"""Replicates until it is known: rounds, reuse, interruption, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.bench import Bench
from flows.inspect import opened, stored_plan
from sim_core.errors import ExperimentConflict
from sim_core.stopping import stopping_count

NAMED = (
    "experiment.name=known",
    "simulation={nodes: 10, flows_per_node: 10, steps: 30}",
    "+points.few=['adversary=flipper','adversary.share=0.1']",
    "+points.many=['adversary=flipper','adversary.share=0.5']",
)
RULE = "{metrics: [f1], half_width: 0.03, minimum: 2, step: 2, maximum: 8}"
UNTIL = f"experiment.until={RULE}"
Flow = Callable[..., Any]


def counts(outcome: Any) -> dict[str, int]:
    found = dict.fromkeys(outcome.findings.labels, 0)
    for record in outcome.findings.records:
        found[record.label] += 1
    return found


def heads(outcome: Any) -> dict[str, str]:
    return {record.run_id: record.ledger_head for record in outcome.findings.records}


@pytest.fixture
def fixed(run_plainly: Flow, tmp_path: Path) -> Any:
    """Return the experiment with as many replicates as there can be."""
    return run_plainly(*NAMED, "experiment.replicates=8", workspace=tmp_path / "fixed")


def expected(fixed: Any) -> dict[str, int]:
    """Return how many replicates the rule asks for at each point, from all that there can be."""
    from sim_core.config.stopping import UntilConfig

    rule = UntilConfig(metrics=("f1",), half_width=0.03, minimum=2, step=2, maximum=8)
    return {
        label: stopping_count(
            {"f1": [r.metrics["f1"] for r in fixed.findings.records if r.label == label]}, rule
        )
        for label in fixed.findings.labels
    }


def test_points_get_replicates_in_rounds_and_nothing_is_executed_again(
    run_plainly: Flow, fixed: Any, tmp_path: Path
):
    first = run_plainly(*NAMED, UNTIL)
    assert counts(first) == expected(fixed)
    assert len(set(counts(first).values())) == 2, "points that need the same would show little"
    assert heads(first).items() <= heads(fixed).items()
    summary = json.loads((tmp_path / "workspace/experiments/known/summary.json").read_text())
    for point in summary["points"]:
        told = point["until"]
        assert told["replicates"] == counts(first)[point["label"]]
        assert told["reached"] == (told["half_widths"]["f1"] <= 0.03)
        assert told["reached"] or told["replicates"] == 8
    again = run_plainly(*NAMED, UNTIL)
    assert again.counts["reused"] == again.counts["planned"] == first.counts["planned"]
    assert heads(again) == heads(first)
    with opened(tmp_path / "workspace") as (_, ledger):
        experiment = ledger.experiment("known")
        assert experiment is not None
        assert {r.spec.run_key for r in stored_plan(ledger, experiment).runs} == set(heads(first))


@pytest.fixture
def interrupt_after(run_plainly: Flow, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that runs the experiment until a round has been entered into the ledger."""

    def run(round_number: int) -> None:
        grow, calls = Bench.grow, []

        def interrupted(bench: Bench) -> bool:
            more = grow(bench)
            calls.append(more)
            if len(calls) == round_number:
                raise KeyboardInterrupt
            return more

        with monkeypatch.context() as patched:
            patched.setattr(Bench, "grow", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_plainly(*NAMED, UNTIL)

    return run


@pytest.mark.parametrize("round_number", [1, 2, 3])
def test_interrupted_after_any_round_it_ends_with_the_same_runs(
    run_plainly: Flow, fixed: Any, interrupt_after: Callable[[int], None], round_number: int
):
    interrupt_after(round_number)
    found = run_plainly(*NAMED, UNTIL)
    assert counts(found) == expected(fixed)
    assert heads(found).items() <= heads(fixed).items()


def test_replicates_that_were_entered_are_finished_whatever_the_rule_is_now(
    run_plainly: Flow, interrupt_after: Callable[[int], None]
):
    interrupt_after(1)
    found = run_plainly(*NAMED, UNTIL.replace("0.03", "1000"))
    assert counts(found) == {"few": 4, "many": 2}, "at one point the first round was enough"
    assert found.state == "finished"


def test_another_rule_adds_to_what_is_there_and_takes_nothing_away(run_plainly: Flow):
    loose = run_plainly(*NAMED, "experiment.replicates=3")
    strict = run_plainly(*NAMED, UNTIL)
    assert all(n >= 3 for n in counts(strict).values())
    assert heads(loose).items() <= heads(strict).items()
    looser = run_plainly(*NAMED, UNTIL.replace("0.03", "0.5"))
    assert counts(looser) == counts(strict)
    with pytest.raises(ExperimentConflict, match="as many replicates as"):
        run_plainly(*NAMED, "experiment.replicates=3")
