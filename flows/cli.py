"""The command `quorumlab`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from flows.data import data_app
from flows.environment import collect_garbage_seldom, leave
from flows.handover import hand_over
from sim_core.error_table import Trouble
from sim_core.errors import Interrupted, QuorumlabError, RunFailed, UserError

app = typer.Typer(
    name="quorumlab",
    help="Batch experiments on decentralised threat detection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
PASSED_TO_HYDRA = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--resolve", "-r")
COMPLETION = ("--shell-completion", "-sc")
WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", envvar="QUORUMLAB_WORKSPACE", help="Folder of everything kept."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEFAULT_WORKSPACE = Path("workspace")


@app.command(
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
        launch.show_dry_run(config, points, Console())
    else:
        launch.launch_experiment(config, points)


@app.command(
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def down(workspace: WorkspaceOption = DEFAULT_WORKSPACE, debug: DebugOption = False) -> None:
    """Stop what `up` has started; flows that are running can be resumed."""
    del debug
    from flows.services import stop_services

    stop_services(workspace, Console())


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


def with_workspace(words: Sequence[str]) -> list[str]:
    """Return overrides with the workspace that the environment names, unless they name one."""
    workspace = os.environ.get("QUORUMLAB_WORKSPACE")
    if workspace and not any(word.startswith("workspace=") for word in words):
        return [*words, f"workspace={workspace}"]
    return list(words)


def refuse_words(words: Sequence[str]) -> None:
    """Check that nothing is asked for that would be left out in silence.

    Raises:
        UserError: there is a word.
    """
    if words:
        raise UserError(f"--summary looks at profiles that are there: leave out {' '.join(words)}")


def main() -> None:
    """Run the command line; every error ends as a paragraph on stderr and an exit code."""
    collect_garbage_seldom()
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv
    try:
        if (handed := hand_over(sys.argv[1:])) is not None:
            leave(handed)
        code = app(standalone_mode=False)
    except QuorumlabError as error:
        _fail(error, _label(error), error.exit_code, debug=debug)
    except TyperException as error:
        usage: Any = error  # all of them can show themselves
        usage.show()
        leave(usage.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, "interrupted", Interrupted.exit_code, debug=debug)
    if code == Interrupted.exit_code:  # typer has caught a KeyboardInterrupt
        _fail(KeyboardInterrupt(), "interrupted", code, debug=debug)
    leave(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> Any:
    del number, frame
    raise KeyboardInterrupt


def _label(error: QuorumlabError) -> str:
    if isinstance(error, UserError):
        return "error"
    if isinstance(error, Interrupted):
        return "interrupted"
    return "failed" if isinstance(error, RunFailed) else "error"


def _fail(error: BaseException, label: str, code: int, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    text = str(error) or Trouble.STOPPED.tell()
    print(f"quorumlab: {label}: {text}", file=sys.stderr)
    leave(code)


if __name__ == "__main__":
    main()
