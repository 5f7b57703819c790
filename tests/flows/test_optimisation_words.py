"""What is said of an optimisation: of a start that is not allowed, of goals that nothing moves, of luck."""

from __future__ import annotations

from typing import Any

from flows.optimisation_words import verdict
from sim_core.config import CostConfig
from sim_core.config.optimise import OptimiseConfig
from sim_core.optimisation.front import best_trials
from sim_core.optimisation.goals import aim_of
from sim_core.optimisation.report import Optimisation
from sim_core.optimisation.trials import trial_of
from sim_core.results import interval
from tests.core.test_comparison_report import record

Runs = list[dict[str, float]]


def told(trials: list[Runs], fresh: dict[str, Runs] | None = None, **settings: Any) -> str:
    """Return what is said of trials with these metrics per replicate, the first of them the start."""
    config = OptimiseConfig.model_validate(
        {"factors": {"consensus.share": {"low": 0, "high": 1}}, "metric": "f1", **settings}
    )
    aim = aim_of(config, CostConfig())
    found = [
        trial_of(n, f"t{n}", (n / 10,), [record(f"t{n}", r, m) for r, m in enumerate(runs)], aim, 2)
        for n, runs in enumerate(trials, 1)
    ]
    again = {
        label: {name: interval([run[name] for run in runs]) for name in aim.metrics}
        for label, runs in (fresh or {}).items()
    }
    return " ".join(
        verdict(
            Optimisation(
                settings=config,
                seed=1,
                replicates=2,
                aim=aim,
                trials=tuple(found),
                best=tuple(best_trials(found, aim)),
                start=found[0],
                fresh=again,
                comparison=None,
                importances={},
            )
        )
    )


def f1(*values: float, blocked: float = 0.0) -> Runs:
    return [{"f1": value, "benign_blocked_share": blocked} for value in values]


def test_a_start_that_breaks_a_constraint_is_named():
    bound = {"constraints": "benign_blocked_share <= 0.02"}
    trials = [f1(0.9, 1.0, blocked=0.25), f1(0.7, 0.8)]
    assert "The start breaks benign_blocked_share <= 0.02 (it is 0.25)." in told(trials, **bound)
    assert "The start breaks" not in told([f1(0.9, 1.0), f1(0.7, 0.8)], **bound)


def test_a_goal_that_nothing_moves_is_named():
    text = told([f1(1.0, 1.0), f1(1.0, 1.0), f1(1.0, 1.0)])
    assert "All trials have the same f1: no factor moves it within its range here." in text
    assert "The replicates of each trial have the same f1." in text
    assert "standard error" not in text
    both = told([f1(1.0, 1.0), f1(1.0, 1.0, blocked=0.5)], metric=["f1", "benign_blocked_share"])
    assert "All trials have the same f1:" in both


def test_ties_with_the_best_are_counted():
    text = told([f1(0.5, 0.7), f1(0.6, 0.8), f1(0.6, 0.8)])
    assert "1 other trial has the same mean as t2, which came first." in text


def test_luck_is_told_by_its_direction():
    trials = [f1(0.5, 0.7), f1(0.75, 1.0)]
    text = told(trials, {"t2": f1(0.5, 0.75)})
    assert "The mean that t2 was chosen by is better than its fresh one by 0.25." in text
    text = told(trials, {"t2": f1(1.0, 1.0)})
    assert "The mean that t2 was chosen by is worse than its fresh one by 0.125." in text
    small = told(trials, {"t1": f1(0.5, 0.5)}, direction="minimise")
    assert "The mean that t1 was chosen by is worse than its fresh one by 0.1." in small
