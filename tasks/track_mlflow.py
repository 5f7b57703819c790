"""Publication of an experiment to MLflow: an outbox that can be emptied again and again.

MLflow shows what the ledger says and can be rebuilt from it. One MLflow experiment holds all
experiments of a title, so that they can be compared; in it an experiment is a parent run, and
each of its runs a child. A run is looked for by its tags before it is created, what it holds has
timestamps that follow from the ledger, and it is marked complete last: whatever was interrupted,
publishing once more gives what publishing undisturbed would have given. In the workspace's own
MLflow, new runs are rows of its database, many in one transaction; everything else, and all of it
on a server, goes through MLflow's client.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim_core.bounded_queue import BoundedQueue, Consumer, QueueCounts
from sim_core.comparison.report import Report
from sim_core.config import ExperimentConfig, TrackingConfig
from sim_core.error_table import Trouble
from sim_core.faultpoints import reach
from sim_core.ledger.store import Ledger
from sim_core.results import Interval, RunRecord
from tasks.mlflow_content import (
    CURVES,
    PUBLISHED_STATES,
    Content,
    Point,
    child_content,
    curve_points,
    parent_content,
)
from tasks.mlflow_outbox import Outbox, Sample
from tasks.mlflow_rows import RunTable
from tasks.mlflow_store import (
    connected,
    explained,
    find_experiment,
    one_at_a_time,
    run_table,
    sparing_garbage_collection,
    tracking_address,
)

if TYPE_CHECKING:
    import pandas as pd

RUNS_AT_ONCE = 50
"""Runs that are written in one transaction at most."""
MOST_LETTERS = 2 * RUNS_AT_ONCE
"""Runs that are ready and wait for MLflow."""
MOST_LETTER_BYTES = 64 * 1024 * 1024
POINT_BYTES = 200
"""Of a point of a curve, as measured."""


@dataclass(frozen=True)
class Publication:
    """What there is to publish of an experiment, but for its steps."""

    config: ExperimentConfig
    """With where to publish."""
    name: str
    key: str
    """Of its content."""
    records: Sequence[RunRecord]
    """All of its runs."""
    points: Sequence[Mapping[str, Interval]]
    """Intervals of each point."""
    workspace: Path
    """Folder of everything that is kept."""
    validation_success: bool | None
    """The verdict of the validation; None without any."""
    comparison: Report | None = None
    """What distinguishes the points."""

    @property
    def verdict(self) -> str:
        """What is said of the validation."""
        return {None: "off", True: "passed", False: "failed"}[self.validation_success]

    @property
    def ended(self) -> list[RunRecord]:
        """Runs that are finished, failed or quarantined; others wait until they are."""
        return [record for record in self.records if record.state in PUBLISHED_STATES]

    def parent(self) -> Content:
        """Return what the parent run is to hold."""
        return parent_content(
            self.name, self.key, self.records, self.points, self.verdict, self.comparison
        )

    def child(self, record: RunRecord, parent: str) -> Content:
        """Return what the child of a run is to hold."""
        return child_content(record, self.name, parent, self.verdict)


def publish_experiment(
    ledger: Ledger,
    publication: Publication,
    steps: pd.DataFrame,
    samples: Sequence[Sample] = (),
    artifacts: Sequence[Path] = (),
    tell_counts: Callable[[QueueCounts], None] = lambda _: None,
) -> dict[str, str]:
    """Publish an experiment and return the MLflow run of each published run, by run key.

    What is there already stays as it is; what contradicts the ledger (an experiment that has grown,
    a run that was quarantined since) is deleted and made again, because MLflow changes no
    parameters and forgets no metrics.

    Args:
        ledger: Where it is noted that a run is published.
        publication: What to publish.
        steps: Frame of `sim_core.results.steps_frame`.
        samples: What machine and processes did meanwhile.
        artifacts: Files and folders to keep with the parent run.
        tell_counts: Is told how many runs went through the queue, even where publishing fails.

    Raises:
        Unavailable: MLflow does not answer, or refuses; publishing again goes on from there.
        ConfigurationError: no address of an MLflow server is given.
    """
    config, workspace = publication.config, publication.workspace
    if config.tracking.kind == "off":
        return {}
    address = tracking_address(config.tracking, workspace)
    with (
        explained(address),
        one_at_a_time(workspace),
        connected(address, workspace, config.tracking) as client,
        sparing_garbage_collection(),
    ):
        outbox = Outbox(client, find_experiment(client, config, workspace), publication.name)
        post = Post(ledger, outbox, run_table(config.tracking, workspace))
        about = publication.parent()
        if samples:
            about = replace(about, end_ms=max(about.end_ms, samples[-1].timestamp_ms))
        parent = outbox.adopt_or_create(about, "")
        outbox.add_data(parent.run, about.data)  # so that its children can refer to it
        queue = BoundedQueue[tuple[Letter, Sequence[Point]]](
            items=MOST_LETTERS, n_bytes=MOST_LETTER_BYTES
        )
        try:
            children = post.publish(letters(publication, steps, parent.run), queue)
        finally:
            tell_counts(queue.counts)
        outbox.add_samples(parent.run, samples)
        outbox.add_artifacts(parent.run, artifacts)
        if not parent.is_complete:
            outbox.fill_and_finish(parent, about, [])
    return children


def is_published(publication: Publication) -> bool:
    """Return whether the workspace's own MLflow holds just what publishing would leave there.

    MLflow itself, which takes seconds to import, is not asked. Where there is doubt, the answer is
    no.
    """
    abouts = [("", publication.parent())]
    abouts += [(record.run_id, publication.child(record, "")) for record in publication.ended]
    wanted = sorted((k, a.status, a.all_tags()["quorumlab.content"]) for k, a in abouts)
    try:
        table = run_table(publication.config.tracking, publication.workspace)
        return (
            table is not None
            and all(record.published for record in publication.ended)
            and table.contents(publication.name) == wanted
        )
    except sqlite3.Error:
        return False


@dataclass(frozen=True)
class Letter:
    """A run that is ready to be published."""

    record: RunRecord
    about: Content
    columns: Mapping[str, Any]
    """Of its steps, as `curve_points` takes them; empty where it has no curves."""

    def curves(self) -> list[Point]:
        """Return the points of its curves."""
        return curve_points(self.columns, self.about.start_ms) if self.columns else []


def letters(publication: Publication, steps: pd.DataFrame, parent: str) -> Iterator[Letter]:
    """Yield what is ready to be published of an experiment.

    Args:
        publication: The experiment.
        steps: Frame of `sim_core.results.steps_frame`.
        parent: Its MLflow run.
    """
    places = steps.groupby("run_id", sort=False).indices
    columns = {column: steps[column].to_numpy() for column in ("step", *CURVES.values())}
    nowhere = np.array([], dtype=int)
    for record in publication.ended:
        mine: dict[str, Any] = {}
        if record.state != "quarantined":
            rows = places.get(record.run_id, nowhere)
            mine = {column: values[rows] for column, values in columns.items()}
        yield Letter(record, publication.child(record, parent), mine)


class Post:
    """Brings the runs of an experiment to MLflow, and notes in the ledger that they are there."""

    def __init__(self, ledger: Ledger, outbox: Outbox, table: RunTable | None) -> None:
        """Write new runs into `table`; without one they go through MLflow's client."""
        self._ledger, self._outbox, self._table = ledger, outbox, table

    def publish(
        self, ready: Iterator[Letter], queue: BoundedQueue[tuple[Letter, Sequence[Point]]]
    ) -> dict[str, str]:
        """Return the MLflow run of each run, by its key: one thread writes, this one makes curves."""
        published: dict[str, str] = {}
        at_once = 1 if self._table is None else RUNS_AT_ONCE
        with Consumer(
            "publication", queue, lambda batch: published.update(self._send(batch)), at_once
        ) as sender:
            for letter in ready:
                is_there = self._outbox.has(letter.about, letter.record.run_id)
                curves = [] if is_there else letter.curves()
                sender.put((letter, curves), POINT_BYTES * len(curves))
        return published

    def _send(self, batch: Sequence[tuple[Letter, Sequence[Point]]]) -> dict[str, str]:
        """Publish runs; note them in the ledger as soon as they are complete."""
        sent: dict[str, str] = {}
        new: list[tuple[Letter, Sequence[Point]]] = []
        for letter, curves in batch:
            key, about = letter.record.run_id, letter.about
            slot = self._outbox.adopt(about, key, letter.record.mlflow_run_id)
            if slot is None and self._table is not None:
                new.append((letter, curves))
                continue
            slot = slot or self._outbox.create(about)
            if not slot.is_complete:
                self._outbox.fill_and_finish(slot, about, curves)
                reach("publish.finished")
            sent[key] = slot.run
        if new and self._table is not None:
            rows = [(letter.about, curves) for letter, curves in new]
            ids = self._table.add(self._outbox.experiment_id, rows)
            reach("publish.finished")
            sent |= {letter.record.run_id: run for (letter, _), run in zip(new, ids, strict=True)}
        unknown = {
            record.number: sent[record.run_id]
            for record in (letter.record for letter, _ in batch)
            if not record.published or record.mlflow_run_id != sent[record.run_id]
        }
        if unknown:
            self._ledger.set_published(self._outbox.name, unknown)
        return sent


def delete_published(tracking: TrackingConfig, title: str, name: str, workspace: Path) -> int:
    """Delete what MLflow has of an experiment, and return how many runs that were.

    MLflow keeps what is deleted until `mlflow gc`; files of the workspace's own MLflow go at once.

    Args:
        tracking: Where the experiment was published.
        title: Name of the MLflow experiment that it is in.
        name: The experiment's name.
        workspace: Folder of everything that is kept.

    Raises:
        Unavailable: MLflow does not answer, or refuses; nothing or a part is deleted.
    """
    is_local = tracking.kind == "mlflow_local"
    if is_local and not (workspace.absolute() / "mlflow.db").exists():
        return 0
    address = tracking_address(tracking, workspace)
    with (
        explained(address, Trouble.MLFLOW_UNDELETED),
        one_at_a_time(workspace),
        connected(address, workspace, tracking) as client,
    ):
        found = client.get_experiment_by_name(title)
        if found is None:
            return 0
        return Outbox(client, str(found.experiment_id), name).delete_all(
            workspace.absolute() / "mlartifacts" if is_local else None
        )
