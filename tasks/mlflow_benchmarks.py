"""Benchmarks in MLflow: a run each in the experiment `benchmarks`, and what earlier ones say."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sim_core.config import ExperimentConfig
from tasks.mlflow_store import (
    connected,
    explained,
    find_experiment,
    one_at_a_time,
    tracking_address,
)

if TYPE_CHECKING:  # importing mlflow takes seconds: functions do it when they need it
    from mlflow import MlflowClient
    from mlflow.entities import Run

TITLE = "benchmarks"
"""Of the MLflow experiment."""
SUITE, MACHINE, COMMIT = "quorumlab.suite", "quorumlab.machine", "quorumlab.commit"
MEDIAN, UNIT = "median/", "unit/"
FIGURES = ("median", "p95", "peak_rss_mb")
AT_ONCE = 100
"""Parameters that MLflow takes at once; of metrics it takes ten times as many."""


class PublishedBenchmark(NamedTuple):
    """What MLflow has of a benchmark."""

    start_ms: int
    commit: str
    medians: dict[str, float]
    units: dict[str, str]


def publish_benchmark(
    config: ExperimentConfig, report: Mapping[str, Any], machine: str, file: Path
) -> str:
    """Make an MLflow run of a benchmark, and return its id.

    Args:
        config: With where to publish; its title is `benchmarks`.
        report: As the benchmark file has it.
        machine: Short name of where it was measured.
        file: The benchmark file, which becomes an artifact.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
        ConfigurationError: no address of an MLflow server is given.
    """
    workspace = config.workspace.expanduser().absolute()
    address = tracking_address(config.tracking, workspace)
    with (
        explained(address),
        one_at_a_time(workspace),
        connected(address, workspace, config.tracking) as client,
    ):
        experiment = find_experiment(client, config, workspace)
        run = _create(client, experiment, report, machine)
        _fill(client, run, report)
        client.log_artifact(run, str(file))
        client.set_terminated(run, "FINISHED")
    return run


def _create(client: MlflowClient, experiment: str, report: Mapping[str, Any], machine: str) -> str:
    commit = report["commit"] or "no commit"
    tags = {
        SUITE: report["suite"],
        MACHINE: machine,
        COMMIT: commit,
        "mlflow.source.git.commit": commit,
        **{f"quorumlab.machine.{k}": str(v) for k, v in report["machine"].items()},
    }
    created = client.create_run(
        experiment,
        start_time=round(datetime.fromisoformat(report["at"]).timestamp() * 1e3),
        tags=tags,
        run_name=f"{report['suite']} {commit[:8]}",
    )
    return str(created.info.run_id)


def _fill(client: MlflowClient, run: str, report: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = round(time.time() * 1e3)
    metrics = [Metric(name, value, now, 0) for name, value in _figures(report)]
    params = [Param(f"{UNIT}{row['name']}", row["unit"]) for row in report["results"]]
    params += [Param(k, str(v)) for k, v in report["settings"].items() if v not in (None, [])]
    for first in range(0, len(metrics), AT_ONCE):
        client.log_batch(run, metrics=metrics[first : first + AT_ONCE])
    for first in range(0, len(params), AT_ONCE):
        client.log_batch(run, params=params[first : first + AT_ONCE])


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in report["results"]:
        for key in FIGURES:
            if row[key] is not None:
                yield f"{key}/{row['name']}", float(row[key])
        for other, value in row["ratios"].items():
            yield f"ratio/{row['name']}/{other}", float(value)
        for figure, value in row["figures"].items():
            yield f"{figure}/{row['name']}", float(value)


def published_benchmarks(
    config: ExperimentConfig, suite: str, machine: str, most: int
) -> list[PublishedBenchmark]:
    """Return the newest benchmarks of a suite on a machine, the oldest of them first.

    Those that several processes measured at once are left out: they take longer.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
        ConfigurationError: no address of an MLflow server is given.
    """
    workspace = config.workspace.expanduser().absolute()
    if config.tracking.kind == "mlflow_local" and not (workspace / "mlflow.db").exists():
        return []
    address = tracking_address(config.tracking, workspace)
    with explained(address), connected(address, workspace, config.tracking) as client:
        found = client.get_experiment_by_name(config.experiment.title)
        if found is None:
            return []
        runs = client.search_runs(
            [found.experiment_id],
            filter_string=(
                f"tags.`{SUITE}` = '{suite}' AND tags.`{MACHINE}` = '{machine}' "
                "AND params.workers = '1' AND attributes.status = 'FINISHED'"
            ),
            order_by=["attributes.start_time DESC"],
            max_results=most,
        )
    return [_published(run) for run in reversed(runs)]


def _published(run: Run) -> PublishedBenchmark:
    data = run.data
    medians = {k.removeprefix(MEDIAN): v for k, v in data.metrics.items() if k.startswith(MEDIAN)}
    units = {k.removeprefix(UNIT): v for k, v in data.params.items() if k.startswith(UNIT)}
    return PublishedBenchmark(run.info.start_time, data.tags.get(COMMIT, "")[:8], medians, units)
