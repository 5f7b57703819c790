"""Commands that carry out experiments."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flows.commands.application import (
    DEFAULT_WORKSPACE,
    DebugOption,
    WorkspaceOption,
    app,
    with_workspace,
)

PASSED_TO_HYDRA = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--resolve", "-r")
COMPLETION = ("--shell-completion", "-sc")

PANEL = "Experiments"


@app.command(
    rich_help_panel=PANEL,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
    options_metavar="[-m] [--dry-run] [--config-name NAME] [--cfg job] [--help]",
)
def run(
    context: typer.Context,
    multirun: Annotated[bool, typer.Option("--multirun", "-m")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    config_name: Annotated[str, typer.Option("--config-name", "-cn")] = "config",
    debug: DebugOption = False,
) -> None:
    """Run an experiment: every replicate of a configuration, [bold]KEY=VALUE[/] ...

    A sweep with -m KEY=A,B; a preset with +study=NAME; --cfg job shows the composed configuration
    and --help all choices. The same command again goes on where it was.
    """
    del debug
    from flows import launch

    words = list(context.args)
    if any(word.split("=")[0] in (*PASSED_TO_HYDRA, *COMPLETION) for word in words):
        launch.hand_to_hydra(words, config_name)
        return
    from flows.compose import compose_experiment

    config, points = compose_experiment(
        with_workspace(words), config_name=config_name, multirun=multirun
    )
    if dry_run:
        from flows.dry_run import show_dry_run

        show_dry_run(config, points, Console())
    else:
        launch.launch_experiment(config, points)


@app.command(
    rich_help_panel=PANEL,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[--json] [--config-name NAME] [--debug]",
)
def optimise(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; what else there is goes to stderr.")
    ] = False,
    config_name: Annotated[str, typer.Option("--config-name", "-cn")] = "config",
    debug: DebugOption = False,
) -> None:
    """Find the best point: [bold]optimise.metric=... optimise.factors=...[/] and any KEY=VALUE.

    Points are chosen by what those before have found. The same command again goes on where it was;
    a larger optimise.trials adds to it.
    """
    del debug
    from flows.optimise import optimise as carry_out

    carry_out(with_workspace(context.args), config_name=config_name, as_json=as_json)


@app.command(rich_help_panel=PANEL)
def resume(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Go on with an experiment after a crash or an interruption."""
    del debug
    from flows import launch

    config, points = launch.stored_experiment(workspace, experiment)
    launch.launch_experiment(config, points)


@app.command(rich_help_panel=PANEL)
def status(
    experiment: Annotated[str | None, typer.Argument(help="Name; without it all.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
) -> None:
    """Show progress and states, and what failed and why."""
    del debug
    from flows.inspect import show_experiments, show_runs

    if experiment is None:
        show_experiments(workspace, Console())
    else:
        show_runs(workspace, experiment, Console())
