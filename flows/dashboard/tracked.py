"""What MLflow has of an experiment and of benchmarks; where it is away, that is said, and the rest is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from flows.benchmarks.publishing import kept_history, published_history
from flows.benchmarks.trends import Past, trends_of
from flows.mlflow_pages import links_to, pages_address, tracking_here
from sim_core.errors import QuorumlabError
from tasks.mlflow_places import published_of

COLUMNS = ("case", "first", "newest", "unit", "change", "p", "benchmarks", "tendency")


@dataclass(frozen=True)
class Tracked:
    """What MLflow has of an experiment."""

    state: str | None = None
    """As it was published; None where it is not."""
    n_runs: int = 0
    links: dict[str, str] = field(default_factory=dict)
    """Pages by what they show."""
    trouble: str | None = None
    """Why nothing is known; None where MLflow has answered."""


@dataclass(frozen=True)
class Tendencies:
    """Where the cases of a suite tend on this machine."""

    table: pd.DataFrame
    source: str
    """Who has the history: MLflow, or the workspace's files."""
    trouble: str | None = None
    """Why it is not MLflow's."""


def tracked(folder: Path, name: str) -> Tracked:
    """Return what MLflow has of an experiment.

    Args:
        folder: The workspace.
        name: The experiment.
    """
    try:
        found = published_of(name, tracking_here(), folder)
        server = pages_address(folder)
    except QuorumlabError as error:
        return Tracked(trouble=str(error))
    if found.parent is None:
        return Tracked()
    links = {} if server is None else links_to(name, found, server)
    if server is not None:
        number, run = found.parent.experiment_id, found.parent.run
        links = {"The experiment in MLflow": f"{server}/#/experiments/{number}/runs/{run}", **links}
    return Tracked(found.parent.state, len(found.places), links)


def tendencies(folder: Path, suite: str) -> Tendencies:
    """Return where the cases of a suite tend over MLflow's history; without it over that of the files."""
    try:
        history = published_history(folder, suite, tracking_here().kind)
    except QuorumlabError as error:
        return Tendencies(_table(kept_history(folder, suite)), "files", str(error))
    if not history:
        return Tendencies(_table(kept_history(folder, suite)), "files")
    return Tendencies(_table(history), "MLflow")


def _table(history: list[Past]) -> pd.DataFrame:
    rows = [
        (
            each.name,
            each.medians[0],
            each.medians[-1],
            each.unit,
            each.change,
            each.p,
            len(each.medians),
            str(each.tendency),
        )
        for each in trends_of(history)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
