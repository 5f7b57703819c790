from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from sim_core.bounded_queue import BoundedQueue, QueueCounts
from sim_core.checkpoint import CheckpointFolder
from sim_core.comparison.report import Question, compare
from sim_core.config import ExperimentConfig, TrackingConfig
from sim_core.errors import ConfigurationError, Unavailable
from sim_core.identity import model_version, result_relevant
from sim_core.ledger.store import Ledger, open_engine
from sim_core.ledger.tables import Experiment
from sim_core.plan import Plan, Point, plan_runs
from sim_core.results import Findings, RunRecord, collect_findings
from sim_core.simulate import simulate
from tasks import mlflow_content, track_mlflow
from tasks.mlflow_content import CURVES, LONGEST_PARAM, curve_points, flat_params
from tasks.mlflow_rows import RunTable
from tasks.mlflow_store import prepare_store, run_table, tracking_address
from tasks.sample_resources import ResourceSample
from tasks.track_mlflow import (
    Publication,
    delete_published,
    is_published,
    publish_experiment,
)

STEPS = 10
PARENT = "mlflow.parentRunId"
POINTS = (
    Point(label="honest"),
    Point(label="poisoned", settings={"adversary": {"kind": "poisoner", "share": 0.25}}),
)
SAMPLES = [
    ResourceSample(1_700_000_000_000 + 1000 * i, {"system/cpu_utilization_percentage": 10.0 * i})
    for i in range(3)
]
CAMPAIGN = {"family": "ddos", "start": 3, "duration": 4, "flow_share": 0.5, "intensity": 3.0}


def make_config(workspace: Path, *, steps: int = STEPS, replicates: int = 2) -> ExperimentConfig:
    return ExperimentConfig.model_validate(
        {
            "workspace": workspace,
            "experiment": {"title": "trial", "name": "mine", "replicates": replicates},
            "simulation": {"nodes": 6, "flows_per_node": 8, "steps": steps},
            "traffic": {"kind": "synthetic", "warmup_flows": 64, "campaigns": [CAMPAIGN]},
            "metrics": {"auroc_every": 4},
        }
    )


