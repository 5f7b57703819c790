"""The course of an optimisation as a picture: values over trials, and the front of two goals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim_core.optimisation.front import best_so_far
from sim_core.optimisation.report import Optimisation
from sim_core.optimisation.trials import Trial
from tasks.draw_plots import DOTS_PER_INCH, GREY, STYLE, save_figure
from tasks.plots.style import PALETTE, words_of

if TYPE_CHECKING:  # matplotlib takes a second to import: only who draws pays for it
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN = PALETTE[:3]
PANEL = (7.6, 3.6)
"""Inches."""


def draw_optimisation(found: Optimisation, path: Path) -> Path:
    """Write a picture with a panel per goal, and one of the front where there are two goals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    goals = found.aim.goals
    n_panels = len(goals) + (len(goals) == 2)
    width, height = PANEL
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height * n_panels), dpi=DOTS_PER_INCH)
        panels = list(figure.subplots(n_panels, 1, squeeze=False).ravel())
        for index, panel in enumerate(panels[: len(goals)]):
            _draw_course(panel, found, index)
        if len(goals) == 2:
            _draw_front(panels[-1], found)
        save_figure(figure, path)
    return path


def _draw_course(axes: Axes, found: Optimisation, index: int) -> None:
    """Draw a goal over the numbers of trials: what was tried, and the best until then."""
    goal = found.aim.goals[index]
    kept, broken = _parted(found.trials)
    _scatter(axes, kept, index, GREY, "o", "trial")
    _scatter(axes, broken, index, ORANGE, "x", "breaks a constraint")
    if len(found.aim.goals) == 1:
        course = best_so_far(found.trials, found.aim)
        places = [(n, value) for n, value in enumerate(course, 1) if value is not None]
        if places:
            numbers, values = zip(*places, strict=True)
            axes.step(numbers, values, where="post", color=BLUE, label="best so far")
    _draw_fresh(axes, found, goal.metric)
    words = words_of(goal.metric)
    axes.set_title(f"{words.title}: {goal.verb}d over {len(found.trials)} trials")
    axes.set_xlabel("trial")
    axes.set_ylabel(words.axis)
    axes.locator_params(axis="x", integer=True)
    axes.legend(loc="best", fontsize=8)


def _scatter(
    axes: Axes, trials: Sequence[Trial], index: int, colour: str, marker: str, label: str
) -> None:
    values = [trial.values[index] for trial in trials if trial.values is not None]
    if values:
        axes.scatter(
            [t.number for t in trials], values, s=20, color=colour, marker=marker, label=label
        )


def _draw_fresh(axes: Axes, found: Optimisation, metric: str) -> None:
    """Draw what the best and the start have on fresh replicates, with 95 % intervals."""
    numbers = {trial.label: trial.number for trial in found.trials}
    label = "on fresh replicates, 95 %"
    for point, metrics in found.fresh.items():
        mean, low, high = (getattr(metrics[metric], k) for k in ("mean", "ci_low", "ci_high"))
        if mean is None:
            continue
        bars = None if low is None else [[mean - low], [high - mean]]
        place = [numbers[point]]
        axes.errorbar(place, [mean], yerr=bars, fmt="D", color=GREEN, capsize=3, label=label)
        label = "_"  # once in the legend


def _draw_front(axes: Axes, found: Optimisation) -> None:
    """Draw two goals against each other, with the trials that no other beats in both."""
    kept, broken = _parted(found.trials)
    for trials, colour, marker in ((kept, GREY, "o"), (broken, ORANGE, "x")):
        pairs = [trial.values for trial in trials if trial.values is not None]
        if pairs:
            across, up = zip(*pairs, strict=True)
            axes.scatter(across, up, s=20, color=colour, marker=marker)
    front = sorted(trial.values for trial in found.best if trial.values is not None)
    if front:
        across, up = zip(*front, strict=True)
        axes.plot(across, up, "o-", color=BLUE, label="front")
        axes.legend(loc="best", fontsize=8)
    first, second = (words_of(goal.metric) for goal in found.aim.goals)
    axes.set_title("Front")
    axes.set_xlabel(first.axis)
    axes.set_ylabel(second.axis)


def _parted(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Return the trials that keep all constraints, and those that break one; none that failed."""
    with_result = [trial for trial in trials if trial.values is not None]
    return (
        [trial for trial in with_result if trial.is_feasible],
        [trial for trial in with_result if not trial.is_feasible],
    )
