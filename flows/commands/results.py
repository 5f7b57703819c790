"""Commands that say what was found, and whether it still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.application import (
    DEFAULT_WORKSPACE,
    DebugOption,
    WorkspaceOption,
    app,
)

PANEL = "Results"


@app.command(rich_help_panel=PANEL)
def compare(
    experiments: Annotated[list[str], typer.Argument(help="Names of experiments.")],
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Point; of several experiments NAME/POINT.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="What to compare; may be repeated.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=1e-9, max=0.999, help="Level after correction.")
    ] = None,
    smallest_effect: Annotated[
        list[str] | None,
        typer.Option("--smallest-effect", help="What matters: 5%, f1=2% or f1=0.01; repeatable."),
    ] = None,
    across_versions: Annotated[
        bool, typer.Option("--across-versions", help="Compare results of different models too.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for everything.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="File for a row per comparison.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="File for a page: verdicts, plots, tables.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Say which points differ from a baseline, in what, and how sure that is.

    From the ledger alone, of one experiment or several; nothing is executed.
    """
    del debug
    from flows.compare import compare_experiments

    compare_experiments(
        workspace,
        experiments,
        Console(),
        baseline=baseline,
        metrics=metric or (),
        alpha=alpha,
        smallest_effect=smallest_effect or (),
        across_versions=across_versions,
        json_file=json_file,
        csv_file=csv_file,
        html_file=html_file,
    )


@app.command(rich_help_panel=PANEL)
def sensitivity(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Metric; may be given repeatedly.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Show which factors of a design matter, and how much of the variance is the seeds'.

    For experiments with design=saltelli (Sobol' indices) or design=morris (elementary effects).
    """
    del debug
    from flows.sensitivity import report_sensitivity

    report_sensitivity(workspace, experiment, metric or [], Console(), as_json=as_json)


@app.command(rich_help_panel=PANEL)
def export(
    experiment: Annotated[str, typer.Argument(help="Name.")],
    folder: Annotated[Path, typer.Argument(help="Folder that is made.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Write ledger, results and configuration as Parquet and JSON, with the SHA-256 of each file."""
    del debug
    from flows.export import export_experiment

    export_experiment(workspace, experiment, folder, Console())


@app.command(rich_help_panel=PANEL)
def publish(
    experiment: Annotated[
        str | None, typer.Argument(help="Name; without it all that is not published.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="Address of an MLflow server.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Publish finished experiments to MLflow, with tables and plots; nothing is executed again.

    With PREFECT_API_URL set, Prefect shows them too. For experiments that ran where no server was.
    """
    del debug
    from flows.reconcile import publish_experiments

    publish_experiments(workspace, experiment, to, Console())


@app.command(rich_help_panel=PANEL)
def verify(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT|RUN]", help="Name, or start of a run's key."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Recompute hash chains and repeat the validation from the database alone."""
    del debug
    from flows.inspect import verify_workspace

    if not verify_workspace(workspace, target, Console()):
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def replay(
    run: Annotated[str, typer.Argument(help="Start of a run's key.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Run one run again, alone, from its record, and compare or restore its rows."""
    del debug
    from flows.inspect import replay_run

    if not replay_run(workspace, run, Console()):
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def laws(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME ...]", help="Laws; without any, all.")
    ] = None,
    replicates: Annotated[int | None, typer.Option(min=2, help="Runs of each point.")] = None,
    output: Annotated[Path | None, typer.Option(help="Markdown page to write.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Run the studies of laws, and show what is measured beside the exact values."""
    del debug
    from flows.laws import check_laws

    if not check_laws(names or [], workspace, Console(), replicates=replicates, output=output):
        raise typer.Exit(1)
