"""The command `clean`: what goes, and that everything works afterwards as it did before."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.clean import REPORT, clean_workspace
from flows.cli import app
from flows.compose import compose_experiment
from flows.inspect import opened, replay_run, verify_workspace
from flows.launch import launch_experiment, stored_experiment
from sim_core.errors import OwnershipLost, UserError
from sim_core.ledger.presence import present
from sim_core.plan import plan_runs
from sim_core.simulate import simulate
from tests.ports import free_port

STEPS = 30
HOUR = 3_600


@dataclass
class Place:
    """A workspace, worked on in this process without any service."""

    folder: Path

    def run(self, *overrides: str, steps: int = STEPS) -> None:
        launch_experiment(*self.compose(*overrides, steps=steps))

    def compose(self, *overrides: str, steps: int = STEPS) -> Any:
        return compose_experiment(
            [
                "profile=edge",
                "simulation.nodes=8",
                "experiment.name=small",
                "experiment.replicates=2",
                "checkpoint.keep=3",
                "ledger.segments_at_once=1",  # or several share a checkpoint
                "retention.every_hours=null",
                f"simulation.steps={steps}",
                f"workspace={self.folder}",
                *overrides,
            ]
        )

    def clean(self, *words: str) -> str:
        done = CliRunner().invoke(app, ["clean", *words, "--workspace", str(self.folder)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    def heads(self, name: str = "small") -> dict[str, str]:
        with opened(self.folder) as (_, ledger):
            return {row["run_key"]: row["summary_head"] for row in ledger.runs_of(name)}

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").iterdir())

    def content(self) -> dict[str, Any]:
        """Return all files with their bytes, and in place of the ledger's its rows."""
        files = [p for p in self.folder.rglob("*") if p.is_file() and "ledger.db" not in p.name]
        with closing(sqlite3.connect(self.folder / "ledger.db")) as database:
            rows = list(database.iterdump())
        return {str(path): path.read_bytes() for path in files} | {"ledger": rows}

    def age(self, days: float) -> None:
        """Make all experiments look as if they had ended so many days ago."""
        with closing(sqlite3.connect(self.folder / "ledger.db")) as database:
            database.execute("UPDATE experiment SET updated_at = ?", (time.time() - days * 86_400,))
            database.commit()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("COLUMNS", "150")
    environment = dict(os.environ)
    yield Place(tmp_path / "workspace")
    os.environ.clear()
    os.environ.update(environment)


def expected_heads(place: Place, *overrides: str, steps: int) -> dict[str, str]:
    plan = plan_runs(*place.compose(*overrides, steps=steps))
    last = {run.spec.run_key: list(simulate(run.spec))[-1] for run in plan.runs}
    return {key: segment.head.hex() for key, segment in last.items()}


def litter(place: Place) -> list[Path]:
    """Leave what killed processes leave behind; return the files."""
    old = [
        place.folder / "checkpoints" / f"{'ab' * 12}-00000010-1.ckpt",
        place.folder / "checkpoints" / f".{'ab' * 12}-00000010-1.ckpt.tmp",
        place.folder / "experiments" / "small" / ".summary.json.ab12_xyz",
        place.folder / ".ledger.json.ab12_xyz",
    ]
    for path in old:
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    return old


def test_cleaned_workspace_verifies_resumes_replays_and_goes_on(place: Place) -> None:
    place.run()
    left = litter(place)
    before = place.heads()
    assert len(place.checkpoints()) == 2 * 3 + 2
    text = place.clean()
    assert "checkpoints of finished runs beyond the last 1" in text
    assert "nothing to remove" in place.clean()
    assert not any(path.exists() for path in left)
    assert len(place.checkpoints()) == 2
    console = Console(quiet=True)
    assert verify_workspace(place.folder, "small", console)
    assert all(replay_run(place.folder, key[:12], console) for key in before)
    launch_experiment(*stored_experiment(place.folder, "small"))
    assert place.heads() == before
    place.run(steps=40)
    summary = json.loads((place.folder / "experiments" / "small" / "summary.json").read_text())
    assert {run["resumed_from_step"] for run in summary["runs"]} == {STEPS}
    assert place.heads() == expected_heads(place, steps=40)


