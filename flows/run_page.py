"""What people find on the page of a run that they have triggered: tables, and ways into MLflow."""

from __future__ import annotations

from pathlib import Path

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.bench import Bench, Outcome, Spectator
from flows.mlflow_pages import mlflow_links
from flows.stages import describe_failure
from sim_core.config import TrackingConfig
from sim_core.error_table import Trouble
from tasks.show_in_prefect import show_results

MOST_FINDINGS = 20


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


def _counts(outcome: Outcome) -> str:
    counts = outcome.counts
    if outcome.state != "finished":
        return f"**{describe_failure(outcome)}**"
    text = f"{counts['finished']} of {counts['planned']} runs finished"
    return f"{text}, {counts['reused']} of them before." if counts["reused"] else f"{text}."
