"""The verdict on an optimisation, in sentences."""

from __future__ import annotations

from sim_core.comparison.verdicts import Verdict
from sim_core.comparison.wording import plain, signed
from sim_core.optimisation.report import Optimisation
from sim_core.optimisation.trials import Trial
from sim_core.results import in_words


def verdict(found: Optimisation) -> list[str]:
    """Return the sentence that says what was found, then those that say how far to trust it."""
    if not found.best:
        return [_nothing(found)]
    several = len(found.aim.goals) > 1
    lines = _front(found) if several else [_best(found)]
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
    lines = []
    ties = _ties(found)
    if ties:
        others = "1 other trial has" if ties == 1 else f"{ties} other trials have"
        lines.append(f"{others} the same mean as {found.best[0].label}, which came first.")
    for goal in found.aim.goals:
        noise = found.noise_of(goal.metric)
        if noise is None:
            lines.append(
                f"With one replicate per trial nobody knows the noise of {goal.metric}: take two or more."
            )
            continue
        text = f"A trial's mean {goal.metric} over {found.replicates} replicates has a standard error of {plain(noise)}"
        if (
            len(found.aim.goals) == 1
            and (by := found.flattery_of(found.best[0], goal.metric)) is not None
        ):
            text += (
                f"; the one that the best was chosen by lies {signed(by, None)} from its fresh one"
            )
        lines.append(f"{text}.")
    if not found.fresh:
        lines.append(
            "The best of many noisy means is the best partly by luck: optimise.confirm=5 looks at it "
            "again on fresh replicates."
        )
    return lines
