"""The command `clean` where a workspace is not as this program would leave it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.clean import REPORT, clean_workspace, cleaning_afterwards, hours_since
from flows.compose import compose_experiment
from flows.delete import delete_named
from flows.inspect import opened
from flows.orchestrators import PlainOrchestrator
from flows.stages import carry_out
from sim_core.config import ExperimentConfig
from sim_core.errors import OwnershipLost, RunFailed, UserError
from sim_core.workspace import Workspace

QUIET = Console(quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def run(folder: Path, *overrides: str, orchestrator: Any = None) -> ExperimentConfig:
    """Run an experiment `small` in this process, without any service."""
    words = [
        "profile=edge",
        "experiment.name=small",
        "simulation.nodes=6",
        "simulation.steps=10",
        "checkpoint.every=5",
        f"workspace={folder}",
        *overrides,
    ]
    config, points = compose_experiment(words)
    carry_out(config, points, orchestrator or PlainOrchestrator())
    return config


def sql(folder: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.execute(statement, values)
        database.commit()


def names(folder: Path) -> list[str]:
    with opened(folder) as (_, ledger):
        return [experiment.name for experiment in ledger.experiments()]


def test_files_of_the_user_stay_whatever_they_are_called(folder: Path) -> None:
    run(folder)
    mine = [".env.template", ".config.yaml.template", ".notes.ab12_xyz", "mine.ckpt", ".a.settings"]
    for place in (folder, folder / "experiments" / "small", folder / "checkpoints"):
        for name in mine:
            (place / name).write_text("of the user")
            os.utime(place / name, (0, 0))
    clean_workspace(folder, QUIET)
    for place in (folder, folder / "experiments" / "small", folder / "checkpoints"):
        assert [name for name in mine if (place / name).exists()] == mine


@pytest.mark.parametrize("name", ["..", ".", "../..", "a/b", "/", ""])
def test_name_that_leads_elsewhere_is_refused_even_if_a_ledger_has_it(
    folder: Path, name: str
) -> None:
    run(folder)
    sql(folder, "UPDATE experiment SET name = ?", name)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(UserError, match="no name of an experiment"):
        delete_named(folder, name, QUIET)
    assert sorted(folder.parent.rglob("*")) == before


def test_folder_that_is_elsewhere_keeps_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    run(folder)
    place = folder / "experiments" / "small"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    delete_named(folder, "small", QUIET)
    assert not os.path.lexists(place)
    assert (tmp_path / "elsewhere" / "summary.json").exists()
    assert names(folder) == []


def test_experiment_of_another_version_can_be_cleaned_up_and_deleted(folder: Path) -> None:
    run(folder)
    config = {group: {"gone": 1} for group in ("retention", "tracking", "experiment")}
    sql(folder, "UPDATE experiment SET config = ?", json.dumps(config))
    clean_workspace(folder, QUIET)
    delete_named(folder, "small", QUIET)
    assert names(folder) == []
    assert not (folder / "experiments" / "small").exists()


def test_folder_without_an_experiment_can_be_deleted_by_name(folder: Path) -> None:
    run(folder)
    left = folder / "experiments" / "left"
    left.mkdir()
    (left / "summary.json").write_text("{}")
    clean_workspace(folder, QUIET)
    assert left.exists(), "nobody has named it"
    delete_named(folder, "left", QUIET)
    assert not left.exists()
    assert names(folder) == ["small"]


@pytest.mark.parametrize(
    ("at", "is_due"),
    [
        (lambda now: now - 3_600, False),
        (lambda now: now - 90_000, True),
        (lambda now: now + 1e7, True),  # a clock that was wrong
        (lambda _: "yesterday", True),
    ],
)
def test_clean_up_is_due_unless_one_was_lately(
    folder: Path, at: Callable[[float], object], is_due: bool
) -> None:
    folder.mkdir()
    (folder / REPORT).write_text(json.dumps({"at": at(time.time())}))
    assert (hours_since(Workspace(folder)) >= 24) == is_due


@pytest.mark.parametrize(
    ("error", "is_cleaned"),
    [(None, True), (RunFailed("a run"), True), (OwnershipLost("it"), False)],
)
def test_command_whose_runs_failed_cleans_up_too(
    folder: Path, error: Exception | None, is_cleaned: bool
) -> None:
    config = run(folder)
    is_told = nullcontext() if error is None else pytest.raises(type(error), match=str(error))
    with is_told, cleaning_afterwards(config, QUIET):
        if error is not None:
            raise error
    assert (folder / REPORT).exists() == is_cleaned


class DeletesBefore(PlainOrchestrator):
    """Deletes the experiment, as another process would, when a stage is about to begin."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.name, self.folder = name, folder

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        if name == self.name:
            delete_named(self.folder, "small", QUIET)
        return super().stage(name, work)


@pytest.mark.parametrize("stage", ["validate", "write-results", "publish"])
@pytest.mark.parametrize("mode", ["strict", "off"])
def test_driver_whose_experiment_is_deleted_writes_nothing_more(
    folder: Path, stage: str, mode: str
) -> None:
    words = ("tracking=mlflow_local", f"validation.mode={mode}")
    with pytest.raises(OwnershipLost, match="small was deleted while"):
        run(folder, *words, orchestrator=DeletesBefore(stage, folder))
    assert names(folder) == []
    assert not (folder / "experiments" / "small").exists()
    assert not (folder / "mlflow.db").exists()
    assert list((folder / "checkpoints").iterdir()) == []


def test_tables_that_nobody_could_make_again_stay(folder: Path) -> None:
    run(folder, "retention.max_workspace_mb=1", "retention.keep_days=0")
    table = folder / "experiments" / "small" / "steps.parquet"
    table.write_bytes(bytes(2 << 20))
    environment = "UPDATE experiment SET environment = json_set(environment, '$.model_version', ?)"
    with opened(folder) as (_, ledger):
        (found,) = ledger.experiments()
        version = found.environment["model_version"]
    sql(folder, environment, "of older code")
    clean_workspace(folder, QUIET)
    assert table.exists()
    sql(folder, environment, version)
    clean_workspace(folder, QUIET)
    assert not table.exists()