def test_run_that_was_stopped_half_way_goes_on_after_a_clean_up(place: Place) -> None:
    config, points = place.compose()
    place.run("experiment.replicates=1", steps=10)
    plan = plan_runs(config, points)
    with opened(place.folder) as (_, ledger):
        spec = plan.runs[0].spec
        (claim,) = ledger.claim([spec])  # and dies after its next segment
        first, *_ = simulate(
            spec, (place.folder / "checkpoints" / claim.checkpoints[0].name).read_bytes()
        )
        ledger.commit(claim, first)
    kept = place.checkpoints()
    place.clean()
    assert place.checkpoints() == kept
    place.run()
    summary = json.loads((place.folder / "experiments" / "small" / "summary.json").read_text())
    assert sorted(run["resumed_from_step"] or 0 for run in summary["runs"]) == [0, 20]
    assert place.heads() == expected_heads(place, steps=STEPS)


def test_dry_run_says_what_would_go_and_changes_nothing(place: Place) -> None:
    place.run()
    litter(place)
    before = place.content()
    text = place.clean("--dry-run")
    assert "to remove" in text
    assert "checkpoints that the ledger does not know" in text
    assert "files that their writer did not finish" in text
    assert place.content() == before
    text = place.clean("small", "--dry-run")
    assert "to delete" in text
    assert "runs of its own" in text
    assert place.content() == before
    place.clean()
    assert place.content() != before


def test_files_of_writers_that_may_live_stay(place: Place) -> None:
    place.run()
    fresh = place.folder / "experiments" / "small" / ".summary.json.ab12_xyz"
    fresh.write_bytes(b"half")
    own = place.folder / "experiments" / "small" / ".notes"
    own.write_bytes(b"of the user")
    place.clean()
    assert fresh.exists()
    os.utime(fresh, (time.time() - 2 * HOUR,) * 2)
    with opened(place.folder) as (_, ledger), present(ledger.engine, "small"):
        place.clean()
        assert fresh.exists()
    place.clean()
    assert not fresh.exists()
    assert own.exists()


def test_report_says_what_was_removed(place: Place) -> None:
    place.run()
    litter(place)
    place.clean()
    report = json.loads((place.folder / REPORT).read_text())
    found = {item["what"]: (item["number"], item["bytes"]) for item in report["removed"]}
    assert found["checkpoints that the ledger does not know"] == (2, 2000)
    assert found["files that their writer did not finish"] == (2, 2000)
    assert found["checkpoints of finished runs beyond the last 1"][0] == 4


