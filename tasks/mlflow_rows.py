"""New runs, written straight into the workspace's own MLflow database.

MLflow makes objects of each parameter and point, looks each up, and takes seven transactions for a
run; here the rows of many runs are one. What MLflow then has is what its own client would have
written, and where its tables have other columns than these, that is what writes.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sim_core.faultpoints import reach
from tasks.mlflow_content import DATA_CONTEXT, Content, Point, summary_points

COLUMNS = {
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time "
    "end_time source_version lifecycle_stage artifact_uri experiment_id deleted_time",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp step is_nan run_uuid",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
    "inputs": "input_uuid source_type source_id destination_type destination_id step",
    "input_tags": "input_uuid name value",
}
"""Tables and all of their columns, in the order in which they are written."""
BUSY_SECONDS = 60.0
"""How long to wait for somebody else who writes."""
CONTENTS = """
    SELECT coalesce(of.value, ''), runs.status, coalesce(content.value, '') FROM tags
    JOIN runs ON runs.run_uuid = tags.run_uuid AND runs.lifecycle_stage = 'active'
    LEFT JOIN tags AS of ON of.run_uuid = tags.run_uuid AND of.key = 'quorumlab.run_key'
    LEFT JOIN tags AS content
        ON content.run_uuid = tags.run_uuid AND content.key = 'quorumlab.content'
    WHERE tags.key = 'quorumlab.experiment' AND tags.value = ?"""
PLACES = """
    SELECT runs.experiment_id, runs.run_uuid, point.value, CAST(replicate.value AS INTEGER) FROM tags
    JOIN runs ON runs.run_uuid = tags.run_uuid
        AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED'
    JOIN tags AS point ON point.run_uuid = tags.run_uuid AND point.key = 'quorumlab.point'
    JOIN tags AS replicate
        ON replicate.run_uuid = tags.run_uuid AND replicate.key = 'quorumlab.replicate'
    WHERE tags.key = 'quorumlab.experiment' AND tags.value = ?"""
PARENT = """
    SELECT runs.experiment_id, runs.run_uuid, coalesce(state.value, '') FROM tags
    JOIN runs ON runs.run_uuid = tags.run_uuid AND runs.lifecycle_stage = 'active'
    JOIN tags AS kind
        ON kind.run_uuid = tags.run_uuid AND kind.key = 'quorumlab.kind' AND kind.value = 'experiment'
    LEFT JOIN tags AS state ON state.run_uuid = tags.run_uuid AND state.key = 'quorumlab.state'
    WHERE tags.key = 'quorumlab.experiment' AND tags.value = ?"""
NewRun = tuple[Content, Sequence[Point]]
"""What a run holds, and its curves."""


class Place(NamedTuple):
    """Where MLflow has a run."""

    experiment_id: str
    run: str
    """Its id in MLflow."""
    point: str
    replicate: int


class Parent(NamedTuple):
    """The run of an experiment itself."""

    experiment_id: str
    run: str
    """Its id in MLflow."""
    state: str


class RunTable:
    """The tables of one MLflow database that runs are kept in."""

    def __init__(self, path: Path) -> None:
        """Use the database in a file, see `fits`."""
        self._path = path

    def fits(self) -> bool:
        """Return whether the tables have the columns that are written, and no others."""
        with closing(sqlite3.connect(self._path)) as database:
            return all(
                {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
                == set(columns.split())
                for table, columns in COLUMNS.items()
            )

    def add(self, experiment_id: str, runs: Sequence[NewRun]) -> list[str]:
        """Add complete runs in one transaction: all of them are there then, or none.

        What they read has to be known to the experiment already.

        Args:
            experiment_id: The MLflow experiment that they belong to.
            runs: What they hold.

        Returns:
            Their ids.

        Raises:
            sqlite3.Error: the database does not write.
        """
        ids = [uuid.uuid4().hex for _ in runs]
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
            database.execute("BEGIN IMMEDIATE")
            place = database.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?",
                (experiment_id,),
            ).fetchone()[0]
            data = {
                (name, digest): dataset
                for dataset, name, digest in database.execute(
                    "SELECT dataset_uuid, name, digest FROM datasets WHERE experiment_id = ?",
                    (experiment_id,),
                )
            }
            for table, columns in COLUMNS.items():
                names = columns.split()
                marks = ", ".join("?" * len(names))
                statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
                rows = (
                    row
                    for run, (about, curves) in zip(ids, runs, strict=True)
                    for row in _rows(table, run, about, curves, _Home(experiment_id, place, data))
                )
                database.executemany(statement, rows)
            reach("publish.rows")
        return ids

    def contents(self, name: str) -> list[tuple[str, str, str]]:
        """Return run key, status and content of each run of an experiment that is not deleted, sorted.

        The parent has no run key. A run that was not completed has no content either.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database:
            return sorted(database.execute(CONTENTS, (name,)))

    def places(self, name: str) -> list[Place]:
        """Return where the finished runs of an experiment are.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database:
            return [
                Place(str(number), *rest) for number, *rest in database.execute(PLACES, (name,))
            ]

    def parent(self, name: str) -> Parent | None:
        """Return the run of an experiment itself; None where it is not published.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database:
            found = database.execute(PARENT, (name,)).fetchone()
        return None if found is None else Parent(str(found[0]), *found[1:])


class _Home(NamedTuple):
    """The MLflow experiment that runs belong to."""

    experiment_id: str
    artifacts: str
    """Where it keeps files."""
    data: Mapping[tuple[str, str], str]
    """Ids of the data sets that it knows, by name and digest."""


def _rows(
    table: str, run: str, about: Content, curves: Sequence[Point], home: _Home
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one run in a table."""
    if table == "runs":
        files = f"{home.artifacts}/{run}/artifacts"
        times = about.start_ms, about.end_ms
        kind = "UNKNOWN", "", "", "unknown"  # source and user, which tags say
        state = "", "active", files, int(home.experiment_id), None
        yield (run, about.name, *kind, about.status, *times, *state)
    elif table == "tags":
        yield from ((key, value, run) for key, value in about.all_tags().items())
    elif table == "params":
        yield from ((key, value, run) for key, value in about.params.items())
    elif table in ("inputs", "input_tags"):
        for file in about.data:
            dataset = home.data[file]
            use = uuid.uuid5(uuid.NAMESPACE_OID, run + dataset).hex
            if table == "inputs":
                yield use, "DATASET", dataset, "RUN", run, 0
            else:
                yield use, "mlflow.data.context", DATA_CONTEXT
    else:
        points = [*summary_points(about), *curves]
        if table == "latest_metrics":
            points = list({point.key: point for point in points}.values())  # steps ascend
        yield from ((*point, 0, run) for point in points)
