"""The experiment as a Prefect flow: its stages and shards are tasks, its results artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings

from flows.bench import SPECTATOR
from flows.environment import expect_no_delivery, prepare_environment, workspace_folder
from flows.logbook import LOG, BothLogs
from flows.prefect_server import START_SECONDS, own_server
from flows.stages import carry_out
from sim_core.comparison.report import Report
from sim_core.config import ExperimentConfig
from sim_core.config.explain import shortened
from sim_core.error_table import Trouble
from sim_core.errors import ConfigurationError, Unavailable
from sim_core.plan import Point
from sim_core.results import Execution, Findings
from tasks.logs.context import TOLD
from tasks.show_in_prefect import ProgressArtifact, show_results
from tasks.simulate_shard import Log, Shard, Workbench, simulate_shard

Result = TypeVar("Result")


class PrefectOrchestrator:
    """Stages and shards are tasks of the flow that is running."""

    @property
    def log(self) -> Log:
        """Logger of the flow run or task run, and of the workspace."""
        return BothLogs(get_run_logger())

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Do the work as a task of this name."""
        run = task(name=name, cache_policy=NO_CACHE, persist_result=False)(work)
        return run()

    def submit(self, shard: Shard, workbench: Workbench) -> Any:
        """Start a shard as a task; return its future."""
        return simulate_as_task.submit(shard.index, shard, workbench)

    def progress(self, total_steps: int) -> ProgressArtifact:
        """Return a progress bar in Prefect's UI."""
        return ProgressArtifact(total_steps, self.log)

    def show_results(self, name: str, findings: Findings, comparison: Report | None = None) -> None:
        """Show tables in Prefect's UI, if its server answers."""
        try:
            expect_server()
            show_results(name, findings, comparison)
        except (httpx.HTTPError, Unavailable) as error:
            unseen = Trouble.PREFECT_UNSEEN.tell(what="tables", reason=error)
            SPECTATOR.get().warn(unseen)
            LOG.warning("%s", unseen, extra=TOLD)

    def close(self) -> None:
        """Prefect ends its tasks itself."""


@task(
    name="simulate", task_run_name="simulate-{index}", cache_policy=NO_CACHE, persist_result=False
)
def simulate_as_task(index: int, shard: Shard, workbench: Workbench) -> dict[str, Execution]:
    """Execute a shard, see `simulate_shard`."""
    del index
    return simulate_shard(shard, workbench, BothLogs(get_run_logger()))


class Ending:
    """How the work of a flow ended, whatever Prefect was able to note of it."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.has_begun = False
        self.error: BaseException | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what becomes of the block."""
        self.has_begun = True
        try:
            yield
        except BaseException as error:  # Ctrl-C too: a server of Prefect's own ends with it
            self.error = error
            raise


ENDING: ContextVar[Ending] = ContextVar("ending")
"""Where the flow that is started in this context notes its end."""


def _flow_run_name() -> str:
    config: Any = flow_run.parameters["config"]
    section = config if isinstance(config, dict) else config.model_dump()
    return str(section["experiment"]["name"] or section["experiment"]["title"])


@flow(name="experiment", flow_run_name=_flow_run_name, persist_result=False)
def run_experiment(
    config: ExperimentConfig,
    points: list[Point],
    execute: bool = True,  # noqa: FBT001 - a parameter of the flow
) -> None:
    """Run every replicate of every point that has no result yet, and say what was found.

    Args:
        config: The experiment.
        points: Its points; none: the base alone.
        execute: Whether runs without a result are executed.

    Raises:
        UserError: the configuration, a data file or the workspace cannot be used.
        Unavailable: a service that is needed does not start.
        RunFailed: a run failed, or broke the protocol.
    """
    _expect_own_workspace(config)
    prepare_environment(config.workspace)
    with ENDING.get(Ending()).noted():
        carry_out(config, points, PrefectOrchestrator(), execute=execute)
    with suppress(Unavailable):
        expect_server()
        return
    SPECTATOR.get().stage("waiting for Prefect's server, two minutes at most")


def _expect_own_workspace(config: ExperimentConfig) -> None:
    """Refuse to write elsewhere than into the worker's workspace, where a worker carries this out.

    Raises:
        ConfigurationError: whoever has triggered the flow names another folder.
    """
    if deployment.id is None:
        return
    asked, mine = config.workspace.expanduser().absolute(), workspace_folder()
    if asked != mine:
        raise ConfigurationError(
            f"workspace={shortened(str(asked), 200)}: a deployed flow works in its worker's, {mine}. Leave "
            "it out, or set QUORUMLAB_WORKSPACE for the worker"
        )


def run_as_flow(config: ExperimentConfig, points: Sequence[Point], *, execute: bool = True) -> None:
    """Run the flow in this process; the work goes on when Prefect's server goes away meanwhile.

    Raises:
        Unavailable: the server does not answer at the beginning.
        QuorumlabError: as `run_experiment`.
        KeyboardInterrupt: it was interrupted, even where Prefect could not note that.
    """
    expect_server()
    ending = Ending()
    token = ENDING.set(ending)
    try:
        run_experiment(config, list(points), execute)
    except httpx.HTTPError as error:
        expect_no_delivery()
        if not ending.has_begun or isinstance(ending.error, httpx.HTTPError):
            place = get_current_settings().api.url or "an address of this machine"
            raise Unavailable(
                Trouble.PREFECT_UNREACHABLE.tell(place=place, reason=shortened(str(error), 400))
            ) from error
        SPECTATOR.get().warn(Trouble.PREFECT_LOST.tell())
        if ending.error is not None:
            raise ending.error from None
    finally:
        ENDING.reset(token)


PATIENCE_SECONDS = 10.0


def expect_server() -> None:
    """Return when the server answers that is configured, or that this process has started.

    Without either Prefect starts one.

    Raises:
        Unavailable: it does not answer.
    """
    url = get_current_settings().api.url
    if not url:
        return
    own = own_server()
    patience = PATIENCE_SECONDS if own is None else START_SECONDS
    try:
        is_encrypted = url.startswith("https:")  # else certificates take 60 ms to read, for nothing
        httpx.get(f"{url}/health", timeout=patience, verify=is_encrypted).raise_for_status()
    except httpx.HTTPError as error:
        reason = (own and own.last_words()) or error
        raise Unavailable(Trouble.PREFECT_UNREACHABLE.tell(place=url, reason=reason)) from error
