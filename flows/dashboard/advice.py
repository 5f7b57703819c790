"""What is wrong in a workspace, and what to do about it: found by the program, never guessed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import psutil

from flows.dashboard.telemetry import live_issues
from flows.service import read_services
from sim_core.errors import UserError
from sim_core.workspace import Workspace
from tasks.issues import SEVERITIES
from tasks.occupancy import LITTLE

MOST_EXPERIMENTS = 50
"""The latest, of which what their last command noted is read."""
MEGABYTE = 2**20
CPU_SECONDS = 0.1
"""Without a time of its own psutil compares with the last call of the same thread: often there is none."""


@dataclass(frozen=True)
class Advice:
    """Something that is not as it should be."""

    severity: str
    where: str
    what: str
    advice: str


def advice_of(workspace: Workspace, table: pd.DataFrame) -> list[Advice]:
    """Return what is wrong with services and the latest experiments, the worst first.

    Args:
        workspace: Whose services and experiments.
        table: Experiments as `progress.experiment_table` has them.
    """
    found = [*_services(workspace)]
    for row in table.head(MOST_EXPERIMENTS).to_dict("records"):
        found += _state(str(row["experiment"]), str(row["state"]))
        found += _summary(workspace, str(row["experiment"]))
        found += _live(workspace, str(row["experiment"]))
    return sorted(found, key=lambda each: -_rank(each.severity))


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def _services(workspace: Workspace) -> Iterator[Advice]:
    """Yield services that were started for this workspace and do not answer."""
    try:
        services = read_services(workspace.folder)
    except UserError as error:
        yield Advice("high", "services", str(error), "then start them again: quorumlab up")
        return
    for service in services:
        if (trouble := service.trouble) is not None:
            advice = f"quorumlab up starts it again; its log: {service.log}"
            yield Advice("high", service.name, f"{service.name} {trouble}", advice)


def _state(name: str, state: str) -> Iterator[Advice]:
    if state in ("abandoned", "interrupted"):
        what = "it has not ended, and nobody is at work on it"
        yield Advice("high", name, what, f"quorumlab resume {name}")
    elif state == "failed":
        what = "a run failed, or its ledger was refused"
        yield Advice("high", name, what, f"quorumlab status {name} says which, and why")


def _summary(workspace: Workspace, name: str) -> Iterator[Advice]:
    """Yield what the last command that worked on an experiment has noted."""
    try:
        summary = read_summary(workspace, name)
    except UserError as error:
        yield Advice("medium", name, str(error), f"quorumlab resume {name} writes it again")
        return
    for issue in _listed(summary.get("issues")):
        after = issue.get("after_seconds")
        when = f" (after {after:,.0f} s)" if isinstance(after, int | float) else ""
        text = (str(issue.get(key, "-")) for key in ("severity", "text", "advice"))
        severity, what, todo = text
        yield Advice(severity, name, what + when, todo)
    for failed in _listed((summary.get("validation") or {}).get("failed")):
        what = f"validation: {failed.get('expectation', '-')}: {failed.get('detail', '-')}"
        yield Advice("critical", name, what, f"quorumlab verify {name}")
    utilisation = summary.get("utilisation") or {}
    if (advice := utilisation.get("advice")) not in (None, LITTLE):
        busy = utilisation.get("busy_share")
        share = f"{busy:.0%}" if isinstance(busy, int | float) else "-"
        why, _, todo = str(advice).partition(": ")
        yield Advice("low", name, f"workers were busy {share} of the time: {why}", todo)


def _live(workspace: Workspace, name: str) -> Iterator[Advice]:
    """Yield what a command has noted that is at work on an experiment, or was killed."""
    for found in live_issues(workspace.experiment(name)):
        what = f"{found.issue.text} (at {found.at:%H:%M:%S} UTC)"
        yield Advice(found.issue.severity, name, what, found.issue.advice)


def _listed(found: Any) -> list[dict[str, Any]]:
    return [each for each in found or [] if isinstance(each, dict)]


def read_summary(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return summary.json of an experiment; empty where it has none yet.

    Raises:
        UserError: it cannot be read.
    """
    path = workspace.experiment(name) / "summary.json"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def operation_table(summary: dict[str, Any]) -> pd.DataFrame:
    """Return a row per operation of an experiment's last command: how often, how long, how many failed."""
    rows = [
        {
            "operation": name,
            "count": found.get("count"),
            "failed": found.get("errors"),
            "mean ms": _milliseconds(found.get("mean")),
            "p95 ms": _milliseconds(found.get("p95")),
            "slowest ms": _milliseconds(found.get("maximum")),
        }
        for name, found in sorted((summary.get("operations") or {}).items())
    ]
    return pd.DataFrame(rows)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)


@dataclass(frozen=True)
class Machine:
    """What this machine has and uses now."""

    cpu_percent: float
    """Of all processors, over a tenth of a second."""
    memory_percent: float
    memory_mb: float
    disk_free_mb: float


def machine_now(folder: Path) -> Machine:
    """Return the machine's figures, of the disk of a folder."""
    memory = psutil.virtual_memory()
    place = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    return Machine(
        psutil.cpu_percent(CPU_SECONDS),
        memory.percent,
        (memory.total - memory.available) / MEGABYTE,
        psutil.disk_usage(str(place)).free / MEGABYTE,
    )
