"""The experiment as a Prefect flow: its stages and shards are tasks, its results artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.stages import carry_out
from sim_core.config import ExperimentConfig
from sim_core.plan import Point
from sim_core.results import Execution, Findings
from tasks.show_in_prefect import ProgressArtifact, show_results
from tasks.simulate_shard import Log, Shard, Workbench, simulate_shard

Result = TypeVar("Result")


class PrefectOrchestrator:
    """Stages and shards are tasks of the flow that is running."""

    @property
    def log(self) -> Log:
        """Logger of the flow run or task run."""
        return get_run_logger()

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Do the work as a task of this name."""
        run = task(name=name, cache_policy=NO_CACHE, persist_result=False)(work)
        return run()

    def submit(self, shard: Shard, workbench: Workbench) -> Any:
        """Start a shard as a task; return its future."""
        return simulate_as_task.submit(shard.index, shard, workbench)

    def progress(self, total_steps: int) -> ProgressArtifact:
        """Return a progress bar in Prefect's UI."""
        return ProgressArtifact(total_steps)

    def show_results(self, name: str, findings: Findings) -> None:
        """Show tables in Prefect's UI."""
        show_results(name, findings)

    def close(self) -> None:
        """Prefect ends its tasks itself."""


@task(
    name="simulate", task_run_name="simulate-{index}", cache_policy=NO_CACHE, persist_result=False
)
def simulate_as_task(index: int, shard: Shard, workbench: Workbench) -> dict[str, Execution]:
    """Execute a shard, see `simulate_shard`."""
    del index
    return simulate_shard(shard, workbench, get_run_logger())


def _flow_run_name() -> str:
    config: Any = flow_run.parameters["config"]
    section = config if isinstance(config, dict) else config.model_dump()
    return str(section["experiment"]["name"] or section["experiment"]["title"])


@flow(name="experiment", flow_run_name=_flow_run_name, persist_result=False)
def run_experiment(config: ExperimentConfig, points: list[Point]) -> None:
    """Run every replicate of every point that has no result yet, and say what was found.

    Raises:
        UserError: the configuration, a data file or the workspace cannot be used.
        Unavailable: a service that is needed does not start.
        RunFailed: a run failed, or broke the protocol.
    """
    carry_out(config, points, PrefectOrchestrator())
