"""The command `clean EXPERIMENT`: its folder, rows, checkpoints and MLflow runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from flows.clean import of_database, removals_table
from flows.environment import QUIET
from flows.inspect import find_experiment, opened, state_of
from flows.leftovers import Removal
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import TrackingConfig
from sim_core.errors import ConfigurationError, Unavailable, UserError
from sim_core.ledger.presence import FOLDER, is_at_work
from sim_core.ledger.retention import Holding, delete_experiment, disown, holding
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import Experiment
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
        experiment = _find_what_is_left(workspace, ledger, name)
        held = holding(ledger, name)
        heading = "to delete" if dry_run or ask is not None else "deleted"
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
        if ask is not None and not ask(f"delete {name} ({_state_of(ledger, experiment)})?"):
            console.print("nothing was deleted")
            return
        _delete(workspace, ledger, name, experiment, console)
        console.print(f"[green]deleted[/] {name}" if ask is not None else parts)


def _find_what_is_left(workspace: Workspace, ledger: Ledger, name: str) -> Experiment | None:
    """Return an experiment; None: it is gone from the ledger, and has left its folder.

    Raises:
        UserError: there is neither, or the name would lead out of the folder of experiments.
    """
    place = workspace.experiment(name)
    if place.name != name or name in (".", ".."):
        raise UserError(f"{name!r} is no name of an experiment; quorumlab status shows all of them")
    experiment = ledger.experiment(name)
    if experiment is None and not place.is_dir():
        return find_experiment(ledger, name)
    return experiment


def _state_of(ledger: Ledger, experiment: Experiment | None) -> str:
    return "its folder alone" if experiment is None else state_of(ledger, experiment)


def _delete(
    workspace: Workspace,
    ledger: Ledger,
    name: str,
    experiment: Experiment | None,
    console: Console,
) -> None:
    """Delete all parts; the ledger's rows last, so that the command can be given again."""
    disown(ledger, name)
    if experiment is not None:
        _unpublish(workspace, experiment, console)
    place = workspace.experiment(name)
    if place.is_symlink():  # what it leads to is the user's
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    checkpoints = CheckpointFolder(workspace.checkpoints)
    for file in delete_experiment(ledger, name):
        checkpoints.remove(file)
    for removal in of_database(ledger):
        removal.carry_out()
    if not is_at_work(ledger.engine, name):
        (workspace.folder / FOLDER / name).unlink(missing_ok=True)


def _unpublish(workspace: Workspace, experiment: Experiment, console: Console) -> None:
    """Delete its MLflow runs, or say that they stay."""
    title = experiment.config.get("experiment", {}).get("title")
    places = _published_to(experiment, workspace)
    if title is None or not places:
        return
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    from tasks.track_mlflow import delete_published

    for tracking in places:
        try:
            delete_published(tracking, title, experiment.name, workspace.folder)
        except (Unavailable, ConfigurationError) as error:
            console.print(f"[yellow]its MLflow runs stay:[/] {escape(str(error))}")


def _published_to(experiment: Experiment, workspace: Workspace) -> list[TrackingConfig]:
    """Return where an experiment may be published: where it says, and in the workspace.

    Its configuration may be of another version of this program, which need not be understood.
    """
    places = []
    with suppress(ValidationError):
        tracking = TrackingConfig.model_validate(experiment.config.get("tracking", {}))
        places += [tracking] if tracking.kind == "mlflow_server" else []
    if (workspace.folder / "mlflow.db").exists():
        places.append(TrackingConfig(kind="mlflow_local"))
    return places


def _parts(workspace: Workspace, name: str, held: Holding) -> list[Removal]:
    place = workspace.experiment(name)
    mine = [] if place.is_symlink() else [p for p in place.rglob("*") if p.is_file()]
    found = [
        ("runs of its own", len(held.runs), 0),
        ("rows of these runs", held.rows, 0),
        ("checkpoints of these runs", held.checkpoints, held.checkpoint_bytes),
        (f"files in experiments/{name}", len(mine), sum(p.stat().st_size for p in mine)),
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
