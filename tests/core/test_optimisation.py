"""Choosing points: better than by chance, the same again, within bounds, and no point twice."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sim_core.config import CostConfig
from sim_core.config.optimise import OptimiseConfig
from sim_core.errors import ConfigurationError
from sim_core.optimisation.asking import GENERATION, POPULATION, importances, propose
from sim_core.optimisation.front import best_so_far, best_trials, gains_of
from sim_core.optimisation.goals import Aim, aim_of, parse_constraint
from sim_core.optimisation.space import Row, Space, identity
from sim_core.optimisation.trials import Trial, trial_of
from tests.core.test_comparison_report import record

FACTORS = {
    "a": {"low": -2, "high": 2},
    "b": {"low": 0.001, "high": 10, "log": True},
    "c": {"low": 0, "high": 20, "integer": True},
    "d": ["x", "y", "z"],
}
OPTIMUM = (0.7, 0.3, 13, "x")
Objective = Callable[[Row], tuple[float, ...]]


def valley(row: Row) -> tuple[float, ...]:
    """Return 0 at the optimum, and less everywhere else."""
    a, b, c, d = row
    far = (a - 0.7) ** 2 + math.log10(b / 0.3) ** 2 + ((c - 13) / 10) ** 2
    return (-(far + {"x": 0.0, "y": 0.5, "z": 1.0}[d]),)


def trade(row: Row) -> tuple[float, ...]:
    """Return two goals, of which the one rises and the other falls with the first factor."""
    a, b, _, _ = row
    return (a - abs(math.log10(b)), -a - abs(math.log10(b)))


def configured(**changes: Any) -> OptimiseConfig:
    return OptimiseConfig.model_validate({"factors": FACTORS, "metric": "f1", **changes})


def aimed(config: OptimiseConfig) -> Aim:
    return aim_of(config, CostConfig())


def tell(rows: Sequence[Row], before: Sequence[Trial], objective: Objective) -> list[Trial]:
    return [
        Trial(n, f"t{n}", row, {}, objective(row)) for n, row in enumerate(rows, len(before) + 1)
    ]


def search(
    config: OptimiseConfig, seed: int, objective: Objective = valley, n: int = 40
) -> list[Trial]:
    aim, trials = aimed(config), list[Trial]()
    while len(trials) < n:
        rows = propose(config, aim, trials, min(config.batch, n - len(trials)), seed)
        trials += tell(rows, trials, objective)
    return trials


def best_value(trials: Sequence[Trial], config: OptimiseConfig) -> float:
    return gains_of(best_trials(trials, aimed(config))[0], aimed(config))[0]


def test_tpe_comes_nearer_to_a_known_optimum_than_chance_does():
    seeds = range(1, 9)
    found = {
        sampler: [
            best_value(search(config, seed), config)
            for seed in seeds
            for config in [configured(sampler=sampler, batch=4)]
        ]
        for sampler in ("tpe", "random")
    }
    assert median(found["tpe"]) > 0.6 * median(found["random"]), "values are below 0"
    wins = sum(a > b for a, b in zip(found["tpe"], found["random"], strict=True))
    assert wins >= 6


def test_what_makes_a_goal_small_is_looked_for_where_it_is_minimised():
    config = configured(direction="minimise", batch=4)
    trials = search(config, 1, lambda row: (-valley(row)[0],))
    assert best_value(trials, config) > -0.6
    chance = configured(direction="minimise", sampler="random")
    lucky = search(chance, 1, lambda row: (-valley(row)[0],))
    assert best_value(trials, config) >= best_value(lucky, chance)


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random", "sobol"])
def test_the_next_points_follow_from_the_trials_and_the_seed_alone(sampler: str):
    config = configured(sampler=sampler)
    trials = search(config, 3, n=24)
    again = propose(config, aimed(config), list(trials), 8, 3)
    assert propose(config, aimed(config), trials, 8, 3) == again
    assert propose(config, aimed(config), trials, 8, 4) != again
    assert propose(configured(sampler=sampler, seed=9), aimed(config), trials, 8, 3) != again
    assert propose(config, aimed(config), trials, 3, 3) == again[:3]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_the_next_points_depend_on_values(sampler: str):
    config = configured(sampler=sampler)
    trials = search(config, 3, n=32)
    turned = search(config, 3, lambda row: (-valley(row)[0],), n=32)
    same = [Trial(t.number, t.label, t.row, {}, (-t.values[0],)) for t in trials if t.values]
    assert propose(config, aimed(config), trials, 4, 3) != propose(
        config, aimed(config), same, 4, 3
    )
    assert [t.row for t in turned] != [t.row for t in trials]


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_sequences_are_the_same_in_batches_of_any_size(sampler: str):
    rows = [[t.row for t in search(configured(sampler=sampler, batch=b), 1)] for b in (1, 7, 40)]
    assert rows[0] == rows[1] == rows[2]


@given(seed=st.integers(0, 1000), sampler=st.sampled_from(["tpe", "nsgaii", "random", "sobol"]))
@settings(max_examples=12, deadline=None)
def test_rows_lie_within_the_factors_and_none_comes_twice(seed: int, sampler: str):
    config = configured(sampler=sampler)
    trials = search(config, seed, n=20)
    space = Space(config.factors)
    assert all(space.params(t.row) is not None for t in trials)
    assert len({identity(t.row) for t in trials}) == 20


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random", "sobol"])
def test_a_small_space_is_tried_to_its_end_and_no_further(sampler: str):
    factors = {"c": {"low": 1, "high": 3, "integer": True}, "d": ["x", "y"]}
    config = configured(sampler=sampler, factors=factors)
    aim, trials = aimed(config), list[Trial]()
    for _ in range(4):
        rows = propose(config, aim, trials, 4, 1)
        trials += tell(rows, trials, lambda row: (float(row[0]),))
    assert sorted(t.row for t in trials) == [(c, d) for c in (1, 2, 3) for d in ("x", "y")]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_rows_that_cannot_be_are_passed_over(sampler: str):
    config = configured(sampler=sampler)
    rows = propose(config, aimed(config), [], 10, 1, lambda row: row[0] > 0 and row[3] != "y")
    assert len(rows) == 10
    assert all(row[0] > 0 and row[3] != "y" for row in rows)


def test_constraints_are_kept_by_the_best_and_looked_for():
    config = configured(constraints="recall >= 0.5", batch=4)
    aim = aimed(config)

    def excess(row: Row) -> tuple[float, ...]:
        return (0.5 + row[0],)  # recall is 0 - a: kept where a <= -0.5, away from the optimum

    trials: list[Trial] = []
    while len(trials) < 48:
        rows = propose(config, aim, trials, 4, 1)
        trials += [
            Trial(n, f"t{n}", row, {}, valley(row), excess(row))
            for n, row in enumerate(rows, len(trials) + 1)
        ]
    (best,) = best_trials(trials, aim)
    assert best.row[0] <= -0.5
    assert max(t.values[0] for t in trials if t.values) > best.values[0]  # type: ignore[index]
    late = [t.is_feasible for t in trials[24:]]
    assert sum(late) > 1.2 * 24 * 1.5 / 4, "more often than by chance"
    allowed = [v for v in best_so_far(trials, aim) if v is not None]
    assert allowed == sorted(allowed)
    assert not best_trials([t for t in trials if not t.is_feasible], aim)


def test_no_trial_of_the_front_is_beaten_and_every_other_is():
    config = configured(metric=["f1", "recall"])
    assert config.chooser == "nsgaii"
    trials = search(config, 1, trade, n=60)
    front = best_trials(trials, aimed(config))

    def beats(one: Trial, other: Trial) -> bool:
        a, b = np.array(one.values), np.array(other.values)
        return bool((a >= b).all() and (a > b).any())

    assert len(front) > 2
    assert not any(beats(one, other) for one in trials for other in front)
    values = [one.values for one in front]
    others = [t for t in trials if t not in front]
    assert all(t.values in values or any(beats(one, t) for one in front) for t in others)
    assert len(set(values)) == len(values), "of equal ones the first"


def test_later_generations_of_nsga_have_parents():
    import optuna

    assert optuna.samplers.NSGAIISampler._get_generation_key() == GENERATION
    config = configured(metric=["f1", "recall"])

    def distance(trials: Sequence[Trial]) -> float:
        return median(abs(math.log10(t.row[1])) for t in trials)

    trials = search(config, 1, trade, n=6 * POPULATION)
    assert distance(trials[-POPULATION:]) < 0.6 * distance(trials[:POPULATION])


def test_importance_says_which_factor_matters():
    config = configured(sampler="random")
    trials = search(config, 1, lambda row: (10 * row[0] + 0.1 * row[2],), n=60)
    shares = importances(config, aimed(config), trials)["f1"]
    assert shares["a"] > 0.8
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert importances(config, aimed(config), trials[:10]) == {}
    flat = [Trial(t.number, t.label, t.row, {}, (1.0,)) for t in trials]
    assert importances(config, aimed(config), flat) == {}


def test_a_start_outside_of_the_factors_is_not_told_and_harms_nobody():
    config = configured()
    outside = Trial(1, "start", (9.0, 1.0, 5, "x"), {}, (5.0,))
    inside = search(config, 1, n=12)
    rows = propose(config, aimed(config), [outside, *inside], 4, 1)
    assert len(rows) == 4


def test_failed_trials_are_no_best_and_stop_nothing():
    config = configured()
    aim = aimed(config)
    runs = [record("t1", r, {"f1": 0.5 + r / 10}) for r in range(2)]
    good = trial_of(1, "t1", OPTIMUM, runs, aim, 2)
    assert good.values == (pytest.approx(0.55),)
    bad = record("t2", 1, {}, state="failed", error="it broke")
    failed = trial_of(2, "t2", (1.0, 1.0, 1, "y"), [record("t2", 0, {"f1": 1.0}), bad], aim, 2)
    assert failed.values is None
    assert failed.reason == "1 of 2 runs without a result: it broke"
    undefined = [record("t3", 0, {"f1": 1.0}), record("t3", 1, {"f1": None})]
    third = trial_of(3, "t3", (0.0, 1.0, 1, "z"), undefined, aim, 2)
    assert third.reason == "f1 is undefined in 1 of 2 runs"
    trials = [good, failed, third]
    assert best_trials(trials, aim) == [good]
    assert best_so_far(trials, aim) == [good.values[0]] * 3
    rows = propose(config, aim, trials, 4, 1)
    assert not {identity(row) for row in rows} & {identity(t.row) for t in trials}


def test_fresh_replicates_do_not_count_for_the_search():
    runs = [record("t1", r, {"f1": float(r >= 2)}) for r in range(4)]
    assert trial_of(1, "t1", OPTIMUM, runs, aimed(configured()), 2).values == (0.0,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "f11"}, r"optimise.metric: no metric 'f11': did you mean f1"),
        ({"metric": "cost"}, r"cost is known only where cost\.missed"),
        ({"metric": "rejections"}, r"add optimise\.direction=maximise or"),
        ({"constraints": "recal >= 1"}, r"optimise.constraints: no metric 'recal': did you mean"),
        ({"constraints": "recall = 1"}, r"'recall = 1' is no constraint: write METRIC <= NUMBER"),
    ],
)
def test_what_no_search_can_do_is_refused_in_words(changes: dict[str, Any], words: str):
    with pytest.raises(ConfigurationError, match=words):
        aimed(configured(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 0}, "greater than or equal to 1"),
        ({"metric": []}, r"say what for, for example optimise\.metric=f1"),
        ({"metric": ["f1", "f1"]}, "named twice"),
        ({"metric": ["f1", "mcc"], "direction": "maximise"}, "1 directions for 2 metrics"),
        ({"factors": {"a": 3}}, "a factor is a range"),
        ({"sampler": "cmaes"}, "Input should be 'auto', 'tpe', 'nsgaii', 'random' or 'sobol'"),
    ],
)
def test_what_is_no_configuration_is_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        configured(**changes)


def test_a_direction_makes_any_metric_a_goal():
    (goal,) = aimed(configured(metric="rejections", direction="minimise")).goals
    assert not goal.maximise
    assert parse_constraint("missed>=-1.5e2").bound == -150


def test_without_optuna_sequences_work_and_the_rest_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert len(propose(configured(sampler="sobol"), aimed(configured()), [], 4, 1)) == 4
    with pytest.raises(ConfigurationError, match=r"optuna.*pip install optuna.*sobol"):
        propose(configured(), aimed(configured()), [], 4, 1)
