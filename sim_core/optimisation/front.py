"""Which trials are the best: one of a single goal, a front of several."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.optimisation.goals import Aim
from sim_core.optimisation.trials import Trial


def best_trials(trials: Sequence[Trial], aim: Aim) -> list[Trial]:
    """Return the trial that is best, of several goals those that no other is better than in all.

    Only trials that keep all constraints count; of equal ones the first.
    """
    allowed = [trial for trial in trials if trial.is_feasible]
    gains = {trial.number: gains_of(trial, aim) for trial in allowed}
    if len(aim.goals) == 1:
        return sorted(allowed, key=lambda t: (-gains[t.number][0], t.number))[:1]
    front: list[Trial] = []
    # Whoever dominates another comes before it in this order, so that the front so far is enough.
    for trial in sorted(allowed, key=lambda t: ([-gain for gain in gains[t.number]], t.number)):
        mine = gains[trial.number]
        if not any(covers(gains[other.number], mine) for other in front):
            front.append(trial)
    return front


def covers(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the first is at least as good in everything.

    >>> covers((2.0, 1.0), (1.0, 1.0)), covers((2.0, 0.0), (1.0, 1.0))
    (True, False)
    """
    return all(a >= b for a, b in zip(one, other, strict=True))


def gains_of(trial: Trial, aim: Aim) -> tuple[float, ...]:
    """Return the values of a trial with a result so that more is better."""
    assert trial.values is not None
    return tuple(goal.gain(value) for goal, value in zip(aim.goals, trial.values, strict=True))


def best_so_far(trials: Sequence[Trial], aim: Aim) -> list[float | None]:
    """Return the best value of a single goal after each trial; None before any that is allowed."""
    goal = aim.goals[0]
    best: float | None = None
    course = []
    for trial in trials:
        if trial.is_feasible and trial.values is not None:
            value = trial.values[0]
            best = value if best is None or goal.gain(value) > goal.gain(best) else best
        course.append(best)
    return course
