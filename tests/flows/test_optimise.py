"""Optimisations in this process: the same whatever happens, nothing twice, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.bench import SPECTATOR, Bench, Outcome, Spectator
from flows.compose import compose_experiment, compose_optimisation
from flows.inspect import opened, stored_plan
from flows.launch import plainly, stored_experiment
from flows.optimise import named, points_so_far
from flows.show_optimisation import progress_line, show_optimisation
from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError, RunFailed
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.trials import Trial
from sim_core.plan import Point, plan_runs

QUICK = ("profile=edge", "output.tables=false")
SMALL = "simulation={nodes: 8, flows_per_node: 10, steps: 20}"
FACTORS = (
    "optimise.factors={adversary: [none, flipper], simulation.nodes: {low: 4, high: 12, integer: true}, "
    "signature.cooldown_steps: {low: 2, high: 10, integer: true}}"
)
BASE = (
    SMALL,
    FACTORS,
    "experiment.name=best",
    "experiment.replicates=2",
    "optimise.metric=messages_sent",
    "optimise.batch=4",
    "optimise.trials=12",
    "optimise.confirm=2",
)


class Watcher(Spectator):
    """Remembers what is told, and interrupts where it is asked to."""

    def __init__(self, *, after_batches: int | None = None, after_runs: int | None = None) -> None:
        """Count from here."""
        self.outcome: Outcome | None = None
        self.lines: list[str] = []
        self.executed: list[str] = []
        self._after_batches, self._after_runs = after_batches, after_runs

    def tried(self, aim: Aim, trials: Sequence[Trial], wanted: int, seconds: float) -> None:
        """Remember the line; interrupt after so many batches."""
        self.lines.append(progress_line(aim, trials, wanted, seconds))
        if len(self.lines) == self._after_batches:
            raise KeyboardInterrupt

    def ended(self, run_key: str, error: str | None) -> None:
        """Remember the run; interrupt after so many."""
        del error
        self.executed.append(run_key)
        if len(self.executed) == self._after_runs:
            raise KeyboardInterrupt

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """Remember what was found."""
        del bench
        self.outcome = outcome


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    token = SPECTATOR.set(watcher)
    try:
        yield
    finally:
        SPECTATOR.reset(token)


def conduct(watcher: Watcher, config: ExperimentConfig, points: Sequence[Point]) -> Any:
    """Carry out an optimisation; return what was found, None where it was interrupted."""
    with watched(watcher):
        try:
            plainly(config, points, execute=True)
        except KeyboardInterrupt:
            return None
        except RunFailed:
            assert watcher.outcome is not None
    assert watcher.outcome is not None
    return watcher.outcome.optimisation


def composed(folder: Path, *overrides: str) -> ExperimentConfig:
    """Return the configuration with overrides, each in place of one of the same key before it."""
    words = {w.split("=")[0]: w for w in (*QUICK, *BASE, *overrides, f"workspace={folder}")}
    return named(compose_optimisation(list(words.values())))


def optimised(folder: Path, *overrides: str, watcher: Watcher | None = None) -> Any:
    config = composed(folder, *overrides)
    return conduct(watcher or Watcher(), config, points_so_far(config))


def everything(folder: Path) -> list[tuple[Any, ...]]:
    """Return point, replicate, key, head and number of claims of each run."""
    with opened(folder) as (_, ledger):
        rows = ledger.runs_of("best")
    return [(r["point"], r["replicate"], r["run_key"], r["summary_head"], r["epoch"]) for r in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Watcher]:
    """Return an uninterrupted optimisation: workspace, what was found, and who saw it."""
    folder, watcher = tmp_path_factory.mktemp("whole"), Watcher()
    return folder, optimised(folder, watcher=watcher), watcher


def test_an_optimisation_tries_finds_and_confirms(whole: tuple[Path, Any, Watcher]):
    folder, found, watcher = whole
    assert [t.label for t in found.trials] == ["start", *(f"t{n}" for n in range(2, 13))]
    (best,) = found.best
    assert best.values[0] == min(t.values[0] for t in found.trials)
    assert best.values[0] < found.start.values[0]
    labels = {"start", best.label}
    assert set(found.fresh) == labels
    assert all(i.n == 2 for metrics in found.fresh.values() for i in metrics.values())
    assert len(watcher.executed) == len(set(watcher.executed)) == 12 * 2 + 2 * 2
    assert [line.split(", best")[0] for line in watcher.lines] == [
        "[cyan]•[/] 4 of 12 trials",
        "[cyan]•[/] 8 of 12 trials",
        "[cyan]•[/] 12 of 12 trials",
        "[cyan]•[/] 12 of 12 trials",
    ]
    assert "left" in watcher.lines[0]
    assert {claims for *_, claims in everything(folder)} == {1}
    with opened(folder) as (_, ledger):
        experiment = ledger.experiment("best")
        assert experiment is not None
        assert len(stored_plan(ledger, experiment).runs) == 28, "replay finds fresh runs too"


def test_the_document_says_all_of_it(whole: tuple[Path, Any, Watcher]):
    folder, found, _ = whole
    text = (folder / "experiments" / "best" / "optimisation.json").read_text("utf-8")
    document = json.loads(text)
    assert document["goals"] == [{"metric": "messages_sent", "direction": "minimise"}]
    assert document["best"] == [found.best[0].label]
    assert [t["point"] for t in document["trials"]] == [t.label for t in found.trials]
    assert document["trials"][0]["values"]["adversary"] == "none"
    course = document["best_so_far"]
    assert course == sorted(course, reverse=True)
    assert found.best[0].label in document["verdict"][0]


def test_people_read_the_verdict_first(whole: tuple[Path, Any, Watcher]):
    _, found, _ = whole
    console = Console(record=True, width=100)
    show_optimisation(found, console)
    first, *rest = console.export_text().splitlines()
    assert first.startswith(f"{found.best[0].label} is the best of 12 trials")
    text = " ".join(rest)
    assert "has a standard error of" in text
    assert "cooldown_steps" in text
    assert "fresh" in text


@pytest.mark.parametrize("where", [{"after_batches": 1}, {"after_batches": 3}])
def test_interrupted_between_batches_it_equals_the_uninterrupted_one(
    whole: tuple[Path, Any, Watcher], where: dict[str, int], tmp_path: Path
):
    stopped, resumed = Watcher(**where), Watcher()
    assert optimised(tmp_path, watcher=stopped) is None
    found = optimised(tmp_path, watcher=resumed)
    assert [t.row for t in found.trials] == [t.row for t in whole[1].trials]
    assert everything(tmp_path) == everything(whole[0]), "same points, heads, and one claim of each"
    assert not set(stopped.executed) & set(resumed.executed)
    assert found.best == whole[1].best


def test_interrupted_in_a_batch_and_resumed_by_name_it_equals_the_uninterrupted_one(
    whole: tuple[Path, Any, Watcher], tmp_path: Path
):
    stopped, resumed = Watcher(after_runs=11), Watcher()
    assert optimised(tmp_path, watcher=stopped) is None
    found = conduct(resumed, *stored_experiment(tmp_path, "best"))
    assert [row[:4] for row in everything(tmp_path)] == [row[:4] for row in everything(whole[0])]
    assert not set(stopped.executed) & set(resumed.executed)
    assert found.best == whole[1].best


def test_a_caller_that_knows_the_first_points_only_goes_on_where_the_ledger_is(
    whole: tuple[Path, Any, Watcher], tmp_path: Path
):
    config = composed(tmp_path)
    first = points_so_far(config)
    assert len(first) == 4
    assert conduct(Watcher(after_batches=2), config, first) is None
    conduct(Watcher(), config, first)  # as a flow does that is scheduled again
    assert everything(tmp_path) == everything(whole[0])


def test_more_trials_go_on_and_others_are_refused(tmp_path: Path):
    few = optimised(tmp_path, "optimise.trials=4")
    resumed = Watcher()
    more = optimised(tmp_path, "optimise.trials=7", "optimise.batch=3", watcher=resumed)
    assert [t.row for t in more.trials[:4]] == [t.row for t in few.trials]
    assert len(more.trials) == 7
    with pytest.raises(ConfigurationError, match=r"with another optimise\.metric, .*replicates"):
        optimised(tmp_path, "optimise.metric=bytes_sent", "experiment.replicates=3")
    again = Watcher()
    optimised(tmp_path, "optimise.trials=7", "optimise.confirm=0", watcher=again)
    assert again.executed == []
    winners = {few.best[0].label, more.best[0].label, "start"}
    assert len(everything(tmp_path)) == 7 * 2 + len(winners) * 2


def test_without_a_name_more_trials_have_the_same_one(tmp_path: Path):
    config = composed(tmp_path)
    nameless = config.experiment.model_copy(update={"name": None})

    def name(seed: int = 1, **changes: Any) -> str | None:
        experiment = nameless.model_copy(update={"seed": seed})
        search = config.optimise.model_copy(update=changes)
        parts = {"experiment": experiment, "optimise": search}
        return named(config.model_copy(update=parts)).experiment.name

    assert name() == name(trials=99, batch=2, confirm=0)
    assert len({name(), name(seed=2), name(sampler="random"), name(metric=("f1",))}) == 4


def test_trials_that_fail_are_told_and_stop_nothing(tmp_path: Path):
    metric = "optimise.metric=infected_share"  # without a worm it is undefined
    found = optimised(tmp_path, metric, "optimise.trials=5")
    assert len(found.failed) == 5
    console = Console(record=True, width=100)
    show_optimisation(found, console)
    text = console.export_text()
    assert text.startswith("None of 5 trials has a result. The first: infected_share is undefined")
    assert "t2 failed: infected_share is undefined in 2 of 2 runs" in text
    assert not found.fresh


def test_runs_that_fail_end_their_trial_only(tmp_path: Path):
    words = (
        "optimise.factors={simulation.flows_per_node: [10, 40000]}",
        "limits.memory_mb=1",
        "optimise.trials=2",
    )
    found = optimised(tmp_path, *words, "experiment.replicates=1")
    assert all("limits.memory_mb" in str(t.reason) for t in found.failed)
    assert len(found.failed) == 2


def test_a_front_of_two_goals_that_keeps_a_constraint(tmp_path: Path):
    found = optimised(
        tmp_path,
        "optimise.metric=[recall, messages_sent]",
        'optimise.constraints="precision >= 0.5"',
        "output.plots=true",
        "optimise.sampler=random",
        "optimise.trials=16",
    )
    assert [goal.verb for goal in found.aim.goals] == ["maximise", "minimise"]
    allowed = [t for t in found.trials if t.is_feasible]
    assert all(t.means["precision"].mean >= 0.5 for t in allowed)
    for one in found.best:
        assert one.is_feasible
        better = [
            t
            for t in allowed
            if t.values[0] >= one.values[0]
            and t.values[1] <= one.values[1]
            and t.values != one.values
        ]
        assert not better
    assert set(found.fresh) == {"start", *(t.label for t in found.best)}
    plot = tmp_path / "experiments" / "best" / "plots" / "optimisation.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_points_are_those_that_overrides_give(whole: tuple[Path, Any, Watcher]):
    _, found, _ = whole
    config, points = stored_experiment(whole[0], "best")
    labels = {t.label: t for t in found.trials}
    plan = plan_runs(config, points)
    flipping = next(t for t in found.trials[1:] if t.row[0] == "flipper")
    by_hand, _ = compose_experiment(
        [
            SMALL,
            "adversary=flipper",
            f"simulation.nodes={flipping.row[1]}",
            f"signature.cooldown_steps={flipping.row[2]}",
        ]
    )
    place = plan.labels.index(flipping.label)
    assert plan.configs[place] == by_hand.model_part()
    assert set(labels) == set(plan.labels)


def test_starts_are_tried_first(tmp_path: Path):
    starts = "optimise.start=[{adversary: flipper}, {signature.cooldown_steps: 3}]"
    config = composed(tmp_path, starts)
    points = points_so_far(config)
    assert [p.label for p in points] == ["start", "t2", "t3", "t4"]
    assert points[0].settings["adversary"]["kind"] == "flipper"
    assert points[1].settings["signature"]["cooldown_steps"] == 3
    search = config.optimise.model_copy(update={"start": ()})
    none = points_so_far(config.model_copy(update={"optimise": search}))
    assert [p.label for p in none] == ["t1", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimise.factors=null"], r"optimise.factors: say what may vary"),
        (["optimise.factors={adversery: [none]}"], r"no key 'adversery'; did you mean adversary"),
        (["optimise.factors={simulation.nodes: 30}"], "a factor is a range"),
        (["optimise.factors={adversary: [none, lier]}"], "lier"),
        (["optimise.factors={executor.nice: [1, 2]}"], "never changes a result"),
        (["optimise.trials=0"], r"optimise.trials: .*greater than or equal to 1"),
        (["optimise.metric=f11"], "no metric 'f11': did you mean f1"),
        (["optimise.metric=null"], r"say what for"),
        (["design=sobol", "design.factors={voting.min_history: [1]}"], "chooses its points itself"),
        (["+study=quickstart"], "chooses its points itself"),
        (["experiment.until={metrics: [f1], half_width: 1}"], r"same number of replicates"),
        (["optimise.start=[{voting.mode: judge}]"], "voting.mode is none of the factors"),
        (["optimise.start=[{adversary: sybil}]"], r"adversary='sybil' lies outside of its factor"),
        (["optimise.start=[{signature.cooldown_steps: 50}]"], r"outside of its factor \(2 to 10\)"),
        (["limits.max_runs=5"], "more than limits.max_runs=5"),
    ],
)
def test_what_cannot_be_is_refused_in_words(overrides: list[str], words: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=words):
        points_so_far(composed(tmp_path, *overrides))


def test_the_command_run_leaves_choosing_to_the_command_optimise():
    with pytest.raises(ConfigurationError, match="chosen by quorumlab optimise"):
        compose_experiment([FACTORS, "optimise.metric=f1"])


def test_an_experiment_of_another_kind_keeps_its_name(
    run_plainly: Callable[..., Any], tmp_path: Path
):
    run_plainly(SMALL, "experiment.name=best", "experiment.replicates=2", workspace=tmp_path)
    with pytest.raises(ConfigurationError, match="is no optimisation"):
        optimised(tmp_path)
