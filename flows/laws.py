"""The laws as experiments: run their studies, and show measured beside exact."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.compose import compose_experiment
from flows.environment import prepare_environment, quiet_prefect_console
from flows.inspect import opened
from flows.launch import check_before_start
from sim_core.config import ExperimentConfig
from sim_core.errors import UserError
from sim_core.laws.catalogue import LAWS, Law
from sim_core.laws.findings import RunResult
from sim_core.laws.table import HEADINGS, PointResults, Row, compare, write_page
from sim_core.plan import Plan, Point
from sim_core.results import collect_findings
from sim_core.workspace import Workspace, open_workspace, write_whole


def check_laws(
    names: Sequence[str],
    workspace: Path,
    console: Console,
    *,
    replicates: int | None = None,
    output: Path | None = None,
) -> bool:
    """Run laws (all without `names`), show their tables, and return whether all agree.

    Raises:
        UserError: there is no such law, or the workspace cannot be used.
        RunFailed: a run failed, or broke the protocol.
    """
    tables = []
    for law in chosen_laws(names):
        config, points = compose_law(law, workspace, replicates=replicates)
        plan = check_before_start(config, points)
        if not _is_there(config, plan):
            _run(config, points, console)
        rows = compare(law, read_results(workspace, plan))
        console.print(rich_table(law, rows))
        tables.append((law, config.experiment.replicates, rows))
    if output is not None:
        words = ["quorumlab laws", *names]
        words += [] if replicates is None else [f"--replicates {replicates}"]
        write_whole(output, write_page(tables, " ".join([*words, f"--output {output}"])))
    differing = sum(not row.finding.agrees for _, _, rows in tables for row in rows)
    n_rows = sum(len(rows) for _, _, rows in tables)
    console.print(
        f"[green]all {n_rows} values agree[/]"
        if not differing
        else f"[red]{differing} of {n_rows} values differ[/]"
    )
    return not differing


def chosen_laws(names: Sequence[str]) -> list[Law]:
    """Return the laws of these names, all without any.

    Raises:
        UserError: there is no such law.
    """
    for name in names:
        if name not in LAWS:
            near = difflib.get_close_matches(name, LAWS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"no law {name!r}{hint} All laws: {', '.join(LAWS)}")
    return [law for law in LAWS.values() if not names or law.name in names]


def compose_law(
    law: Law, workspace: Path, *overrides: str, replicates: int | None = None
) -> tuple[ExperimentConfig, list[Point]]:
    """Return the study of a law, unpublished."""
    words = [f"+study=laws/{law.name}", "tracking=off", *overrides]
    if replicates is not None:
        words.append(f"experiment.replicates={replicates}")
    config, points = compose_experiment(words)
    return config.model_copy(update={"workspace": workspace}), points


def read_results(workspace: Path, plan: Plan) -> list[PointResults]:
    """Return what the finished runs of an experiment left, per point, read from the ledger."""
    with opened(workspace) as (_, ledger):
        found = collect_findings(ledger, plan.name)
    steps = dict(iter(found.steps.groupby("run_id", sort=False)))
    of_label: dict[str, list[RunResult]] = {label: [] for label in plan.labels}
    for record in found.records:
        if record.state == "finished" and record.label in of_label:
            rows = steps[record.run_id]
            columns = {name: rows[name].to_numpy() for name in rows.columns}
            of_label[record.label].append(RunResult(record.metrics, columns))
    return list(zip(plan.configs, of_label.values(), strict=True))


def rich_table(law: Law, rows: Sequence[Row]) -> Table:
    """Return a law's rows for the terminal."""
    table = Table(title=law.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
    for row in rows:
        style = None if row.finding.agrees else "bold red"
        table.add_row(*(escape(cell) for cell in row.cells()), style=style)
    return table


def _run(config: ExperimentConfig, points: Sequence[Point], console: Console) -> None:
    """Run the study of a law as `quorumlab run` would, with one line in place of all metrics."""
    workspace = open_workspace(config.workspace).folder
    prepare_environment(workspace)  # before Prefect is imported
    with console.status("starting Prefect"):
        from flows.bench import SPECTATOR, Bench, Outcome
        from flows.display import Terminal
        from flows.experiment import run_experiment

        quiet_prefect_console()

    class OneLine(Terminal):
        def finished(self, outcome: Outcome, bench: Bench) -> None:
            del bench
            counts = outcome.counts
            self.console.print(
                f"[dim]{outcome.name}: {counts['finished']} of {counts['planned']} runs finished, "
                f"{counts['reused']} reused; {outcome.wall_seconds:.1f} s[/]"
            )

    with OneLine(console, workspace=workspace) as terminal:
        token = SPECTATOR.set(terminal)
        try:
            run_experiment(config.model_copy(update={"workspace": workspace}), list(points))
        finally:
            SPECTATOR.reset(token)


def _is_there(config: ExperimentConfig, plan: Plan) -> bool:
    """Return whether every run of the plan is finished."""
    if not Workspace(config.workspace.expanduser().absolute()).has_ledger:
        return False
    with opened(config.workspace) as (_, ledger):
        experiment = ledger.experiment(plan.name)
        finished = {r["run_key"] for r in ledger.runs_of(plan.name) if r["summary"] is not None}
    state = None if experiment is None else experiment.state
    return state == "finished" and finished >= {run.spec.run_key for run in plan.runs}