class Workbench:
    """A workspace with an experiment, and what it publishes."""

    def __init__(self, folder: Path, **changes: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ledger = Ledger(
            open_engine(folder / "ledger.db"), CheckpointFolder(folder / "checkpoints")
        )
        self.run(**changes)

    def run(self, *, leave: int = 0, points: tuple[Point, ...] = POINTS, **changes: int) -> None:
        """Plan the experiment, and execute what is missing but for the last `leave` runs."""
        self.config = make_config(self.folder, **changes)
        self.plan: Plan = plan_runs(self.config, points)
        values = zip(self.plan.labels, self.plan.values, strict=True)
        row = Experiment(
            name=self.plan.name,
            key=self.plan.key,
            state="running",
            config={},
            points=[{"label": label, "settings": {}, "values": value} for label, value in values],
            environment={},
            created_at=1.0,
            updated_at=1.0,
        )
        planned = [(run.point, run.spec) for run in self.plan.runs]
        self.ledger.register(row, planned, model_version(), result_relevant)
        missing = [r["run_key"] for r in self.ledger.runs_of("mine") if r["summary"] is None]
        specs = [run.spec for run in self.plan.runs if run.spec.run_key in missing]
        for spec in specs[: len(specs) - leave]:
            [claim] = self.ledger.claim([spec])
            for segment in simulate(spec):
                self.ledger.commit(claim, segment)

    @property
    def findings(self) -> Findings:
        return collect_findings(self.ledger, "mine")

    def publication(self, config: ExperimentConfig | None = None) -> Publication:
        found = self.findings
        comparison = compare(found.records, found.labels, Question())
        return Publication(
            config or self.config,
            self.plan.name,
            self.plan.key,
            found.records,
            found.points,
            self.folder,
            validation_success=True,
            comparison=comparison,
        )

    def publish(
        self,
        config: ExperimentConfig | None = None,
        changes: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, str]:
        """Publish the experiment, or what it would be with changes."""
        publication = dataclasses.replace(self.publication(config), **(changes or {}))
        return publish_experiment(self.ledger, publication, self.findings.steps, **more)

    def holds(self) -> bool:
        """Return whether it is known that MLflow has all of it, without asking MLflow."""
        return is_published(self.publication())

    def sql(self, statement: str) -> None:
        with self.ledger.engine.begin() as connection:
            connection.execute(text(statement))

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return all that MLflow's runs hold, by name, but for ids; each name only once."""
        return {run.pop("name"): run for run in self.rows()}

    def rows(self) -> Iterator[dict[str, Any]]:
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as db:
            runs = db.execute(
                "SELECT run_uuid, name, status, start_time, end_time FROM runs "
                "WHERE lifecycle_stage = 'active'"
            ).fetchall()
            for run, name, status, start, end in runs:
                by_run = f"WHERE run_uuid = '{run}'"
                tags = dict(db.execute(f"SELECT key, value FROM tags {by_run}").fetchall())
                parent = tags.pop("mlflow.parentRunId", None)
                history: dict[str, list[Any]] = {}
                for key, *point in db.execute(
                    f"SELECT key, step, timestamp, value FROM metrics {by_run} ORDER BY 1, 2, 3, 4"
                ):
                    history.setdefault(key, []).append(tuple(point))
                yield {
                    "name": name,
                    "status": status,
                    "times": (start, end),
                    "tags": tags,
                    "has_parent": any(parent == other[0] for other in runs),
                    "params": dict(db.execute(f"SELECT key, value FROM params {by_run}")),
                    "history": history,
                    "latest": dict(db.execute(f"SELECT key, value FROM latest_metrics {by_run}")),
                }

    def lose_store(self, template: Path | None = None) -> None:
        """Delete MLflow's database, or put an empty one in its place."""
        for path in self.folder.glob("mlflow*"):
            path.unlink()
        if template is not None:
            shutil.copy(template, self.folder / "mlflow.db")

    def close(self) -> None:
        self.ledger.engine.dispose()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A finished experiment that is published once, and looked at only."""
    bench = Workbench(tmp_path_factory.mktemp("finished"))
    plot = bench.folder / "curve.png"
    plot.write_bytes(b"png")
    report = bench.folder / "report"
    report.mkdir()
    (report / "table.csv").write_text("1\n")
    summary = bench.folder / "summary.json"
    summary.write_text("{}")
    artifacts = [plot, report, summary, bench.folder / "missing.html"]
    bench.publish(samples=SAMPLES, artifacts=artifacts)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database to copy: making one takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    prepare_store(folder)
    return folder / "mlflow.db"


@pytest.fixture
def bench(tmp_path: Path, empty_store: Path) -> Iterator[Workbench]:
    """Return a finished experiment that is not published yet."""
    made = Workbench(tmp_path / "bench")
    made.lose_store(empty_store)
    yield made
    made.close()


def by_name(records: list[RunRecord]) -> dict[str, RunRecord]:
    return {f"{r.label} / {r.replicate}": r for r in records}


# --- what is published --------------------------------------------------------------------


def test_one_parent_and_a_child_per_run(finished: Workbench) -> None:
    runs = finished.snapshot()
    records = by_name(finished.findings.records)
    assert set(runs) == {"mine", *records}
    assert all(run["status"] == "FINISHED" for run in runs.values())
    assert {name: run["has_parent"] for name, run in runs.items() if run["has_parent"]} == (
        dict.fromkeys(records, True)
    )
    for name, record in records.items():
        tags = runs[name]["tags"]
        assert tags["quorumlab.run_key"] == record.run_id
        assert tags["quorumlab.experiment"] == "mine"
        assert tags["quorumlab.point"] == record.label
        assert tags["quorumlab.replicate"] == str(record.replicate)
        assert tags["quorumlab.state"] == "finished"
        assert tags["quorumlab.ledger_head"] == record.ledger_head
        assert tags["quorumlab.validation"] == "passed"


def test_experiments_of_one_title_share_an_mlflow_experiment(finished: Workbench) -> None:
    found = finished.client().get_experiment_by_name("trial")
    assert found.artifact_location == (finished.folder / "mlartifacts" / "trial").as_uri()


def test_ledger_knows_what_is_published(finished: Workbench) -> None:
    for record in finished.findings.records:
        assert record.published
        run = finished.client().get_run(record.mlflow_run_id)
        assert run.data.tags["quorumlab.run_key"] == record.run_id


def test_params_tell_points_apart_and_hold_the_configuration(finished: Workbench) -> None:
    runs = finished.snapshot()
    params = runs["poisoned / 1"]["params"]
    assert params["point"] == "poisoned"
    assert params["replicate"] == "1"
    assert params["adversary"] == "poisoner"
    assert params["adversary.share"] == "0.25"
    assert params["simulation.steps"] == str(STEPS)
    assert params["simulation.nodes"] == "6"
    assert params["detector"] == "zscore"
    assert params["seed"] == "1"
    assert set(params) - set(runs["honest / 0"]["params"]) == {"adversary.share"}
    assert all(len(v) <= LONGEST_PARAM for run in runs.values() for v in run["params"].values())


def test_parent_has_the_params_that_points_have_in_common(finished: Workbench) -> None:
    params = finished.snapshot()["mine"]["params"]
    assert params["points"] == "honest, poisoned"
    assert params["replicates"] == "2"
    assert params["simulation.nodes"] == "6"
    assert "adversary" not in params


def test_summary_equals_the_record_without_undefined_values(finished: Workbench) -> None:
    runs = finished.snapshot()
    for name, record in by_name(finished.findings.records).items():
        summary = {k: v for k, v in runs[name]["latest"].items() if not k.startswith("steps/")}
        assert summary == {k: v for k, v in record.metrics.items() if v is not None}
        assert all(len(runs[name]["history"][key]) == 1 for key in summary)


def test_curves_have_one_point_per_step_where_they_are_defined(finished: Workbench) -> None:
    runs = finished.snapshot()
    steps = finished.findings.steps
    for name, record in by_name(finished.findings.records).items():
        rows = steps[steps["run_id"] == record.run_id]
        start = round(record.claimed_at * 1000)
        for curve, column in CURVES.items():
            values = rows[column].cumsum() if curve.endswith("_total") else rows[column]
            expected = [
                (step, start + step, value)
                for step, value in zip(rows["step"], values, strict=True)
                if not np.isnan(value)
            ]
            assert runs[name]["history"].get(curve, []) == expected
    assert len(runs["honest / 0"]["history"]["steps/auroc"]) < STEPS
    assert "steps/reputation_dishonest" not in runs["honest / 0"]["history"]
    assert len(runs["poisoned / 0"]["history"]["steps/true_confirmations_total"]) == STEPS


def test_totals_end_where_the_summary_is(finished: Workbench) -> None:
    for run in finished.snapshot().values():
        if run["has_parent"]:
            latest = run["latest"]
            for name in ("true_confirmations", "false_confirmations"):
                assert latest[f"steps/{name}_total"] == latest[name]


def test_parent_has_means_intervals_counts_and_system_metrics(finished: Workbench) -> None:
    parent = finished.snapshot()["mine"]
    latest = parent["latest"]
    for label, point in zip(("honest", "poisoned"), finished.findings.points, strict=True):
        assert latest[f"{label}/f1"] == point["f1"].mean
        assert latest[f"{label}/f1_ci_low"] == point["f1"].ci_low
        assert latest[f"{label}/f1_ci_high"] == point["f1"].ci_high
    assert latest["runs/planned"] == latest["runs/finished"] == 4
    assert latest["runs/failed"] == latest["runs/quarantined"] == 0
    points = parent["history"]["system/cpu_utilization_percentage"]
    assert points == [(i, s.timestamp_ms, 10.0 * i) for i, s in enumerate(SAMPLES)]


def test_parent_has_a_table_and_the_artifacts_children_have_none(finished: Workbench) -> None:
    note = finished.snapshot()["mine"]["tags"]["mlflow.note.content"]
    assert "| point | n | precision |" in note
    assert "\n| poisoned | 2 | " in note
    assert "**Compared with honest**" in note
    assert note.endswith("10 more comparisons: see the artifact `comparison.json`.")
    client = finished.client()
    [parent] = client.search_runs(["1"], "tags.`quorumlab.kind` = 'experiment'")
    artifacts = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"plots", "report", "summary.json"}
    for record in finished.findings.records:
        assert client.list_artifacts(record.mlflow_run_id) == []


# --- publishing again ---------------------------------------------------------------------


def test_publishing_again_changes_nothing(bench: Workbench) -> None:
    first = bench.publish()
    before = bench.snapshot()
    assert bench.publish() == first
    bench.sql("UPDATE experimentrun SET published = 0, mlflow_run_id = NULL")
    assert bench.publish() == first
    assert bench.snapshot() == before
    assert all(record.published for record in bench.findings.records)


def test_it_is_known_whether_mlflow_holds_all_of_it(bench: Workbench) -> None:
    assert not bench.holds(), "there is no store"
    ids = bench.publish()
    assert bench.holds()
    child = next(iter(ids.values()))
    for trouble in (
        lambda run: bench.client().delete_run(run),
        lambda run: bench.client().set_tag(run, "quorumlab.content", "something else"),
        lambda run: bench.client().set_terminated(run, "FAILED"),
        lambda run: bench.client().delete_run(bench.client().get_run(run).data.tags[PARENT]),
        lambda _: bench.sql("UPDATE experimentrun SET published = 0 WHERE run = 1"),
        lambda _: bench.client().delete_experiment("1"),
        lambda _: bench.lose_store(),
        lambda _: (bench.folder / "mlflow.db").write_text("no database" * 99),
    ):
        trouble(child)
        assert not bench.holds()
        bench.lose_store()
        ids = bench.publish()
        child = next(iter(ids.values()))
        assert bench.holds()


def test_what_has_grown_or_was_quarantined_is_not_held(bench: Workbench) -> None:
    bench.publish()
    bench.sql("UPDATE run SET state = 'quarantined' WHERE id = 1")
    assert not bench.holds()
    bench.publish()
    assert bench.holds()
    bench.run(replicates=3)
    assert not bench.holds()


def test_a_lost_store_is_made_again_with_equal_histories(bench: Workbench) -> None:
    bench.publish()
    before = bench.snapshot()
    bench.lose_store()
    ids = bench.publish()
    assert bench.snapshot() == before
    assert {r.mlflow_run_id for r in bench.findings.records} == set(ids.values())


def all_columns(folder: Path) -> dict[str, list[str]]:
    """Return every row of the tables that runs are kept in, runs by their names."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as db:
        names = dict(db.execute("SELECT run_uuid, name FROM runs").fetchall())
        found = {}
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            columns = sorted(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            rows = [repr(r) for r in db.execute(f"SELECT {', '.join(columns)} FROM {table}")]
            for run, name in names.items():
                rows = [row.replace(run, name) for row in rows]
            found[table] = sorted(rows)
        return found


def through_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MLflow's client write everything, as on a server."""
    monkeypatch.setattr(track_mlflow, "run_table", lambda *_: None)


def test_runs_written_past_mlflow_are_those_that_it_writes(
    bench: Workbench, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sql("UPDATE run SET state = 'failed', error = 'out of memory' WHERE id = 2")
    bench.ledger.quarantine({bench.findings.records[2].run_id: "a vote too many"})
    bench.publish()
    written = all_columns(bench.folder)
    assert len(written["runs"]) == 5
    assert len(written["metrics"]) > 4 * STEPS
    bench.lose_store(empty_store)
    through_mlflow(monkeypatch)
    bench.publish()
    assert all_columns(bench.folder) == written


@pytest.mark.parametrize("way", ["rows", "client"])
def test_data_files_are_inputs_of_the_runs_that_read_them(
    way: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "client":
        through_mlflow(monkeypatch)
    train, test = ["train.csv", "ab" * 32], ["test.csv", "cd" * 32]
    records = [
        dataclasses.replace(r, config={**r.config, "data": [train, test] if i < 2 else [test]})
        for i, r in enumerate(bench.findings.records)
    ]
    ids = bench.publish(changes={"records": records})
    assert bench.publish(changes={"records": records}) == ids
    found = {
        run.info.run_name: {
            (use.dataset.name, use.dataset.digest, use.dataset.source): use.tags[0].value
            for use in run.inputs.dataset_inputs
        }
        for run in bench.client().search_runs(["1"])
    }
    first = ("train.csv", "ab" * 16, '{"uri": "train.csv"}')
    second = ("test.csv", "cd" * 16, '{"uri": "test.csv"}')
    both, one = {first: "traffic", second: "traffic"}, {second: "traffic"}
    assert found == {
        "mine": both,
        "honest / 0": both,
        "honest / 1": both,
        "poisoned / 0": one,
        "poisoned / 1": one,
    }


def test_tables_of_another_mlflow_are_left_to_it(bench: Workbench) -> None:
    local = TrackingConfig(kind="mlflow_local")
    assert run_table(local, bench.folder) is not None
    with closing(sqlite3.connect(bench.folder / "mlflow.db")) as db:
        db.execute("ALTER TABLE latest_metrics ADD COLUMN more TEXT")
    assert run_table(local, bench.folder) is None
    assert run_table(TrackingConfig(kind="mlflow_server"), bench.folder) is None


def test_runs_of_one_transaction_are_all_there_or_none(
    bench: Workbench, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = bench.publish() and bench.snapshot()
    bench.lose_store(empty_store)
    bench.sql("UPDATE experimentrun SET published = 0, mlflow_run_id = NULL")
    letters = track_mlflow.letters

    def with_a_metric_that_does_not_fit(*arguments: Any) -> Iterator[Any]:
        *others, last = letters(*arguments)
        yield from others
        last.about.summary["f1"] = None
        yield last

    with monkeypatch.context() as patch:
        patch.setattr(track_mlflow, "letters", with_a_metric_that_does_not_fit)
        patch.setattr(BoundedQueue, "take", take_all_at_once)
        with pytest.raises(Unavailable, match="NOT NULL"):
            bench.publish()
    assert len(list(bench.rows())) == 1
    assert not any(record.published for record in bench.findings.records)
    bench.publish()
    assert bench.snapshot() == undisturbed


def take_all_at_once(queue: Any, items: int) -> list[Any]:
    """Take when no more can come."""
    with queue._changed:
        queue._changed.wait_for(lambda: queue._is_closed)
        taken = [item for item, _ in queue._waiting]
        queue._waiting.clear()
        return taken[:items]


def test_counts_are_told_of_what_was_published_and_of_what_failed(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[QueueCounts] = []
    bench.publish(tell_counts=told.append)
    assert (told[0].processed, told[0].failed, told[0].dropped) == (4, 0, 0)
    bench.lose_store()
    through_mlflow(monkeypatch)
    finish, times = track_mlflow.Outbox.fill_and_finish, []

    def refuse_the_third(*arguments: Any) -> None:
        times.append(1)
        if len(times) == 3:
            raise OSError(28, "No space left on device")
        finish(*arguments)

    monkeypatch.setattr(track_mlflow.Outbox, "fill_and_finish", refuse_the_third)
    with pytest.raises(Unavailable, match="No space left"):
        bench.publish(tell_counts=told.append)
    assert told[1].processed == 2
    assert 1 <= told[1].failed <= 2


def test_deleted_runs_are_made_again(bench: Workbench) -> None:
    ids = bench.publish()
    before = bench.snapshot()
    bench.client().delete_run(next(iter(ids.values())))
    assert bench.publish() != ids
    assert bench.snapshot() == before


def test_an_experiment_is_deleted_with_its_files_and_others_stay(bench: Workbench) -> None:
    note = bench.folder / "note.txt"
    note.write_text("kept with the parent")
    bench.publish(artifacts=[note])
    (kept,) = bench.client().search_experiments(filter_string="name = 'trial'")
    other = bench.client().create_run(kept.experiment_id, tags={"quorumlab.experiment": "mine-2"})
    local = TrackingConfig(kind="mlflow_local")
    assert list(bench.folder.rglob("mlartifacts/**/note.txt"))
    assert delete_published(local, "trial", "mine", bench.folder) == 5
    (left,) = bench.client().search_runs([kept.experiment_id])
    assert left.info.run_id == other.info.run_id
    assert list(bench.folder.rglob("mlartifacts/**/note.txt")) == []
    assert note.exists()
    assert delete_published(local, "trial", "mine", bench.folder) == 0
    assert delete_published(local, "no such title", "mine", bench.folder) == 0
    bench.publish()
    assert len(bench.client().search_runs([kept.experiment_id])) == 6


def test_where_nothing_was_published_nothing_is_deleted_or_made(tmp_path: Path) -> None:
    local = TrackingConfig(kind="mlflow_local")
    assert delete_published(local, "trial", "mine", tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_mlflow_experiment_is_restored(bench: Workbench) -> None:
    bench.publish()
    before = bench.snapshot()
    bench.client().delete_experiment("1")
    bench.publish()
    assert bench.snapshot() == before


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


class Guard:
    """Kills the publication before a certain call of those that change something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlflow import MlflowClient

        self.calls = self.fatal = 0
        for name in ("create_experiment", "create_run", "log_batch", "set_terminated"):
            monkeypatch.setattr(MlflowClient, name, self.guarded(getattr(MlflowClient, name)))
        monkeypatch.setattr(RunTable, "add", self.guarded(RunTable.add))
        monkeypatch.setattr(Ledger, "set_published", self.guarded(Ledger.set_published))

    def guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fatal:
                raise Killed
            return method(*args, **options)

        return call


@pytest.mark.parametrize(("way", "least"), [("rows", 5), ("client", 10)])
def test_a_kill_at_any_moment_leaves_what_publishing_again_completes(
    way: str, least: int, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Workbench(tmp_path / "bench", replicates=1)
    bench.lose_store(empty_store)
    bench.publish(samples=SAMPLES)
    if way == "client":
        through_mlflow(monkeypatch)
    undisturbed = bench.snapshot()
    guard = Guard(monkeypatch)
    n_kills = 0
    while n_kills < 100:
        bench.lose_store(empty_store)
        bench.sql("UPDATE experimentrun SET published = 0, mlflow_run_id = NULL")
        guard.calls, guard.fatal = 0, n_kills + 1
        try:
            bench.publish(samples=SAMPLES)
        except Killed:
            n_kills += 1
            bench.publish(samples=SAMPLES)
            assert bench.snapshot() == undisturbed, f"killed before call {n_kills}"
        else:
            break
    bench.close()
    assert least < n_kills < 100


def test_a_child_that_was_created_before_a_crash_is_adopted(bench: Workbench) -> None:
    from mlflow.entities import Metric, Param

    undisturbed = bench.publish() and bench.snapshot()
    record = bench.findings.records[0]
    client = bench.client()
    client.delete_run(record.mlflow_run_id)
    start = round(record.claimed_at * 1000)
    tags = {"quorumlab.run_key": record.run_id, "quorumlab.experiment": "mine"}
    created = client.create_run("1", start_time=start, tags=tags, run_name="half")
    half = [Metric("steps/messages_sent", 0.0, start + step, step) for step in range(2)]
    half = [m for m in half if m.value == bench.findings.steps["messages_sent"].iloc[m.step]]
    client.log_batch(created.info.run_id, metrics=half, params=[Param("point", "honest")])

    assert bench.publish()[record.run_id] == created.info.run_id
    assert bench.snapshot() == undisturbed


def test_of_two_complete_children_one_is_kept(bench: Workbench) -> None:
    ids = bench.publish()
    before = bench.snapshot()
    record = bench.findings.records[0]
    client = bench.client()
    client.delete_run(ids[record.run_id])
    bench.publish()
    client.restore_run(ids[record.run_id])

    assert len(list(bench.rows())) == len(before) + 1
    bench.publish()
    assert len(list(bench.rows())) == len(before)
    assert bench.snapshot() == before


# --- what changes -------------------------------------------------------------------------


def test_more_steps_replace_the_children(bench: Workbench, empty_store: Path) -> None:
    bench.publish()
    bench.run(steps=STEPS + 4)
    bench.publish()
    grown = bench.snapshot()
    assert grown["honest / 0"]["params"]["simulation.steps"] == str(STEPS + 4)
    assert len(grown["honest / 0"]["history"]["steps/messages_sent"]) == STEPS + 4
    assert all(len(points) == 1 for points in grown["mine"]["history"].values())
    bench.lose_store(empty_store)
    bench.publish()
    assert bench.snapshot() == grown


def test_more_replicates_leave_children_and_renew_the_parent(bench: Workbench) -> None:
    ids = bench.publish()
    bench.run(replicates=3)
    assert ids.items() < bench.publish().items()
    grown = bench.snapshot()
    assert sum(run["has_parent"] for run in grown.values()) == 6
    assert grown["mine"]["latest"]["runs/finished"] == 6
    assert all(len(points) == 1 for points in grown["mine"]["history"].values())


def test_runs_without_an_end_wait(bench: Workbench) -> None:
    bench.run(replicates=3, leave=1)
    assert len(bench.publish()) == 5
    interrupted = bench.snapshot()["mine"]
    assert interrupted["status"] == "KILLED"
    assert interrupted["tags"]["quorumlab.state"] == "interrupted"
    bench.run(replicates=3)
    assert len(bench.publish()) == 6
    assert bench.snapshot()["mine"]["status"] == "FINISHED"


def test_a_failed_run_keeps_its_curves_and_becomes_finished(
    bench: Workbench, empty_store: Path
) -> None:
    undisturbed = bench.publish() and bench.snapshot()
    bench.lose_store(empty_store)
    bench.sql("CREATE TABLE kept AS SELECT * FROM summary WHERE run = 2")
    bench.sql("DELETE FROM summary WHERE run = 2")
    bench.sql("UPDATE run SET state = 'failed', error = 'out of memory' WHERE id = 2")
    failed_id = bench.publish()[bench.findings.records[1].run_id]
    runs = bench.snapshot()
    assert runs["honest / 1"]["status"] == runs["mine"]["status"] == "FAILED"
    assert runs["honest / 1"]["tags"]["quorumlab.error"] == "out of memory"
    assert set(runs["honest / 1"]["latest"]) <= set(CURVES)
    assert len(runs["honest / 1"]["history"]["steps/messages_sent"]) == STEPS

    bench.sql("INSERT INTO summary SELECT * FROM kept")
    bench.sql("UPDATE run SET state = 'finished', error = NULL WHERE id = 2")
    assert bench.publish()[bench.findings.records[1].run_id] == failed_id
    assert bench.snapshot() == undisturbed


def test_a_quarantined_run_loses_its_metrics(bench: Workbench) -> None:
    ids = bench.publish()
    record = bench.findings.records[1]
    bench.ledger.quarantine({record.run_id: "a vote too many"})
    assert bench.publish(changes={"validation_success": False})[record.run_id] != ids[record.run_id]
    runs = bench.snapshot()
    assert runs["honest / 1"]["status"] == "FAILED"
    assert runs["honest / 1"]["tags"]["quorumlab.state"] == "quarantined"
    assert runs["honest / 1"]["tags"]["quorumlab.error"] == "a vote too many"
    assert runs["honest / 1"]["history"] == {}
    assert runs["honest / 0"]["tags"]["quorumlab.validation"] == "failed"
    assert runs["mine"]["latest"]["runs/quarantined"] == 1
    assert runs["mine"]["latest"]["honest/f1"] == bench.findings.points[0]["f1"].mean


def test_figures_of_the_clock_alone_change_nothing(bench: Workbench) -> None:
    ids = bench.publish()
    before = bench.snapshot()
    records = [dataclasses.replace(r, claimed_at=r.claimed_at + 9) for r in bench.findings.records]
    for record in records:
        record.metrics["cpu_seconds"] = 99.0
    assert bench.publish(changes={"records": records}) == ids
    assert bench.snapshot() == before


# --- where to -----------------------------------------------------------------------------


def test_nothing_is_published_when_tracking_is_off(bench: Workbench) -> None:
    bench.lose_store()
    off = bench.config.model_copy(update={"tracking": TrackingConfig(kind="off")})
    assert bench.publish(off) == {}
    assert list(bench.folder.glob("mlflow*")) == []


def test_a_server_is_published_to(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Workbench(tmp_path / "server")
    (bench.folder / "mlflow.db").rename(other.folder / "mlflow.db")
    uri = f"sqlite:///{other.folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    server = bench.config.model_copy(update={"tracking": TrackingConfig(kind="mlflow_server")})
    assert len(bench.publish(server)) == 4
    assert sum(other.snapshot()[name]["has_parent"] for name in other.snapshot()) == 4
    assert not (bench.folder / "mlflow.db").exists()
    other.close()


def test_an_address_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigurationError, match=r"tracking\.uri"):
        tracking_address(TrackingConfig(kind="mlflow_server"), tmp_path)


def test_a_server_that_is_away_is_named_without_its_password(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = TrackingConfig(kind="mlflow_server", uri="http://me:secret@127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"http://\*\*\*@127\.0\.0\.1:9") as found:
        bench.publish(bench.config.model_copy(update={"tracking": away}))
    assert "does not answer" in str(found.value)
    assert "secret" not in str(found.value)
    assert not any(record.published for record in bench.findings.records)


def test_what_is_no_database_is_found_out_at_once(bench: Workbench) -> None:
    bench.lose_store()
    (bench.folder / "mlflow.db").write_text("this is no database" * 100)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="not a database"):
        bench.publish()
    assert time.monotonic() - began < 30


def test_an_error_of_the_store_is_unavailable(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow.MlflowClient.log_artifact", full)
    with pytest.raises(Unavailable, match="No space left"):
        bench.publish(artifacts=[bench.folder / "ledger.db"])


def test_nothing_is_written_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], empty_store: Path
) -> None:
    del empty_store
    made = Workbench(tmp_path / "quiet")
    made.publish()
    made.close()
    assert capfd.readouterr() == ("", "")


def test_stores_are_made_one_at_a_time_and_whole(tmp_path: Path) -> None:
    (tmp_path / "mlflow.new.db").write_text("left by a kill")
    errors: list[Unavailable] = []

    def prepare() -> None:
        try:
            prepare_store(tmp_path)
        except Unavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {path.name for path in tmp_path.glob("mlflow*.db")} == {"mlflow.db"}
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_publishers_at_once_make_each_run_once(bench: Workbench) -> None:
    results: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: results.append(bench.publish())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert Counter(row["name"] for row in bench.rows()).most_common(1)[0][1] == 1


# --- parts --------------------------------------------------------------------------------


def test_params_have_names_that_mlflow_takes_and_values_that_fit() -> None:
    campaigns = [[{"family": "ddos", "start": n}] * 40 for n in (1, 2)]
    first, second = (flat_params({"traffic": {"campaigns": c}}) for c in campaigns)
    assert first != second
    assert len(first["traffic.campaigns"]) == LONGEST_PARAM
    assert flat_params({"data": {"KDDTrain+_20Percent.txt": "a"}}) == {
        "data.KDDTrain__20Percent.txt": "a"
    }


def test_long_curves_are_thinned_with_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_content, "LONGEST_CURVE", 5)
    columns = {"step": np.arange(100), **dict.fromkeys(CURVES.values(), np.ones(100))}
    metrics = curve_points(columns, 1000)
    assert [m.step for m in metrics if m.key == "steps/f1"] == [0, 24, 49, 74, 99]
    assert [m.value for m in metrics if m.key == "steps/true_confirmations_total"][-1] == 100
    assert all(m.timestamp == 1000 + m.step for m in metrics)


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = "import sys, tasks.track_mlflow; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
