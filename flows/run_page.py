"""What people find on the page of a run that they have triggered: tables, and ways into MLflow."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.bench import Bench, Outcome, Spectator
from flows.service import MLFLOW, address_of
from flows.stages import describe_failure
from sim_core.config import TrackingConfig
from sim_core.error_table import Trouble
from tasks.mlflow_rows import Place
from tasks.mlflow_store import run_table
from tasks.show_in_prefect import show_results

MOST_COMPARED = 30
"""Runs that MLflow is to show side by side; of more, the first replicates of each point."""
MOST_FINDINGS = 20
ONLY_TRAINING = "workflowType=machine_learning"
"""Without it MLflow's menu is that for language models."""


class Witness(Spectator):
    """Keeps what became of an experiment."""

    outcome: Outcome | None = None

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """Keep it."""
        del bench
        self.outcome = outcome


def show_outcome(outcome: Outcome, tracking: TrackingConfig, workspace: Path) -> None:
    """Show tables, what was found, and where to go on, as artifacts of the flow that is running."""
    try:
        show_results(outcome.name, outcome.findings, outcome.comparison)
        create_markdown_artifact(
            _summary(outcome, tracking, workspace),
            key="summary",
            description=f"{outcome.name}: what was found, and where to go on",
        )
    except httpx.HTTPError as error:
        get_run_logger().warning("%s", Trouble.PREFECT_UNSEEN.tell(what="tables", reason=error))


def _summary(outcome: Outcome, tracking: TrackingConfig, workspace: Path) -> str:
    lines = [f"# {outcome.name}", "", _counts(outcome), ""]
    if outcome.comparison is not None:
        found = outcome.comparison.findings
        lines += [f"## Compared with {outcome.comparison.baseline}", ""]
        lines += [f"- {each.sentence}" for each in found[:MOST_FINDINGS]]
        if not found:
            lines.append("- no difference is shown; more replicates may show one")
        lines += ["- all comparisons: the artifact `verdicts`", ""]
    lines += ["## Where to go on", ""]
    links = mlflow_links(outcome.name, tracking, workspace)
    lines += [f"- [{text}]({address})" for text, address in links.items()]
    lines.append(
        f"- files: `experiments/{outcome.name}` of the workspace, `report.html` among them"
    )
    return "\n".join(lines)


def mlflow_links(name: str, tracking: TrackingConfig, workspace: Path) -> dict[str, str]:
    """Return the pages of an experiment in MLflow, by what they show.

    Nothing where `quorumlab up` has not started its server, or where it is not published.
    """
    server = address_of(workspace, MLFLOW)
    if server is None:
        return {}
    try:
        table = run_table(tracking, workspace)
        places = table.places(name) if table is not None else []
    except sqlite3.Error:
        return {}
    if not places:
        return {}
    number = places[0].experiment_id
    wanted = quote(f"tags.\"quorumlab.experiment\" = '{name}'")
    runs = quote(json.dumps([place.run for place in compared_places(places)]))
    return {
        "All runs in MLflow": (
            f"{server}/#/experiments/{number}/runs?{ONLY_TRAINING}&searchFilter={wanted}"
        ),
        "Runs side by side in MLflow": (
            f"{server}/#/compare-runs?runs={runs}"  # MLflow looks for them at the beginning only
            f"&experiments={quote(json.dumps([number]))}&{ONLY_TRAINING}"
        ),
    }


def compared_places(places: list[Place]) -> list[Place]:
    """Return as many replicates of each point as MLflow can show side by side, the same of each.

    >>> a, b = (Place("1", run, run, 0) for run in "ab")
    >>> [place.run for place in compared_places([b, a])]
    ['a', 'b']
    >>> many = [Place("1", f"{i}", f"{i % 4}", i // 4) for i in range(100)]
    >>> chosen = compared_places(many)
    >>> len(chosen), {place.replicate for place in chosen} == set(range(7))
    (28, True)
    """
    each = max(1, MOST_COMPARED // len({place.point for place in places}))
    chosen = [place for place in places if place.replicate < each]
    return sorted(chosen, key=lambda place: (place.point, place.replicate))[:MOST_COMPARED]


def _counts(outcome: Outcome) -> str:
    counts = outcome.counts
    if outcome.state != "finished":
        return f"**{describe_failure(outcome)}**"
    text = f"{counts['finished']} of {counts['planned']} runs finished"
    return f"{text}, {counts['reused']} of them before." if counts["reused"] else f"{text}."
