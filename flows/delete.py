"""The command `clean EXPERIMENT`: its folder, rows, checkpoints and MLflow runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.clean import of_database, removals_table
from flows.environment import QUIET
from flows.inspect import find_experiment, opened, state_of, stored_points
from flows.leftovers import Removal, bytes_below
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ExperimentConfig, TrackingConfig
from sim_core.errors import Unavailable, UserError
from sim_core.ledger.presence import FOLDER, is_at_work
from sim_core.ledger.retention import Holding, delete_experiment, disown, holding
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace


def delete_named(
    folder: Path,
    name: str,
    console: Console,
    *,
    dry_run: bool = False,
    ask: Callable[[str], bool] | None = None,
) -> None:
    """Delete an experiment: its folder, its rows, its checkpoints, its MLflow runs.

    Runs that another experiment uses stay. A driver that is still at work on it is refused every
    later write. Whatever interrupts it, the same command goes on.

    Args:
        folder: The workspace.
        name: The experiment.
        console: Where to say what goes.
        dry_run: Only say what would go; nothing is changed.
        ask: Returns whether the user agrees; None: nobody is asked.

    Raises:
        UserError: there is no such experiment.
    """
    with opened(folder) as (workspace, ledger):
        experiment = find_experiment(ledger, name)
        config, _ = stored_points(experiment)
        held = holding(ledger, name)
        heading = "to delete" if dry_run else "deleted"
        parts = removals_table(_parts(workspace, name, held), heading)
        if dry_run or ask is not None:
            console.print(parts)
        _tell_stays(held, console)
        if is_at_work(ledger.engine, name):
            console.print(
                f"[yellow]a process works on {name}:[/] what it writes from now on is refused"
            )
        if dry_run:
            return
        if ask is not None and not ask(f"delete {name} ({state_of(ledger, experiment)})?"):
            console.print("nothing was deleted")
            return
        _delete(workspace, ledger, name, config, console)
        console.print(f"[green]deleted[/] {name}" if ask is not None else parts)


def _delete(
    workspace: Workspace, ledger: Ledger, name: str, config: ExperimentConfig, console: Console
) -> None:
    """Delete all parts; the ledger's rows last, so that the command can be given again."""
    disown(ledger, name)
    for tracking in _published_to(config, workspace):
        try:
            _delete_from_mlflow(tracking, config, name, workspace)
        except Unavailable as error:
            console.print(f"[yellow]its MLflow runs stay:[/] {escape(str(error))}")
    place = workspace.experiment(name)
    if place.is_dir():
        shutil.rmtree(place)
    checkpoints = CheckpointFolder(workspace.checkpoints)
    for file in delete_experiment(ledger, name):
        checkpoints.remove(file)
    for removal in of_database(ledger):
        removal.carry_out()
    if not is_at_work(ledger.engine, name):
        (workspace.folder / FOLDER / name).unlink(missing_ok=True)


def _delete_from_mlflow(
    tracking: TrackingConfig, config: ExperimentConfig, name: str, workspace: Workspace
) -> None:
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    from tasks.track_mlflow import delete_published

    delete_published(tracking, config.experiment.title, name, workspace.folder)


def _published_to(config: ExperimentConfig, workspace: Workspace) -> list[TrackingConfig]:
    """Return where an experiment may be published: where it says, and in the workspace."""
    places = [config.tracking] if config.tracking.kind == "mlflow_server" else []
    if (workspace.folder / "mlflow.db").exists():
        places.append(TrackingConfig(kind="mlflow_local"))
    return places


def _parts(workspace: Workspace, name: str, held: Holding) -> list[Removal]:
    place = workspace.experiment(name)
    n_files = sum(path.is_file() for path in place.rglob("*"))
    found = [
        ("runs of its own", len(held.runs), 0),
        ("rows of these runs", held.rows, 0),
        ("checkpoints of these runs", held.checkpoints, held.checkpoint_bytes),
        (f"files in experiments/{name}", n_files, bytes_below(place)),
        ("MLflow runs", held.published + (held.published > 0), 0),
    ]
    return [Removal(what, n, size, lambda: True) for what, n, size in found if n]


def _tell_stays(held: Holding, console: Console) -> None:
    if held.shared:
        console.print(f"{held.shared} of its runs are another experiment's too, and stay")


def ask_on_terminal(question: str) -> bool:
    """Return the user's answer.

    Raises:
        UserError: there is nobody to ask.
    """
    import typer

    if not sys.stdin.isatty():
        raise UserError("nobody is there to be asked: give --yes to delete without a question")
    return typer.confirm(question)
