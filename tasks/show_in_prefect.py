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

from sim_core.results import Findings, Interval

MAIN_METRICS = (
    "f1",
    "precision",
    "recall",
    "auroc",
    "detection_delay_steps",
    "immunity_share",
    "true_confirmations",
    "false_confirmations",
    "benign_blocked_share",
    "messages_sent",
)


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


def in_words(found: Interval | None) -> str:
    """Return mean and half width of the interval for a table.

    >>> in_words(Interval(3, 0.5, 0.4, 0.6, 0.05)), in_words(Interval(3, 1200.0, 1100.0, 1300.0, 9.0))
    ('0.500 ± 0.100', '1,200 ± 100')
    """
    if found is None or found.mean is None:
        return "-"
    digits = 3 if abs(found.mean) < 10 else 1 if abs(found.mean) < 1000 else 0
    if found.ci_high is None:
        return f"{found.mean:,.{digits}f}"
    return f"{found.mean:,.{digits}f} ± {found.ci_high - found.mean:,.{digits}f}"
