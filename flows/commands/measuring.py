"""Commands that measure this program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.application import (
    DEFAULT_WORKSPACE,
    DebugOption,
    WorkspaceOption,
    app,
    refuse_words,
    with_workspace,
)

PANEL = "Measuring this program"


@app.command(rich_help_panel=PANEL)
def benchmark(
    suite: Annotated[
        str | None, typer.Option("--suite", help="What is measured; step without it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File for the figures: .json or .csv.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Benchmark file to compare with.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="OLD NEW", help="Compare two files; measure nothing."),
    ] = None,
    trend: Annotated[
        bool, typer.Option("--trend", help="Say where earlier figures tend; measure nothing.")
    ] = False,
    threshold: Annotated[
        str, typer.Option("--threshold", help="From where worse is a regression: 20% or 0.2.")
    ] = "20%",
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Samples of each case.")] = 15,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Calls before the first.")] = 2,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that measure at once.")
    ] = 1,
    agents: Annotated[
        str | None, typer.Option("--agents", metavar="N[,N...]", help="Nodes of whole runs.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of these.")] = None,
    cache_size: Annotated[
        str | None, typer.Option("--cache-size", metavar="MB[,MB...]", help="Their caches.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", min=5, help="Length of orchestration's sweeps.")
    ] = None,
    tracking: Annotated[
        str, typer.Option("--tracking", help="Where figures go: mlflow_local, mlflow_server, off.")
    ] = "mlflow_local",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Measure how fast this program is here, and compare that with a baseline.

    With --agents, --steps or --cache-size whole runs of these sizes. Exit code 1 on a regression.
    """
    del debug
    from flows.benchmarks import command
    from flows.benchmarks.suite_runs import Parameters

    asked = command.Asked(
        workspace=workspace,
        suite=suite,
        output=output,
        baseline=baseline,
        threshold=command.share("--threshold", threshold),
        repeat=repeat,
        warmup=warmup,
        workers=workers,
        tracking=tracking,
        parameters=Parameters(
            runs=runs,
            agents=command.sizes("--agents", agents, least=2),
            steps=steps,
            cache_mb=command.sizes("--cache-size", cache_size, least=0),
        ),
    )
    if not command.benchmark(asked, compare, Console(), Console(stderr=True), is_trend=trend):
        raise typer.Exit(1)


@app.command(
    rich_help_panel=PANEL,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[--summary] [--config-name NAME] [--workspace FOLDER] [--debug]",
)
def profile(
    context: typer.Context,
    summary: Annotated[
        bool, typer.Option("--summary", help="What all profiles of the workspace say together.")
    ] = False,
    config_name: Annotated[str, typer.Option("--config-name", "-cn")] = "config",
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="Folder of everything kept.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Execute one run of a configuration, [bold]KEY=VALUE[/] ..., under profilers of time and memory.

    The first replicate of the first point. Nothing is entered into the ledger.
    """
    del debug
    words = [*context.args, *([f"workspace={workspace}"] if workspace else [])]
    if summary:
        refuse_words(context.args)
        from flows.profile import summarise_profiles

        folder = workspace or Path(os.environ.get("QUORUMLAB_WORKSPACE", DEFAULT_WORKSPACE))
        summarise_profiles(folder, Console())
        return
    from flows.compose import compose_experiment
    from flows.profile import profile_run

    config, points = compose_experiment(with_workspace(words), config_name=config_name)
    profile_run(config, points, Console())
