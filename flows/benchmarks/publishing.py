"""Where figures go and come from again: files of the workspace, and MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.benchmarks.history import earlier_reports, keep_report
from flows.benchmarks.machine import describe_machine, machine_id
from flows.benchmarks.trends import Past, past_of
from sim_core.config import ExperimentConfig
from sim_core.errors import Unavailable

MOST_PAST = 50
"""Benchmarks that a trend looks at."""


def history_of(workspace: Path, suite: str, tracking: str, console: Console) -> list[Past]:
    """Return the benchmarks of a suite on this machine, the oldest first.

    They are MLflow's; where it is off or away, those of the files in the workspace.
    """
    if tracking != "off":
        try:
            return published_history(workspace, suite, tracking)
        except Unavailable as error:
            console.print(
                f"warning: {error}; the workspace's own files are looked at", style="yellow"
            )
    return kept_history(workspace, suite)


def published_history(workspace: Path, suite: str, tracking: str) -> list[Past]:
    """Return the benchmarks of a suite on this machine that MLflow has, the oldest first.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
        ConfigurationError: no address of an MLflow server is given.
    """
    from tasks.mlflow_benchmarks import published_benchmarks

    machine = machine_id(describe_machine())
    published = published_benchmarks(settings(workspace, tracking), suite, machine, MOST_PAST)
    return [
        Past(
            datetime.fromtimestamp(each.start_ms / 1e3, UTC).isoformat(),
            each.commit,
            each.medians,
            each.units,
        )
        for each in published
    ]


def kept_history(workspace: Path, suite: str) -> list[Past]:
    """Return the benchmarks of a suite on this machine in files of the workspace, the oldest first."""
    machine = describe_machine()
    return [past_of(each) for each in earlier_reports(workspace, suite, machine, MOST_PAST)]


def publish(report: Mapping[str, Any], workspace: Path, tracking: str, console: Console) -> Path:
    """Keep a report in the workspace and bring it to MLflow; return its file.

    Where MLflow is away, a warning says so: figures are not measured again for that.
    """
    file = keep_report(report, workspace)
    if tracking == "off":
        return file
    from tasks.mlflow_benchmarks import publish_benchmark

    try:
        machine = machine_id(report["machine"])
        publish_benchmark(settings(workspace, tracking), report, machine, file)
    except Unavailable as error:
        console.print(f"warning: {error}; the figures are in {file}", style="yellow")
    return file


def settings(workspace: Path, tracking: str) -> ExperimentConfig:
    """Return the configuration that says where MLflow is."""
    from tasks.mlflow_benchmarks import TITLE

    return ExperimentConfig.model_validate(
        {"experiment": {"title": TITLE}, "tracking": {"kind": tracking}, "workspace": workspace}
    )
