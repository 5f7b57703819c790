"""The ways from a flow's page into MLflow, and its table of results."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import psutil
import pytest

from flows.dashboard.tracked import tracked
from flows.mlflow_pages import mlflow_links
from flows.service import MLFLOW, RECORD, Service
from sim_core.config import TrackingConfig
from sim_core.results import MAIN_METRICS, Findings, Interval
from tasks.mlflow_places import published_of
from tasks.show_in_prefect import MOST_COLUMNS, result_rows
from tests.ports import free_port

SMALL = (
    "experiment.name=linked", "experiment.replicates=2", "simulation.nodes=8", "simulation.steps=10",
    "tracking=mlflow_local", "+points.honest=[]", "+points.liars=['adversary=poisoner']",
)  # fmt: skip
LOCAL = TrackingConfig()


def test_links_lead_to_the_runs_of_the_experiment(
    run_plainly: Callable[..., Any], tmp_path: Path
) -> None:
    run_plainly(*SMALL)
    workspace = tmp_path / "workspace"
    assert mlflow_links("linked", LOCAL, workspace) == {}, "no server was started"
    me = psutil.Process(os.getpid())
    address = "http://127.0.0.1:5000"
    served = Service(MLFLOW, me.pid, me.create_time(), address, f"{address}/health", "log")
    (workspace / RECORD).write_text(json.dumps([asdict(served)]))
    links = mlflow_links("linked", LOCAL, workspace)
    with sqlite3.connect(workspace / "mlflow.db") as database:
        statement = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"
        runs = {row[0] for row in database.execute(statement)}
    assert len(runs) == 4
    side_by_side = unquote(links["Runs side by side in MLflow"])
    assert set(json.loads(parse_qs(side_by_side.partition("?")[2])["runs"][0])) == runs
    every = links["All runs in MLflow"]
    assert every.startswith(f"{address}/#/experiments/")
    assert "tags.\"quorumlab.experiment\" = 'linked'" in unquote(every)
    assert mlflow_links("other", LOCAL, workspace) == {}

    shown = tracked(workspace, "linked")
    assert (shown.state, shown.n_runs, shown.trouble) == ("finished", 4, None)
    assert {**links}.items() < shown.links.items()
    with closing(sqlite3.connect(workspace / "mlflow.db")) as database:
        statement = "SELECT run_uuid FROM tags WHERE value = 'experiment'"
        ((parent,),) = database.execute(statement)
    assert shown.links["The experiment in MLflow"].endswith(f"/runs/{parent}")
    assert tracked(workspace, "other").state is None
    before = published_of("linked", LOCAL, workspace)
    with closing(sqlite3.connect(workspace / "mlflow.db")) as database:
        database.execute("ALTER TABLE tags ADD COLUMN other TEXT")  # as of another version
    asked = published_of("linked", LOCAL, workspace)
    assert (asked.parent, set(asked.places)) == (before.parent, set(before.places))


def test_mlflow_that_is_away_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, though it is long enough for one")
    assert "mlflow.db" in str(tracked(tmp_path, "linked").trouble)
    address = f"http://somebody:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trouble = str(tracked(tmp_path, "linked").trouble)
    assert "127.0.0.1" in trouble
    assert "secret" not in trouble


def found(n_points: int) -> Findings:
    interval = Interval(n=3, mean=0.5, ci_low=0.4, ci_high=0.6, sd=0.1)
    points = [{"f1": interval} for _ in range(n_points)]
    described = [{"label": f"p{n}"} for n in range(n_points)]
    nothing: Any = None
    return Findings([], points, described, nothing)


def test_few_points_are_columns_and_many_are_rows() -> None:
    few = result_rows(found(MOST_COLUMNS))
    assert [row["metric"] for row in few] == list(MAIN_METRICS)
    assert list(few[0]) == ["metric", *(f"p{n} (n=3)" for n in range(MOST_COLUMNS))]
    many = result_rows(found(MOST_COLUMNS + 1))
    assert [row["point"] for row in many] == [f"p{n}" for n in range(MOST_COLUMNS + 1)]
    assert many[0]["f1"] == next(row["p0 (n=3)"] for row in few if row["metric"] == "f1")
