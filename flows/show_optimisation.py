"""What an optimisation has found, as people read it: the verdict first, then tables; and its files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.optimisation_words import verdict
from sim_core.comparison.wording import plain
from sim_core.optimisation.front import best_trials, gains_of
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.report import Optimisation, document
from sim_core.optimisation.trials import Trial
from sim_core.results import in_words
from sim_core.workspace import write_whole

if TYPE_CHECKING:
    from flows.bench import Bench

DOCUMENT = "optimisation.json"
PLOT = "optimisation.png"
MOST_ROWS = 10
"""Trials of a table: those of the front first, then the next best."""
MOST_FAILED = 5
BAR = 20
WIDEST_NAME = 13
"""Letters of a metric's name in one line of a table's head."""


def show_optimisation(found: Optimisation, console: Console) -> None:
    """Print the verdict, the best trials, what matters, and what failed."""
    first, *others = verdict(found)
    console.print(f"[bold]{escape(first)}[/]", highlight=False)
    for line in others:
        console.print(escape(line), highlight=False)
    console.print(trials_table(found))
    if found.importances:
        console.print(importance_table(found))
    for trial in found.failed[:MOST_FAILED]:
        console.print(
            f"[yellow]{trial.label} failed:[/] {escape(str(trial.reason))}", highlight=False
        )
    if len(found.failed) > MOST_FAILED:
        console.print(f"[yellow]and {len(found.failed) - MOST_FAILED} more:[/] {DOCUMENT}")


def progress_line(aim: Aim, trials: Sequence[Trial], wanted: int, seconds: float) -> str:
    """Return how far an optimisation is, in a line."""
    best = best_trials(trials, aim)
    text = f"{len(trials)} of {max(wanted, len(trials))} trials"
    if not best:
        text += ", none that keeps the constraints" if aim.constraints else ", none with a result"
    elif len(aim.goals) == 1 and best[0].values is not None:
        value = plain(best[0].values[0])
        text += f", best {aim.goals[0].metric} {value} ({best[0].label})"
    else:
        text += f", {len(best)} of them in the front"
    failed = sum(trial.values is None for trial in trials)
    text += f", {failed} failed" if failed else ""
    left = f"; {_duration(seconds)} left" if seconds and len(trials) < wanted else ""
    return f"[cyan]•[/] {escape(text)}{left}"


def _duration(seconds: float) -> str:
    """Return about how long something takes.

    >>> _duration(42.0), _duration(400.0)
    ('about 42 s', 'about 7 min')
    """
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def shown_trials(found: Optimisation) -> list[Trial]:
    """Return the trials of the table: the best, the start, then those that come next."""
    first = list(found.best)
    if found.start is not None and found.start not in first:
        first.append(found.start)
    rest = [t for t in found.trials if t.is_feasible and t not in first]
    ordered = sorted(rest, key=lambda t: [-gain for gain in gains_of(t, found.aim)])
    return [*first, *ordered[: max(0, MOST_ROWS - len(first))]]


def trials_table(found: Optimisation) -> Table:
    """Return the best trials with their values and what they gave."""
    shown = shown_trials(found)
    few = f" ({len(shown)} of {len(found.trials)})" if len(shown) < len(found.trials) else ""
    table = Table(
        title=f"trials{few}: mean ± half of the 95 % interval",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("trial", no_wrap=True)
    for key in short_keys(found.keys):
        table.add_column(escape(key), justify="right", overflow="fold")
    for metric in found.aim.metrics:
        table.add_column(in_lines(metric), justify="right", overflow="fold")
        if found.fresh:
            table.add_column("fresh", justify="right")
    for trial in shown:
        style = "bold" if trial in found.best else None
        table.add_row(trial.label, *map(_cell, trial.row), *_figures(found, trial), style=style)
    return table


def in_lines(name: str) -> str:
    """Return a name in lines that end after its words, where it is longer than a column should be.

    >>> in_lines("recall").splitlines(), in_lines("benign_blocked_share").splitlines()
    (['recall'], ['benign_', 'blocked_share'])
    """
    lines = [""]
    for part in re.findall("[^_]*_|[^_]+", name):
        if lines[-1] and len(lines[-1] + part) > WIDEST_NAME:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def short_keys(keys: Sequence[str]) -> list[str]:
    """Return the last parts of keys where those differ.

    >>> short_keys(["adversary.share", "voting.mode"]), short_keys(["a.share", "b.share"])
    (['share', 'mode'], ['a.share', 'b.share'])
    """
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def _figures(found: Optimisation, trial: Trial) -> list[str]:
    again = found.fresh.get(trial.label, {})
    cells = []
    for metric in found.aim.metrics:
        cells.append(in_words(trial.means.get(metric)))
        if found.fresh:
            cells.append(in_words(again.get(metric)))
    return cells


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def importance_table(found: Optimisation) -> Table:
    """Return how much of the variance of each goal, over the trials, each factor explains."""
    table = Table(
        title="what matters: share of a goal's variance over the factors' ranges (fANOVA)",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("factor", no_wrap=True)
    for metric in found.importances:
        table.add_column(metric, min_width=BAR + 6)
    for key in found.keys:
        shares = [parts.get(key, 0.0) for parts in found.importances.values()]
        table.add_row(
            escape(key), *(f"{share:4.0%} {'█' * round(BAR * share)}" for share in shares)
        )
    return table


def write_optimisation(bench: Bench, found: Optimisation) -> None:
    """Write `optimisation.json` into the experiment's folder."""
    content = document(found, bench.plan.name, verdict(found))
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_whole(bench.folder / DOCUMENT, text)
