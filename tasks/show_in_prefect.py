"""Progress and results as artifacts in Prefect's UI."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from sim_core.results import MAIN_METRICS, Findings, in_words


class ProgressArtifact:
    """A progress bar in Prefect's UI, updated when it has moved by a percent."""

    def __init__(self, total_steps: int) -> None:
        """Create the artifact in the flow run that is running."""
        self._total = max(total_steps, 1)
        self._shown = 0.0
        made: Any = create_progress_artifact(
            0.0, key="progress", description="Steps committed to the ledger"
        )
        self._id: UUID = made

    def show(self, done_steps: int) -> None:
        """Show how many steps are committed."""
        percent = round(100.0 * min(done_steps / self._total, 1.0), 1)
        if percent - self._shown >= 1 or percent == 100 != self._shown:
            update_progress_artifact(self._id, percent)
            self._shown = percent


def show_results(name: str, findings: Findings) -> None:
    """Create a table of means and intervals, and a note on runs that did not finish."""
    rows = [
        {"point": label, "runs": max((i.n for i in intervals.values()), default=0)}
        | {metric: in_words(intervals.get(metric)) for metric in MAIN_METRICS}
        for label, intervals in zip(findings.labels, findings.points, strict=True)
    ]
    create_table_artifact(rows, key="results", description=f"{name}: means with 95 % intervals")
    lines = [
        f"- `{r.run_id[:12]}` ({r.label}, replicate {r.replicate}): **{r.state}**, {r.error or ''}"
        for r in findings.records
        if r.state != "finished"
    ]
    if lines:
        text = "\n".join(["# Runs without a result", *lines[:200]])
        create_markdown_artifact(text, key="problems", description="Runs that did not finish")
