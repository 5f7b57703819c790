"""Launching an experiment from the command line."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from flows.bench import SPECTATOR
from flows.clean import cleaning_afterwards
from flows.display import Terminal
from flows.environment import prepare_environment, quiet_prefect_console
from flows.inspect import find_experiment, opened
from flows.orchestrators import PlainOrchestrator
from flows.prefect_server import begin_server, own_server, use_server
from flows.service import use_services
from flows.stages import carry_out
from sim_core.config import ExperimentConfig
from sim_core.errors import QuorumlabError
from sim_core.growth import check_growth
from sim_core.ledger.stored import stored_points
from sim_core.plan import Plan, Point, plan_runs
from sim_core.plugins.sources import plugins_of
from sim_core.simulated_network import SimulatedNetwork
from sim_core.workspace import Workspace, open_workspace
from tasks.estimate_memory import refuse_what_does_not_fit
from tasks.executors import ON_RAY, worth_starting


def launch_experiment(
    config: ExperimentConfig,
    points: Sequence[Point],
    *,
    execute: bool = True,
    console: Console | None = None,
) -> None:
    """Check what can be checked, then run the flow with a display on the terminal.

    Args:
        config: The experiment.
        points: Its points.
        execute: Whether runs without a result are executed.
        console: Where to show it; without one stdout.

    Raises:
        UserError: before anything is started or written.
        RunFailed: a run failed, or broke the protocol.
    """
    plan = check_before_start(config, points)
    workspace = open_workspace(config.workspace).folder
    config = config.model_copy(update={"workspace": workspace})
    use_services(workspace)
    prepare_environment(workspace)  # before Prefect, Ray and MLflow are imported
    console = console or Console()
    by_prefect = config.orchestrator.kind != "none"
    if by_prefect:
        begin_server()
    warm_up(config, plan, execute=execute)
    conduct = _load_prefect(console) if by_prefect else plainly
    with cleaning_afterwards(config, console), Terminal(console, workspace=workspace) as terminal:
        token = SPECTATOR.set(terminal)
        try:
            conduct(config, points, execute)
        finally:
            SPECTATOR.reset(token)


Conduct = Callable[[ExperimentConfig, Sequence[Point], bool], None]


def plainly(config: ExperimentConfig, points: Sequence[Point], execute: bool) -> None:  # noqa: FBT001
    """Carry out an experiment in this process."""
    carry_out(config, points, PlainOrchestrator(), execute=execute)


def _load_prefect(console: Console) -> Conduct:
    """Return what carries out an experiment as a flow."""
    with console.status("starting Prefect"):
        use_server()
        from flows.experiment import run_as_flow

        quiet_prefect_console()

    def conduct(config: ExperimentConfig, points: Sequence[Point], execute: bool) -> None:  # noqa: FBT001
        is_ours = own_server() is not None
        SPECTATOR.get().stage(
            "starting Prefect's server" if is_ours else "telling Prefect's server"
        )
        run_as_flow(config, points, execute=execute)

    return conduct


def warm_up(config: ExperimentConfig, plan: Plan, *, execute: bool = True) -> None:
    """Begin in the background what takes seconds and will be needed, while Prefect starts."""

    def prepare() -> None:
        executor = worth_starting(config.executor, plan.most_nodes)
        on_ray = execute and executor.kind in ON_RAY
        if on_ray:
            from tasks.on_ray import warm_workers
            from tasks.ray_start import start_ray

            with contextlib.suppress(QuorumlabError):  # the flow tries again, and says what it is
                start_ray(executor)
                warm_workers(executor, plan.configs[0], len(plan.runs))
        for library in _needed_later(config, len(plan.labels)):
            importlib.import_module(library)
        if on_ray:
            from tasks.ray_start import ENDED

            ENDED.wait()  # Ray ends with the thread that started it

    if not _all_reused(config, plan):
        threading.Thread(target=prepare, name="warm-up", daemon=True).start()


def _needed_later(config: ExperimentConfig, n_points: int) -> list[str]:
    """Return the libraries that are needed when runs have ended, the first of them first."""
    needed = []
    if config.validation.mode != "off" and config.validation.engine == "great_expectations":
        needed.append("great_expectations")
    if config.output.tables:
        needed += ["pandas", "pyarrow.parquet", "scipy.special", "jinja2"]
        if n_points > 1:
            needed.append("scipy.stats")
    if config.output.plots:
        needed += ["matplotlib.figure", "matplotlib.backends.backend_agg"]
    if config.tracking.kind != "off":
        needed.append("mlflow")
    return needed


def _all_reused(config: ExperimentConfig, plan: Plan) -> bool:
    if not Workspace(config.workspace).has_ledger:
        return False
    with opened(config.workspace) as (_, ledger):
        rows = ledger.runs_of(plan.name)
    finished = {row["run_key"] for row in rows if row["summary"]}
    return len(finished) == len(rows) and all(r.spec.run_key in finished for r in plan.runs)


def check_before_start(config: ExperimentConfig, points: Sequence[Point]) -> Plan:
    """Return the plan, and find the user's mistakes before anything is written.

    Raises:
        UserError: a point, a data file, the workspace or the name cannot be used.
    """
    plan = plan_runs(config, points)
    limit = config.limits.max_estimated_mb
    refuse_what_does_not_fit(plan.configs, len(plan.runs), config.executor, limit)
    for run_config in plan.configs:
        if run_config.traffic.kind != "synthetic" or plugins_of(run_config):
            SimulatedNetwork(run_config, seed=config.experiment.seed)
    workspace = Workspace(config.workspace.expanduser().absolute())
    if workspace.has_ledger:
        with opened(config.workspace) as (_, ledger):
            existing = ledger.experiment(plan.name)
            if existing is not None:
                check_growth(existing, plan, config)
    return plan


def stored_experiment(workspace: Path, name: str) -> tuple[ExperimentConfig, list[Point]]:
    """Return configuration and points of an experiment as the ledger has them.

    Raises:
        UserError: there is no such experiment.
    """
    with opened(workspace) as (place, ledger):
        found = find_experiment(ledger, name)
    config, points = stored_points(found)
    section = config.experiment.model_copy(update={"name": name})
    return config.model_copy(update={"experiment": section, "workspace": place.folder}), points


def hand_to_hydra(words: Sequence[str], config_name: str) -> None:
    """Let Hydra's own command line answer (--help, --cfg, --info, completion)."""
    import hydra

    from flows.composing import list_plugins, provide_plugins
    from flows.overrides import CONF, refuse_config_name, refuse_hostile

    refuse_config_name(config_name)
    refuse_hostile(words)
    list_plugins()
    provide_plugins(words)
    sys.argv = ["quorumlab run", *words]

    @hydra.main(version_base=None, config_path=str(CONF), config_name=config_name)
    def show(config: object) -> None:
        del config

    show()
