"""The verdict on an optimisation, in sentences."""

from __future__ import annotations

from sim_core.comparison.verdicts import Verdict
from sim_core.comparison.wording import plain
from sim_core.optimisation.report import Optimisation
from sim_core.optimisation.trials import Trial
from sim_core.results import in_words


def verdict(found: Optimisation) -> list[str]:
    """Return the sentence that says what was found, then those that say how far to trust it."""
    if not found.best:
        return [_nothing(found)]
    several = len(found.aim.goals) > 1
    lines = _front(found) if several else [_best(found)]
    lines += _start_broken(found)
    for trial in found.best:
        broken = found.broken_after_all(trial)
        if broken:
            lines.append(f"On fresh replicates {trial.label} breaks {', '.join(broken)}.")
    return lines + _trust(found)


def _nothing(found: Optimisation) -> str:
    n = f"{len(found.trials)} trials"
    with_result = [t for t in found.trials if t.values is not None]
    if not with_result:
        reason = next((t.reason for t in found.trials if t.reason), "")
        return f"None of {n} has a result. The first: {reason}."
    names = " and ".join(map(str, found.aim.constraints))
    nearest = min(with_result, key=lambda t: sum(max(0.0, part) for part in t.excess))
    over = ", ".join(
        f"{constraint.metric} {plain(nearest.means[constraint.metric].mean)}"
        for constraint in found.aim.constraints
    )
    return f"None of {n} keeps {names}. The nearest is {nearest.label} ({over})."


def _best(found: Optimisation) -> str:
    trial, metric = found.best[0], found.aim.goals[0].metric
    n = f"{len(found.trials)} trials"
    if found.start is not None and trial.label == found.start.label:
        return f"Nothing better than the start was found in {n}: {_value(found, trial, metric)}."
    found_before = f"{trial.label} is the best of {n}"
    comparisons = found.comparisons_of(trial)
    if not comparisons:
        return f"{found_before}: {_value(found, trial, metric)}."
    comparison = comparisons[0]
    replicates = f"{comparison.found.n} fresh replicates"
    if comparison.is_finding:
        return f"{found_before}. On {replicates}, {comparison.sentence}."
    if comparison.verdict == Verdict.TOO_FEW:
        return f"{found_before}, but {replicates} cannot tell it from the start. {comparison.sentence}."
    return f"{found_before}, but not better than the start on {replicates}: {comparison.sentence}."


def _start_broken(found: Optimisation) -> list[str]:
    """Return that what the best is compared with is no choice itself, where that is so."""
    start = found.start
    if start is None or start.values is None:
        return []
    broken = [
        f"{constraint} (it is {plain(start.means[constraint.metric].mean)})"
        for constraint, excess in zip(found.aim.constraints, start.excess, strict=True)
        if excess > 0
    ]
    return [f"The start breaks {', '.join(broken)}."] if broken else []


def _value(found: Optimisation, trial: Trial, metric: str) -> str:
    fresh = found.fresh.get(trial.label, {}).get(metric)
    if fresh is not None and fresh.mean is not None:
        return f"{metric} is {in_words(fresh)} on {fresh.n} fresh replicates"
    return f"{metric} is {in_words(trial.means[metric])} on the replicates that it was chosen by"


def _front(found: Optimisation) -> list[str]:
    names = " and ".join(f"{goal.verb} {goal.metric}" for goal in found.aim.goals)
    n, front = len(found.trials), len(found.best)
    one = "1 trial that no other" if front == 1 else f"{front} trials, of which none"
    lines = [f"To {names}, {n} trials leave a front of {one} is beaten in everything."]
    if front == 1:
        lines = [f"To {names}, {found.best[0].label} is at least as good as all {n} trials."]
    shown = [c for trial in found.best for c in found.comparisons_of(trial) if c.is_finding]
    if found.comparison is not None:
        better = sum(c.verdict == Verdict.BETTER for c in shown)
        worse = sum(c.verdict == Verdict.WORSE for c in shown)
        n_compared = len(found.comparison.comparisons)
        lines.append(
            f"On fresh replicates, of {n_compared} comparisons with the start {better} show better and "
            f"{worse} worse values (p after Holm)."
        )
    return lines


def _ties(found: Optimisation) -> int:
    if len(found.aim.goals) > 1:
        return 0
    values = found.best[0].values
    return sum(t.is_feasible and t.values == values for t in found.trials) - 1


def _trust(found: Optimisation) -> list[str]:
    """Return what noise there is, and how much the choice by it flatters the best."""
    lines = _tied(found)
    for goal in found.aim.goals:
        lines.append(_noise(found, goal.metric))
        by = found.flattery_of(found.best[0], goal.metric)
        if by and len(found.aim.goals) == 1:
            word = "better" if goal.gain(by) > 0 else "worse"
            lines.append(
                f"The mean that {found.best[0].label} was chosen by is {word} than its fresh one by "
                f"{plain(abs(by))}."
            )
    if not found.fresh:
        lines.append(
            "The best of many noisy means is the best partly by luck: optimise.confirm=5 looks at it "
            "again on fresh replicates."
        )
    return lines


def _tied(found: Optimisation) -> list[str]:
    """Return which goals no factor moves, or how many trials are as good as the best."""
    values = [trial.values for trial in found.trials if trial.values is not None]
    same = [
        goal.metric
        for index, goal in enumerate(found.aim.goals)
        if len(values) > 1 and len({each[index] for each in values}) == 1
    ]
    if same:
        names = " and ".join(same)
        return [f"All trials have the same {names}: no factor moves it within its range here."]
    ties = _ties(found)
    others = "1 other trial has" if ties == 1 else f"{ties} other trials have"
    return [f"{others} the same mean as {found.best[0].label}, which came first."] if ties else []


def _noise(found: Optimisation, metric: str) -> str:
    noise = found.noise_of(metric)
    if noise is None:
        return f"With one replicate per trial nobody knows the noise of {metric}: take two or more."
    if noise == 0:
        return f"The replicates of each trial have the same {metric}."
    return (
        f"A trial's mean {metric} over {found.replicates} replicates has a standard error of "
        f"{plain(noise)}."
    )