@pytest.mark.parametrize("hours", ["null", "24", "0.001"])
def test_commands_clean_up_when_it_is_due(
    place: Place, hours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    due = f"retention.every_hours={hours}"
    place.run(due)
    assert len(place.checkpoints()) == (6 if hours == "null" else 2)
    assert ("cleaned up" in capsys.readouterr().out) == (hours != "null")
    if hours == "null":
        return
    report = json.loads((place.folder / REPORT).read_text())
    (place.folder / REPORT).write_text(json.dumps(report | {"at": report["at"] - HOUR}))
    litter(place)
    place.run(due)
    assert ("cleaned up" in capsys.readouterr().out) == (hours == "0.001")
    assert len(place.checkpoints()) == (2 if hours == "0.001" else 4)


def test_clean_up_that_fails_is_said_and_leaves_the_experiment_finished(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.run()
    (place.folder / REPORT).mkdir()  # where a file is to be written
    place.run("retention.every_hours=0.001")
    assert "not cleaned up" in capsys.readouterr().out


def tables(place: Place, name: str, n_bytes: int) -> list[Path]:
    folder = place.folder / "experiments" / name
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    files = [folder / "steps.parquet", folder / "plots" / "f1.png"]
    for path in files:
        path.write_bytes(bytes(n_bytes))
    return files


def test_large_workspace_loses_plots_and_tables_of_old_experiments_first(place: Place) -> None:
    limit = "retention.max_workspace_mb=3"
    place.run("experiment.name=first")
    place.run("experiment.name=second", limit)
    first, second = (tables(place, name, 1 << 20) for name in ("first", "second"))
    place.clean()
    assert all(path.exists() for path in first + second), "they are not old"
    place.age(days=40)
    with closing(sqlite3.connect(place.folder / "ledger.db")) as database:
        database.execute("UPDATE experiment SET updated_at = updated_at - 9 WHERE name = 'first'")
        database.commit()
    text = place.clean()
    assert "plots and tables older than 30 days" in text
    assert not any(path.exists() for path in first)
    assert all(path.exists() for path in second), "there is room enough"
    assert (place.folder / "experiments" / "first" / "summary.json").exists()


def test_workspace_that_stays_too_large_names_what_the_user_may_delete(place: Place) -> None:
    place.run("retention.max_workspace_mb=1")
    (place.folder / "notes.bin").write_bytes(bytes(3 << 20))
    text = place.clean()
    assert "more than retention.max_workspace_mb=1" in text
    assert "the oldest are small" in text
    assert (place.folder / "notes.bin").exists()


def test_database_with_much_free_space_is_written_anew(place: Place) -> None:
    place.run("ledger.detail=all", "simulation.nodes=25")
    before = (place.folder / "ledger.db").stat().st_size
    with closing(sqlite3.connect(place.folder / "ledger.db")) as database:
        database.execute("CREATE TABLE filler (content BLOB)")
        database.execute("INSERT INTO filler VALUES (zeroblob(4000000))")
        database.execute("DROP TABLE filler")
        database.commit()
    heads = place.heads()
    with opened(place.folder) as (_, ledger), present(ledger.engine, "small"):
        assert "VACUUM" not in place.clean(), "somebody is at work"
    assert "VACUUM" in place.clean()
    assert (place.folder / "ledger.db").stat().st_size < before + 100_000
    assert place.heads() == heads


def test_long_log_is_moved_into_the_ledger_while_others_have_it_open(place: Place) -> None:
    place.run()
    with closing(sqlite3.connect(place.folder / "ledger.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("CREATE TABLE filler (content BLOB)")
        database.execute("INSERT INTO filler VALUES (zeroblob(2000000))")
        log = place.folder / "ledger.db-wal"
        assert log.stat().st_size > 2_000_000
        assert "write-ahead log" in place.clean()
        assert log.stat().st_size == 0


# --- an experiment ------------------------------------------------------------------------


def test_deleted_experiment_is_gone_and_shared_runs_stay(place: Place) -> None:
    place.run("experiment.replicates=3", "experiment.name=large")
    place.run()
    heads = place.heads()
    text = place.clean("large", "--yes")
    assert "2 of its runs are another experiment's too, and stay" in text
    assert not (place.folder / "experiments" / "large").exists()
    assert "deleted" in text
    assert {name[:24] for name in place.checkpoints()} == {key[:24] for key in heads}
    assert place.heads() == heads
    with pytest.raises(UserError, match=r"no experiment 'large'.*small"):
        place.clean("large", "--yes")
    with opened(place.folder) as (_, ledger):
        assert [e.name for e in ledger.experiments()] == ["small"]
    place.run("experiment.replicates=3", "experiment.name=large")
    assert place.heads("large") == expected_heads(place, "experiment.replicates=3", steps=STEPS)


def test_nothing_is_deleted_unless_somebody_agrees(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run()
    before = place.content()
    with pytest.raises(UserError, match="--yes"):
        place.clean("small")
    with pytest.raises(UserError, match="no experiment 'other'"):
        place.clean("other", "--yes")
    assert place.content() == before


@pytest.mark.parametrize("agrees", [False, True])
def test_answer_counts(place: Place, agrees: bool, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.delete import delete_named

    place.run()
    before = place.content()
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return agrees

    delete_named(place.folder, "small", Console(), ask=ask)
    assert asked == ["delete small (finished)?"]
    said = capsys.readouterr().out
    assert "to delete" in said
    assert ("deleted small" in said) == agrees
    assert (place.content() == before) == (not agrees)
    assert (place.folder / "experiments" / "small").exists() == (not agrees)


def test_driver_at_work_on_a_deleted_experiment_is_said_and_refused(place: Place) -> None:
    place.run("experiment.replicates=1", steps=10)
    spec = plan_runs(*place.compose()).runs[0].spec
    with opened(place.folder) as (_, ledger), present(ledger.engine, "small"):
        (claim,) = ledger.claim([spec])
        first, *_ = simulate(spec)
        text = place.clean("small", "--yes")
        assert "a process works on small" in text
        with pytest.raises(OwnershipLost):
            ledger.commit(claim, first)


def test_experiment_whose_mlflow_is_away_is_deleted_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    place.run("experiment.replicates=1", steps=10)
    with closing(sqlite3.connect(place.folder / "ledger.db")) as database:
        (config,) = database.execute("SELECT config FROM experiment").fetchone()
        changed = json.loads(config)
        changed["tracking"] = {
            "kind": "mlflow_server",
            "uri": f"http://127.0.0.1:{free_port()}",
        }
        database.execute("UPDATE experiment SET config = ?", (json.dumps(changed),))
        database.commit()
    text = place.clean("small", "--yes")
    assert "its MLflow runs stay" in text
    assert "by the tag quorumlab.experiment" in " ".join(text.split())
    with opened(place.folder) as (_, ledger):
        assert ledger.experiments() == []


def test_clean_workspace_without_a_ledger_says_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no workspace at"):
        clean_workspace(tmp_path, Console())
