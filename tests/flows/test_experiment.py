"""An experiment from configuration to files: reuse, growth, failure, quarantine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sim_core.errors import ExperimentConflict
from tests.ledger_tools import rechain

SMALL = (
    "experiment.replicates=2",
    "simulation.nodes=12",
    "simulation.flows_per_node=10",
    "simulation.steps=30",
    "+points.honest=[]",
    "+points.poisoned=['adversary=poisoner']",
)
NAMED = (*SMALL, "experiment.name=small")
METRICS = [
    "precision",
    "recall",
    "f1",
    "mcc",
    "auroc",
    "true_confirmations",
    "false_confirmations",
    "detection_delay_steps",
    "detected_share",
    "immunity_share",
    "benign_blocked_share",
    "messages_sent",
    "messages_lost",
    "steps_per_minute",
    "peak_rss_mb",
    "cpu_seconds",
    "wall_seconds",
]
Flow = Callable[..., Any]


def heads(outcome: Any) -> dict[str, str]:
    return {record.run_id: record.ledger_head for record in outcome.findings.records}


def test_same_command_twice_reuses_every_run(run_flow: Flow) -> None:
    first, second = run_flow(*SMALL), run_flow(*SMALL)
    assert first.counts == {"planned": 4, "finished": 4, "reused": 0, "failed": 0, "quarantined": 0}
    assert second.counts == first.counts | {"reused": 4}
    assert first.name == second.name
    assert heads(first) == heads(second)


def test_second_start_makes_nothing_again_that_has_not_changed(
    run_flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_flow(*NAMED, "tracking=mlflow_local")
    folder = tmp_path / "workspace/experiments/small"
    kept = [folder / "runs.parquet", *(folder / "plots").iterdir(), folder / "report.html"]
    before = [path.stat().st_mtime_ns for path in kept]
    samples = mlflow_samples(tmp_path)
    assert samples
    with monkeypatch.context() as patch:
        patch.setattr("tasks.validate_ledger.validate_runs", None)  # is not even called
        patch.setattr("tasks.track_mlflow.publish_experiment", None)
        second = run_flow(*NAMED, "tracking=mlflow_local")
    assert second.validation == {"success": True, "expectations": 37, "failed": []}
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert json.loads((folder / "summary.json").read_text())["counts"]["reused"] == 4
    (folder / "plots" / "intervals.png").unlink()
    run_flow(*NAMED, "tracking=mlflow_local")
    assert (folder / "plots" / "intervals.png").stat().st_size
    assert mlflow_samples(tmp_path) > samples, "what is new is published"


def mlflow_samples(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "workspace/mlflow.db")) as database:
        found = database.execute("SELECT count(*) FROM metrics WHERE key LIKE 'system/%'")
        return int(found.fetchone()[0])


def test_executors_give_the_same_heads(run_flow: Flow, tmp_path: Path) -> None:
    found = [
        run_flow(*SMALL, *how, workspace=tmp_path / str(index))
        for index, how in enumerate(
            [
                ("executor=inline",),
                ("executor=processes", "executor.num_cpus=2", "executor.shard_runs=1"),
                ("executor=ray_local", "executor.num_cpus=1"),
                ("executor=ray_local", "executor.num_cpus=2", "executor.shard_runs=1"),
            ]
        )
    ]
    assert all(outcome.counts["finished"] == 4 for outcome in found)
    assert all(heads(outcome) == heads(found[0]) for outcome in found)


def test_experiment_grows_by_replicates_points_and_steps(run_flow: Flow) -> None:
    before = run_flow(*NAMED)
    more = run_flow(*NAMED, "experiment.replicates=3")
    assert more.counts["reused"] == 4
    assert more.counts["finished"] == 6
    assert heads(before).items() <= heads(more).items()
    wider = run_flow(*NAMED, "experiment.replicates=3", "+points.flipped=['adversary=flipper']")
    assert (wider.counts["reused"], wider.counts["finished"]) == (6, 9)
    longer = run_flow(
        *NAMED,
        "experiment.replicates=3",
        "+points.flipped=['adversary=flipper']",
        "simulation.steps=40",
    )
    assert {r.steps_executed for r in longer.findings.records} == {10}
    assert {r.resumed_from_step for r in longer.findings.records} == {30}


def test_name_with_another_experiment_is_refused(run_flow: Flow) -> None:
    run_flow(*NAMED)
    with pytest.raises(ExperimentConflict, match=r"honest.* configured differently"):
        run_flow(*NAMED, "detector.learning_rate=0.5")
    with pytest.raises(ExperimentConflict, match=r"experiment.seed was 1"):
        run_flow(*NAMED, "experiment.seed=2")


def test_run_that_fails_stops_no_other_and_can_be_tried_again(run_flow: Flow) -> None:
    late = run_flow(*NAMED, "limits.max_seconds=0.000001")
    assert late.state == "failed"
    assert late.counts["failed"] == 4
    assert all("limits.max_seconds" in r.error for r in late.findings.records)
    assert run_flow(*NAMED).counts["finished"] == 4


def test_more_detail_runs_again_with_the_same_heads(run_flow: Flow, tmp_path: Path) -> None:
    few = run_flow(*NAMED)
    many = run_flow(*NAMED, "ledger.detail=all")
    assert many.counts["reused"] == 0
    assert heads(few) == heads(many)
    database = sqlite3.connect(tmp_path / "workspace" / "ledger.db")
    assert database.execute("SELECT count(*) FROM vote").fetchone()[0] > 0
    assert database.execute("SELECT count(*) FROM alert").fetchone()[0] > 0
    database.close()
    assert run_flow(*NAMED).counts["reused"] == 4


def test_files_have_what_the_contract_says(run_flow: Flow, tmp_path: Path) -> None:
    outcome = run_flow(*NAMED)
    folder = tmp_path / "workspace" / "experiments" / outcome.name
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= {
        "experiment", "key", "state", "counts", "wall_seconds", "environment", "validation",
        "runs", "points",
    }  # fmt: skip
    run = summary["runs"][0]
    assert set(run) >= {
        "run_id", "point", "replicate", "state", "steps", "steps_executed", "resumed_from_step",
        "horizon", "ledger_head", "ledger_rows", "metrics", "wall_seconds", "mlflow_run_id", "error",
    }  # fmt: skip
    assert set(run["metrics"]) >= set(METRICS)
    point = summary["points"][1]
    assert point["point"] == {"adversary": "poisoner", "adversary.share": 0.2}
    assert set(point["metrics"]["f1"]) == {"n", "mean", "ci_low", "ci_high", "sd"}
    assert summary["validation"]["success"] is True
    steps = pd.read_parquet(folder / "steps.parquet")
    runs = pd.read_parquet(folder / "runs.parquet")
    assert (len(runs), len(steps)) == (4, 4 * 30)
    for name in ("config.yaml", "validation.json", "validation.html"):
        assert (folder / name).stat().st_size > 0
    plots = [path.name for path in (folder / "plots").iterdir()]
    assert sum(name.endswith(".png") for name in plots) == 4
    assert {"effects_f1.svg", "steps_f1.svg"} <= set(plots)
    page = (folder / "report.html").read_text()
    assert all(comparison.sentence in unescape(page) for comparison in outcome.comparison.findings)


def test_broken_run_is_quarantined_left_out_and_restored_by_replay(
    run_flow: Flow, tmp_path: Path
) -> None:
    sound = run_flow(*NAMED)
    victim = sound.findings.records[0]
    path = tmp_path / "workspace" / "ledger.db"
    database = sqlite3.connect(path)
    database.execute("UPDATE metrics SET tp = tp + 1 WHERE run = ? AND step = 3", (victim.number,))
    database.commit()
    database.close()
    rechain(path, victim.run_id)

    refused = run_flow(*NAMED)
    assert refused.state == "failed"
    assert refused.counts["quarantined"] == 1
    assert {f["run_id"] for f in refused.validation["failed"]} == {victim.run_id}
    by_label = dict(zip(refused.findings.labels, refused.findings.points, strict=True))
    assert by_label["honest"]["f1"].n == 1
    assert by_label["poisoned"]["f1"].n == 2

    from rich.console import Console

    from flows.inspect import replay_run

    assert replay_run(tmp_path / "workspace", victim.run_id[:12], Console(quiet=True))
    healed = run_flow(*NAMED)
    assert healed.state == "finished"
    assert heads(healed) == heads(sound)


def test_longer_run_keeps_the_detail_that_it_has(run_flow: Flow) -> None:
    run_flow(*NAMED, "ledger.detail=all")
    longer = run_flow(*NAMED, "ledger.detail=decisions", "simulation.steps=40")
    assert longer.state == "finished"
    assert {r.steps_executed for r in longer.findings.records} == {10}
