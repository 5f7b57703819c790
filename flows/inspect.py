"""Looking at what a workspace holds: states, chains, validity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.search import is_optimisation
from sim_core.checkpoint import CheckpointFolder
from sim_core.errors import UserError
from sim_core.ledger.condition import damage
from sim_core.ledger.engine import open_engine, open_reader
from sim_core.ledger.presence import is_at_work
from sim_core.ledger.report import finished_runs
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import kept_kinds, label_of, stored_points
from sim_core.ledger.tables import Experiment
from sim_core.ledger.verify import verify_run
from sim_core.plan import Plan, plan_runs
from sim_core.simulate import RunSpec, simulate
from sim_core.workspace import Workspace, existing_workspace, read_ledger_settings


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Workspace, Ledger]]:
    """Give an existing workspace and its ledger.

    Raises:
        WorkspaceError: there is none.
    """
    workspace = existing_workspace(folder)
    settings = read_ledger_settings(workspace)
    ledger = Ledger(
        open_engine(workspace.database, settings),
        CheckpointFolder(workspace.checkpoints),
        reader=open_reader(settings),
        attempts=settings.attempts,
    )
    try:
        yield workspace, ledger
    finally:
        ledger.dispose()


def find_experiment(ledger: Ledger, name: str) -> Experiment:
    """Return an experiment.

    Raises:
        UserError: there is none of this name.
    """
    found = ledger.experiment(name)
    if found is None:
        known = ", ".join(e.name for e in ledger.experiments()) or "none"
        raise UserError(f"no experiment {name!r} in this workspace; there are: {known}")
    return found


def state_of(ledger: Ledger, experiment: Experiment) -> str:
    """Return what state an experiment is in: `abandoned` where whoever ran it is gone."""
    if experiment.state == "running" and not is_at_work(ledger.engine, experiment.name):
        return "abandoned"
    return experiment.state


def show_experiments(folder: Path, console: Console) -> None:
    """Print a table of all experiments of a workspace."""
    with opened(folder) as (workspace, ledger):
        table = Table(title=f"experiments in {workspace.folder}", title_justify="left")
        for heading in ("experiment", "state", "points", "runs", "finished", "steps done"):
            table.add_column(
                heading, justify="left" if heading in ("experiment", "state") else "right"
            )
        for experiment in ledger.experiments():
            rows = ledger.runs_of(experiment.name)
            done = sum(min(row["steps"], row["horizon"]) for row in rows)
            total = sum(row["horizon"] for row in rows)
            table.add_row(
                experiment.name,
                state_of(ledger, experiment),
                str(len(experiment.points)),
                str(len(rows)),
                str(sum(row["summary"] is not None for row in rows)),
                f"{done:,} of {total:,}",
            )
    console.print(table)


def show_runs(folder: Path, name: str, console: Console) -> None:
    """Print the runs of an experiment.

    Raises:
        UserError: there is no such experiment.
    """
    with opened(folder) as (_, ledger):
        experiment = find_experiment(ledger, name)
        rows = ledger.runs_of(name)
        state = state_of(ledger, experiment)
    states = Counter(
        "finished" if r["summary"] and r["state"] == "running" else r["state"] for r in rows
    )
    table = Table(title=f"{name}: {state}", title_justify="left")
    for heading in ("run", "point", "replicate", "state", "steps", "ledger head", "why"):
        table.add_column(heading)
    for row in rows:
        head = row["summary_head"] or row["head"]
        table.add_row(
            row["run_key"][:12],
            label_of(experiment, row),
            str(row["replicate"]),
            row["state"],
            f"{min(row['steps'], row['horizon'])} of {row['horizon']}",
            (head or "-")[:12],
            escape(row["error"] or ""),
        )
    console.print(table)
    console.print(", ".join(f"{n} {state}" for state, n in sorted(states.items())))
    if state in ("abandoned", "interrupted"):
        console.print(f"nobody works on it; to go on: quorumlab resume {name}")


def verify_workspace(folder: Path, target: str | None, console: Console) -> bool:
    """Recompute chains, then repeat the validation; print what breaks, return whether all holds.

    Raises:
        UserError: nothing is called `target`.
    """
    from tasks.validate_ledger import validate_runs

    sound = True
    with opened(folder) as (workspace, ledger):
        names = [e.name for e in ledger.experiments()]
        chosen = names if target is None or target not in names else [target]
        rows = {r["run_key"]: r for name in chosen for r in ledger.runs_of(name)}
        if target is not None and target not in names:
            rows = {key: row for key, row in rows.items() if key.startswith(target)}
            if not rows:
                raise UserError(f"no experiment or run {target!r} in {workspace.folder}")
            chosen = []
        n_steps = 0
        with ledger.reading() as connection:
            holes = damage(connection)
        for text in holes:
            sound = False
            console.print(f"[red]damaged:[/] {workspace.database}: {escape(text)}")
        for row in rows.values():
            found = verify_run(ledger, row)
            n_steps += row["steps"]
            if found is not None:
                sound = False
                console.print(
                    f"[red]broken:[/] run {found.run_key[:12]}, step {found.step}, "
                    f"{found.entry}: {escape(found.message)}"
                )
        console.print(f"{len(rows)} chains recomputed over {n_steps:,} blocks")
        for name in chosen:
            report = validate_runs(ledger, finished_runs(ledger, name))
            sound = sound and report.success
            for failure in report.failed:
                console.print(
                    f"[red]invalid:[/] run {failure.run_id[:12]}: {escape(failure.expectation)}: "
                    f"{escape(failure.detail)}"
                )
            console.print(
                f"{name}: {report.expectations} expectations, {len(report.failed)} broken"
            )
    console.print("[green]all of it holds[/]" if sound else "[red]the ledger does not hold[/]")
    return sound


def replay_run(folder: Path, start: str, console: Console) -> bool:
    """Execute one run again from its record and compare heads.

    A quarantined or broken run is restored: its rows are replaced by what the replay gives.

    Raises:
        UserError: no run, or several, begin with `start`.
    """
    with opened(folder) as (_, ledger):
        matching = {
            row["run_key"]: row
            for e in ledger.experiments()
            for row in ledger.runs_of(e.name)
            if row["run_key"].startswith(start)
        }
        if len(matching) != 1:
            raise UserError(
                f"{len(matching)} runs begin with {start!r}; quorumlab status shows them"
            )
        ((key, row),) = matching.items()
        kept_kinds(key, row["detail"])
        spec = replace(spec_of(ledger, key), detail=row["detail"], max_seconds=float("inf"))
        before = row["head"]
        broken = row["state"] == "quarantined" or verify_run(ledger, row) is not None
        if broken:
            ledger.erase(key)
            (claim,) = ledger.claim([spec])
        for segment in simulate(spec):
            if broken:
                ledger.commit(claim, segment)
            head = segment.head.hex()
        if broken:
            console.print(f"run {key[:12]} restored: ledger head {head[:12]}")
            return True
        console.print(f"run {key[:12]}: ledger head {head[:12]}, the record has {before[:12]}")
        return bool(head == before)


def stored_plan(ledger: Ledger, experiment: Experiment) -> Plan:
    """Return the plan of an experiment with all replicates that the ledger has of its points."""
    config, points = stored_points(experiment)
    if config.experiment.until is None and not is_optimisation(config):
        return plan_runs(config, points)
    enrolled = Counter(row["point"] for row in ledger.runs_of(experiment.name))
    return plan_runs(config, points, [enrolled[index] for index in range(len(experiment.points))])


def spec_of(ledger: Ledger, run_key: str, names: Sequence[str] = ()) -> RunSpec:
    """Return a run's specification, planned anew from its experiment: one of `names`, or any.

    Raises:
        UserError: the code of the model or a data file has changed since.
    """
    for experiment in ledger.experiments():
        if names and experiment.name not in names:
            continue
        plan = stored_plan(ledger, experiment)
        for run in plan.runs:
            if run.spec.run_key == run_key:
                return run.spec
    raise UserError(
        f"run {run_key[:12]} cannot be replayed: the code of the model or a data file has changed "
        "since; check out the commit that summary.json names"
    )
