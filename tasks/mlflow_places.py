"""Where MLflow has the runs of an experiment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sim_core.config import TrackingConfig
from sim_core.error_table import Trouble
from sim_core.errors import Unavailable
from tasks.mlflow_rows import Parent, Place
from tasks.mlflow_store import connected, explained, run_table, tracking_address

if TYPE_CHECKING:  # importing mlflow takes seconds: functions do it when they need it
    from mlflow import MlflowClient
    from mlflow.entities import Run

MOST_RUNS = 1000
"""That MLflow gives at once."""


@dataclass(frozen=True)
class Published:
    """What MLflow has of an experiment."""

    parent: Parent | None
    """The run of the experiment itself; None where it is not published."""
    places: tuple[Place, ...]
    """Its finished runs."""


def published_of(name: str, tracking: TrackingConfig, workspace: Path) -> Published:
    """Return what MLflow has of an experiment; of the workspace's own MLflow without importing it.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
        ConfigurationError: no address of an MLflow server is given.
    """
    address = tracking_address(tracking, workspace)
    try:
        if tracking.kind == "mlflow_local" and not (workspace / "mlflow.db").exists():
            return Published(None, ())
        table = run_table(tracking, workspace)
        if table is not None:
            return Published(table.parent(name), tuple(table.places(name)))
    except sqlite3.Error as error:
        raise Unavailable(Trouble.MLFLOW_AWAY.tell(place=address, reason=error)) from error
    with explained(address), connected(address, workspace, tracking) as client:
        return _asked(list(_runs(client, name)))


def _runs(client: MlflowClient, name: str) -> Iterator[Run]:
    numbers = [found.experiment_id for found in client.search_experiments()]
    token: str | None = None
    while True:
        page = client.search_runs(
            numbers,
            filter_string=f"tags.`quorumlab.experiment` = '{name}'",
            max_results=MOST_RUNS,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _asked(runs: list[Run]) -> Published:
    parent, places = None, []
    for run in runs:
        tags, where = run.data.tags, (run.info.experiment_id, run.info.run_id)
        if tags.get("quorumlab.kind") == "experiment":
            parent = Parent(*where, tags.get("quorumlab.state", ""))
        elif run.info.status == "FINISHED" and "quorumlab.point" in tags:
            number = int(tags["quorumlab.replicate"])
            places.append(Place(*where, tags["quorumlab.point"], number))
    return Published(parent, tuple(places))
