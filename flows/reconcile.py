"""Bringing back what was left: abandoned experiments, unpublished results, records that are wrong.

The ledger says what has happened. Nobody at work on an experiment that it calls running means that the
driver died; where Prefect's worker can run it again, the flow run is scheduled under the same id, and
otherwise the experiment goes on here. Nothing is taken from a driver that lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.environment import prepare_environment, quiet_prefect_console
from flows.inspect import find_experiment, opened, state_of
from flows.launch import launch_experiment, stored_experiment
from flows.service import use_services
from sim_core.config import ExperimentConfig, OutputConfig, TrackingConfig
from sim_core.error_table import Trouble
from sim_core.errors import QuorumlabError, RunFailed, Unavailable, UserError
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import stored_points
from sim_core.ledger.verify import verify_run
from sim_core.plan import Point, plan_runs
from sim_core.workspace import existing_workspace

if TYPE_CHECKING:  # importing Prefect takes seconds
    from tasks.prefect_records import Record

GRACE_SECONDS = 60.0
"""How long a flow run may take from its start to its first word in the ledger."""
What = Literal["go on", "publish", "schedule", "close", "give up"]
ENDED = ("finished", "failed")
IN_WORDS: dict[What, str] = {
    "go on": "went on",
    "publish": "published",
    "schedule": "scheduled again in Prefect",
    "close": "its end told to Prefect",
    "give up": "marked crashed in Prefect",
}


@dataclass(frozen=True)
class Repair:
    """Something to be brought in line with the ledger."""

    experiment: str
    found: str
    """What is wrong, in words."""
    what: What
    record: Record | None = None


def find_repairs(
    ledger: Ledger, records: Sequence[Record], grace_seconds: float = GRACE_SECONDS
) -> list[Repair]:
    """Return what is to be done, by experiment and by Prefect's records of this workspace."""
    states = {e.name: state_of(ledger, e) for e in ledger.experiments()}
    repairs: list[Repair] = []
    scheduled: set[str] = set()
    for record in records:
        name = _experiment_of(record)
        repair = _repair_record(record, name, states.get(name, "unknown"), scheduled)
        if repair is None or record.seconds_in_state < grace_seconds:
            continue
        if repair.what == "schedule":
            scheduled.add(name)
        repairs.append(repair)
    for experiment in ledger.experiments():
        state = states[experiment.name]
        if state == "abandoned" and experiment.name not in scheduled:
            repairs.append(Repair(experiment.name, "nobody works on it", "go on"))
        elif state in ENDED and (n := _unpublished(ledger, experiment.name)):
            config, _ = stored_points(experiment)
            if config.tracking.kind != "off":
                repairs.append(Repair(experiment.name, f"{n} runs not in MLflow", "publish"))
    return repairs


def _experiment_of(record: Record) -> str:
    """Return the name of the experiment that a flow run is of; its own where that is not known."""
    try:
        config = ExperimentConfig.model_validate(record.parameters.get("config"))
        points = [Point(**point) for point in record.parameters.get("points") or []]
        return plan_runs(config, points).name
    except (QuorumlabError, ValueError, TypeError):  # of another version of this program
        return record.name


def _repair_record(record: Record, name: str, state: str, scheduled: set[str]) -> Repair | None:
    if state == "running":
        return None
    if state in ENDED:
        return Repair(name, f"{record.state} in Prefect, {state} here", "close", record)
    if record.is_deployed and name not in scheduled:
        return Repair(name, f"{record.state} in Prefect, {state} here", "schedule", record)
    if record.state == "CRASHED":
        return None
    return Repair(name, f"{record.state} in Prefect, {state} here", "give up", record)


def _unpublished(ledger: Ledger, name: str) -> int:
    ended = ("finished", "failed", "quarantined")
    return sum(not r["published"] for r in ledger.runs_of(name) if r["state"] in ended)


def repair(found: Repair, folder: Path, state: str) -> str:
    """Do what is to be done; return what came of it, in words."""
    if found.record is not None:
        from tasks import prefect_records

        if found.what == "schedule":
            prefect_records.run_again(found.record)
        elif found.what == "close":
            prefect_records.settle(found.record, state)
        else:
            prefect_records.give_up(found.record)
        return IN_WORDS[found.what]
    config, points = stored_experiment(folder, found.experiment)
    try:
        launch_experiment(config, points, execute=found.what == "go on")
    except RunFailed as error:
        return f"{IN_WORDS[found.what]}: {error}"
    return IN_WORDS[found.what]


