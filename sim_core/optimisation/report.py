"""What an optimisation has found: the best point, how sure that is, and what it was chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import Comparison, SmallestEffect
from sim_core.config import ExperimentConfig
from sim_core.config.optimise import OptimiseConfig
from sim_core.optimisation.asking import importances, sampler_seed
from sim_core.optimisation.front import best_so_far, best_trials
from sim_core.optimisation.goals import Aim, aim_of
from sim_core.optimisation.trials import Trial, values_of
from sim_core.results import Interval, RunRecord, interval


@dataclass(frozen=True)
class Optimisation:
    """The trials of an experiment, and what distinguishes the best from the start."""

    settings: OptimiseConfig
    seed: int
    """Of the sampler."""
    replicates: int
    """Of each trial, by whose means trials were chosen."""
    aim: Aim
    trials: tuple[Trial, ...]
    best: tuple[Trial, ...]
    """The best, of several goals the front; none where no trial keeps the constraints."""
    start: Trial | None
    """What the best is compared with."""
    fresh: Mapping[str, Mapping[str, Interval]]
    """Per label of the best and the start, per metric, over replicates that no choice was made by."""
    comparison: Report | None
    """Of the best with the start, on fresh replicates."""
    importances: Mapping[str, Mapping[str, float]]

    @property
    def keys(self) -> tuple[str, ...]:
        """The factors."""
        return tuple(self.settings.factors)

    @property
    def failed(self) -> list[Trial]:
        """Trials without a result."""
        return [trial for trial in self.trials if trial.values is None]

    def comparisons_of(self, trial: Trial) -> list[Comparison]:
        """Return what is known of a trial against the start, a comparison per goal."""
        found = self.comparison.comparisons if self.comparison else ()
        goals = {goal.metric for goal in self.aim.goals}
        return [c for c in found if c.point == trial.label and c.metric in goals]

    def broken_after_all(self, trial: Trial) -> list[str]:
        """Return the constraints that a trial breaks on fresh replicates, in words."""
        found = self.fresh.get(trial.label, {})
        means = [(c, found[c.metric].mean) for c in self.aim.constraints if c.metric in found]
        return [f"{c} (it is {m:.4g})" for c, m in means if m is not None and c.excess(m) > 0]

    def noise_of(self, metric: str) -> float | None:
        """Return the standard error of a trial's mean, pooled over trials; None of one replicate."""
        found = [t.means[metric] for t in self.trials if metric in t.means]
        squares = [i.sd**2 / i.n for i in found if i.sd is not None]
        return math.sqrt(sum(squares) / len(squares)) if squares else None

    def flattery_of(self, trial: Trial, metric: str) -> float | None:
        """Return by how much the mean that a trial was chosen by lies above that of fresh ones.

        The best of many means with noise is the best partly by luck (Jensen 2018, "selection bias").
        """
        searched, again = trial.means.get(metric), self.fresh.get(trial.label, {}).get(metric)
        if searched is None or again is None or searched.mean is None or again.mean is None:
            return None
        return searched.mean - again.mean


def optimisation_of(
    config: ExperimentConfig, trials: Sequence[Trial], records: Sequence[RunRecord]
) -> Optimisation:
    """Return what the trials of an experiment and their runs say."""
    settings = config.optimise
    aim = aim_of(settings, config.cost)
    best = best_trials(trials, aim)
    start = trials[0] if trials and settings.start != () else None
    labels = fresh_labels(best, start)
    again = fresh_records(records, labels, config)
    return Optimisation(
        settings=settings,
        seed=sampler_seed(settings, config.experiment.seed),
        replicates=config.experiment.replicates,
        aim=aim,
        trials=tuple(trials),
        best=tuple(best),
        start=start,
        fresh={
            label: {
                metric: interval([r.metrics.get(metric) for r in again if r.label == label])
                for metric in aim.metrics
            }
            for label in labels
            if any(r.label == label for r in again)
        },
        comparison=_compared(config, aim, labels, start, again),
        importances=importances(settings, aim, trials),
    )


def fresh_labels(best: Sequence[Trial], start: Trial | None) -> list[str]:
    """Return the labels of the points that are run again, the start first."""
    labels = [start.label] if start is not None and best else []
    return list(dict.fromkeys([*labels, *(trial.label for trial in best)]))


def fresh_records(
    records: Sequence[RunRecord], labels: Sequence[str], config: ExperimentConfig
) -> list[RunRecord]:
    """Return the finished runs of points by which no trial was chosen."""
    first = config.experiment.replicates
    fresh = range(first, first + config.optimise.confirm)
    return [
        r for r in records if r.label in labels and r.replicate in fresh and r.state == "finished"
    ]


def _compared(
    config: ExperimentConfig,
    aim: Aim,
    labels: Sequence[str],
    start: Trial | None,
    records: Sequence[RunRecord],
) -> Report | None:
    there = {record.label for record in records}
    others = [label for label in labels if label in there]
    if start is None or start.label not in there or len(others) < 2:
        return None
    goals = tuple(goal.metric for goal in aim.goals)
    smallest = SmallestEffect(config.comparison.smallest_effect)
    question = Question(start.label, goals, config.comparison.alpha, smallest)
    return compare(records, others, question)


def document(found: Optimisation, name: str, verdict: Sequence[str]) -> dict[str, Any]:
    """Return all of it as JSON has it."""
    best = {trial.number for trial in found.best}
    course = best_so_far(found.trials, found.aim) if len(found.aim.goals) == 1 else None
    return {
        "experiment": name,
        "verdict": list(verdict),
        "goals": [{"metric": g.metric, "direction": g.verb} for g in found.aim.goals],
        "constraints": [str(constraint) for constraint in found.aim.constraints],
        "sampler": found.settings.chooser,
        "seed": found.seed,
        "batch": found.settings.batch,
        "replicates": found.replicates,
        "fresh_replicates": found.settings.confirm,
        "start": found.start.label if found.start else None,
        "best": [trial.label for trial in found.best],
        "fresh": {
            label: {metric: asdict(i) for metric, i in metrics.items()}
            for label, metrics in found.fresh.items()
        },
        "comparisons": found.comparison.rows() if found.comparison else [],
        "noise": {goal.metric: found.noise_of(goal.metric) for goal in found.aim.goals},
        "flattery": {
            trial.label: {g.metric: found.flattery_of(trial, g.metric) for g in found.aim.goals}
            for trial in found.best
        },
        "importances": {metric: dict(shares) for metric, shares in found.importances.items()},
        "best_so_far": course,
        "trials": [
            {
                "number": trial.number,
                "point": trial.label,
                "values": values_of(trial, found.keys),
                "means": {metric: asdict(i) for metric, i in trial.means.items()},
                "is_feasible": trial.is_feasible,
                "is_best": trial.number in best,
                "failed": trial.reason,
            }
            for trial in found.trials
        ],
    }
