"""Commands that start and stop services, and keep a workspace in order."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flows.commands.application import (
    DEFAULT_WORKSPACE,
    DebugOption,
    WorkspaceOption,
    app,
)

PANEL = "Services and workspace"


@app.command(rich_help_panel=PANEL)
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65_435)] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65_435)] = 5000,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65_435)] = 8501,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Start Prefect's server and worker, MLflow's server and the dashboard on the loopback, with all deployments.

    What is there already stays; a port that is taken gives way to the next free one.
    """
    del debug
    from flows.service import DASHBOARD, MLFLOW, PREFECT
    from flows.services import FIRST_PORTS, start_services

    asked = {PREFECT: prefect_port, MLFLOW: mlflow_port, DASHBOARD: dashboard_port}
    start_services(workspace, Console(), ports={**FIRST_PORTS, **asked})


@app.command(rich_help_panel=PANEL)
def down(workspace: WorkspaceOption = DEFAULT_WORKSPACE, debug: DebugOption = False) -> None:
    """Stop what `up` has started; flows that are running can be resumed."""
    del debug
    from flows.services import stop_services

    stop_services(workspace, Console())


@app.command(rich_help_panel=PANEL)
def dashboard(
    port: Annotated[
        int, typer.Option(min=1, max=65_435, help="The first to try; the next free one is taken.")
    ] = 8501,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Serve the dashboard on the loopback until Ctrl-C: live experiments, network, ledger, comparisons.

    `up` starts it too, beside Prefect and MLflow.
    """
    del debug
    from flows.dashboard.serve import serve_dashboard

    serve_dashboard(workspace, Console(), port=port)


@app.command(rich_help_panel=PANEL)
def reconcile(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong.")] = False,
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds that a flow run of Prefect may take to begin its work."),
    ] = 60.0,
    debug: DebugOption = False,
) -> None:
    """Repair what was left behind when something died or was away.

    Goes on with experiments whose process is gone, publishes what is not in MLflow yet, tells
    Prefect how flow runs ended, and recomputes all hash chains.
    """
    del debug
    from flows.reconcile import reconcile_workspace

    if not reconcile_workspace(workspace, Console(), dry_run=dry_run, grace_seconds=grace):
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def clean(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of an experiment to delete; without it none is.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and how much.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Remove what nobody needs any more; with a name, delete that experiment.

    What resuming, verifying or a longer horizon needs is never removed.
    """
    del debug
    if experiment is None:
        from flows.clean import clean_workspace

        clean_workspace(workspace, Console(), dry_run=dry_run)
        return
    from flows.delete import ask_on_terminal, delete_named

    ask = None if yes else ask_on_terminal
    delete_named(workspace, experiment, Console(), dry_run=dry_run, ask=ask)


@app.command(rich_help_panel=PANEL)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Look at versions, memory, disk, ports, services and the ledger, and say what to mend."""
    del debug
    from flows.doctor import diagnose

    if not diagnose(workspace, Console(), as_json=as_json):
        raise typer.Exit(1)