def broken_chains(ledger: Ledger) -> list[str]:
    """Return what breaks in the hash chains of all runs, in words."""
    rows = {r["run_key"]: r for e in ledger.experiments() for r in ledger.runs_of(e.name)}
    found = (verify_run(ledger, row) for row in rows.values())
    return [f"run {f.run_key[:12]}, step {f.step}: {f.message}" for f in found if f is not None]


def reconcile_workspace(
    folder: Path,
    console: Console,
    *,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
) -> bool:
    """Repair what is wrong in a workspace, and say so; return whether all of it is right now.

    Args:
        folder: The workspace.
        console: Where to say so.
        dry_run: Only say what would be done.
        grace_seconds: Flow runs that have been in their state for less are left alone.

    Raises:
        WorkspaceError: there is no such workspace.
        Unavailable: Prefect's server does not answer.
    """
    workspace = existing_workspace(folder)
    records = _prefect_records(workspace.folder)
    with opened(folder) as (_, ledger):
        repairs = find_repairs(ledger, records, grace_seconds)
        states = {e.name: e.state for e in ledger.experiments()}
    done = [r.what if dry_run else repair(r, folder, states.get(r.experiment, "")) for r in repairs]
    if repairs:
        console.print(repairs_table(repairs, done, "to do" if dry_run else "done"))
    with opened(folder) as (_, ledger):
        left = [] if dry_run else _still_wrong(ledger, repairs)
        broken = broken_chains(ledger)
    for text in [*left, *broken]:
        console.print(f"[red]wrong:[/] {escape(text)}")
    if not repairs and not broken:
        console.print("[green]nothing to repair[/]: states, publication and hash chains are right")
    return not left and not broken


def repairs_table(repairs: Sequence[Repair], done: Sequence[str], heading: str) -> Table:
    """Return repairs for the terminal."""
    table = Table(title="repairs", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("experiment", "found", heading):
        table.add_column(title)
    for found, text in zip(repairs, done, strict=True):
        table.add_row(found.experiment, found.found, escape(text))
    return table


def _prefect_records(folder: Path) -> list[Record]:
    """Return Prefect's records, where other processes have a server as well.

    Raises:
        Unavailable: it does not answer.
    """
    use_services(folder)
    prepare_environment(folder)
    from flows.experiment import expect_server
    from tasks.prefect_records import has_server, unsettled_records

    quiet_prefect_console()
    if not has_server():
        return []
    expect_server()
    return unsettled_records(folder)


def _still_wrong(ledger: Ledger, repairs: Sequence[Repair]) -> list[str]:
    """Return which experiments are not as they should be after their repair."""
    names = {r.experiment for r in repairs if r.record is None}
    again = [r for r in find_repairs(ledger, []) if r.experiment in names]
    return [f"{r.experiment}: {r.found}" for r in again]


def publish_experiments(folder: Path, name: str | None, to: str | None, console: Console) -> None:
    """Publish one experiment, or all that are not published; nothing is executed again.

    Args:
        folder: The workspace.
        name: The experiment; None: all that ended and are not in MLflow yet.
        to: Address of an MLflow server; None: where the experiment's configuration says, and into
            the workspace where it says nowhere.
        console: Where to say that there is nothing to do.

    Raises:
        UserError: there is no such experiment, or it has not ended.
        Unavailable: MLflow does not answer.
    """
    with opened(folder) as (_, ledger):
        found = [find_experiment(ledger, name)] if name is not None else ledger.experiments()
        for experiment in found:
            if name is not None and experiment.state not in ENDED:
                raise UserError(f"{name} is {state_of(ledger, experiment)}: resume it first")
        chosen = [
            e.name
            for e in found
            if e.name == name or (e.state in ENDED and _unpublished(ledger, e.name))
        ]
    if not chosen:
        console.print("nothing to publish")
    for each in chosen:
        _publish(folder, each, to)


def _publish(folder: Path, name: str, to: str | None) -> None:
    config, points = stored_experiment(folder, name)
    tracking = config.tracking
    if to is not None:
        tracking = TrackingConfig(kind="mlflow_server", uri=to)
    elif tracking.kind == "off":
        tracking = TrackingConfig()
    changes = {"tracking": tracking, "output": OutputConfig()}
    with suppress(RunFailed):  # known since it ended; what there is has been published
        launch_experiment(config.model_copy(update=changes), points, execute=False)
    with opened(folder) as (_, ledger):
        if _unpublished(ledger, name):
            raise Unavailable(Trouble.MLFLOW_UNPUBLISHED.tell(name=name))
