"""Experiments with interventions, from the command's words to the ledger."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.errors import ConfigurationError
from sim_core.ledger.blocks import KINDS
from sim_core.plan import Plan, plan_runs

RULES = (
    "experiment.name=rules",
    "experiment.replicates=2",
    "simulation={nodes: 12, flows_per_node: 10, steps: 24}",
    "checkpoint.every=5",
    "ledger.detail=all",
    "intervention.step=16",
    "+points.as_before=['consensus@intervention.consensus=majority']",
    "+points.bft=['consensus@intervention.consensus=bft']",
    "+points.attack=['adversary@intervention.adversary=poisoner','intervention.adversary.share=0.4']",
)
Flow = Callable[..., Any]


def planned(*overrides: str, multirun: bool = False) -> Plan:
    return plan_runs(*compose_experiment(list(overrides), multirun=multirun))


def everything(workspace: Path) -> dict[str, list[Any]]:
    """Return all that the ledger says of steps and results, and no times."""
    queries = [
        "SELECT id, run_key, steps, head, n_features, n_nodes, detail FROM run",
        "SELECT run, horizon, head, metrics FROM summary",
        "SELECT run, max(step), sha256 FROM checkpointfile GROUP BY run",
        *(f"SELECT * FROM {kind}" for kind in ("block", *KINDS)),
    ]
    with closing(sqlite3.connect(workspace / "ledger.db")) as db:
        return {query: sorted(db.execute(query).fetchall(), key=repr) for query in queries}


def test_forked_experiment_leaves_the_ledger_of_one_without_forks(
    run_plainly: Flow, tmp_path: Path
) -> None:
    ways = {
        "alone": ("experiment.fork=false",),
        "forked": (),
        "processes": ("executor=processes", "executor.num_cpus=2"),
    }
    found = {
        how: run_plainly(*RULES, *more, workspace=tmp_path / how) for how, more in ways.items()
    }
    assert all(outcome.counts["finished"] == 6 for outcome in found.values())
    ledgers = [everything(tmp_path / how) for how in ways]
    assert all(ledgers[0].values()), "there is something of everything"
    assert ledgers[0] == ledgers[1] == ledgers[2]
    for how in ("forked", "processes"):
        shared = [record.steps_shared for record in found[how].findings.records]
        assert sorted(shared) == [0, 0, 16, 16, 16, 16], "all that is before the fork"
        told = json.loads((tmp_path / how / "experiments/rules/summary.json").read_text())
        assert [run["steps_shared"] for run in told["runs"]] == shared
        assert [run["steps_executed"] + run["steps_shared"] for run in told["runs"]] == [24] * 6


def test_choices_after_the_fork_are_swept_and_points_are_called_after_them() -> None:
    plan = planned(
        "intervention.step=40", "consensus@intervention.consensus=majority,bft", multirun=True
    )
    assert plan.labels == ("then-majority", "then-bft")
    assert plan.values == (
        {"intervention.consensus": "majority", "intervention.consensus.min_turnout": 0.5},
        {"intervention.consensus": "bft", "intervention.consensus.min_turnout": 0.0},
    )
    assert len({run.spec.run_key for run in plan.runs}) == len(plan.runs)


def test_what_an_intervention_leaves_is_told_as_it_was() -> None:
    plan = planned(
        "adversary=flipper",
        "adversary.share=0.1",
        "intervention.step=40",
        "+points.rule=['consensus@intervention.consensus=bft']",
        "+points.liars=['adversary@intervention.adversary=flipper','intervention.adversary.share=0.3']",
    )
    majority, bft = (
        {"intervention.consensus": kind, "intervention.consensus.min_turnout": turnout}
        for kind, turnout in (("majority", 0.5), ("bft", 0.0))
    )
    assert plan.values == (
        {**bft, "intervention.adversary.share": 0.1},
        {**majority, "intervention.adversary.share": 0.3},
    )


def test_settings_after_the_fork_are_factors_of_a_design() -> None:
    plan = planned(
        "intervention.step=40",
        "adversary@intervention.adversary=poisoner",
        "design=grid",
        "design.factors={intervention.adversary.share: [0.1, 0.3], intervention.step: [40, 60]}",
    )
    assert plan.labels == (
        "share-0.1_step-40", "share-0.1_step-60", "share-0.3_step-40", "share-0.3_step-60",
    )  # fmt: skip
    assert plan.values[1] == {"intervention.adversary.share": 0.1, "intervention.step": 60}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["intervention.step=40"], r"intervention\.step=40 replaces nothing"),
        (["consensus@intervention.consensus=bft"], "not from when on"),
        (
            ["consensus@intervention.consensus=dictator"],
            "could not find 'dictator' in conf/consensus",
        ),
        (["profile=huge"], "could not find 'huge' in conf/profile"),
    ],
)
def test_half_an_intervention_and_choices_that_are_none_are_refused_in_words(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        planned(*overrides)


def test_as_many_voters_are_asked_for_whatever_the_point_says() -> None:
    with pytest.raises(ConfigurationError, match="7 voters, and before it has 100"):
        planned(
            "intervention.step=40",
            "+points.small=['consensus@intervention.consensus=bft','intervention.consensus.committee=7']",
        )
