"""Progress and results as artifacts in Prefect's UI."""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import Any

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from sim_core.comparison.report import Report
from sim_core.comparison.wording import probability
from sim_core.error_table import Trouble
from sim_core.results import MAIN_METRICS, Findings, in_words
from tasks.simulate_shard import Log

LONGEST_GOODBYE_SECONDS = 5.0
MOST_VERDICTS = 500
MOST_COLUMNS = 4
"""Points that have a column each in the table of results; more have a row each."""


class ProgressArtifact:
    """A progress bar in Prefect's UI, updated when it has moved by a percent.

    A thread of its own tells the server: work never waits for it, and what it does not take is
    dropped in favour of what comes later.
    """

    def __init__(self, total_steps: int, log: Log | None = None) -> None:
        """Show the artifact in the flow run that is running."""
        self._total = max(total_steps, 1)
        self._log = log or logging.getLogger("quorumlab")
        self._percent = 0.0
        self._is_over = False
        self._news = threading.Condition()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._tell,), daemon=True)
        self._thread.start()

    def show(self, done_steps: int) -> None:
        """Show how many steps are committed."""
        percent = round(100.0 * min(done_steps / self._total, 1.0), 1)
        with self._news:
            if percent - self._percent >= 1 or percent == 100:
                self._percent = percent
                self._news.notify()

    def close(self) -> None:
        """Show the last figure, unless the server takes too long."""
        with self._news:
            self._is_over = True
            self._news.notify()
        self._thread.join(LONGEST_GOODBYE_SECONDS)

    def _tell(self) -> None:
        artifact: Any = None
        shown, is_over = -1.0, False
        while not is_over:
            with self._news:
                while self._percent == shown and not self._is_over:
                    self._news.wait()
                shown, is_over = self._percent, self._is_over
            try:
                if artifact is None:
                    artifact = create_progress_artifact(
                        shown, key="progress", description="Steps committed to the ledger"
                    )
                else:
                    update_progress_artifact(artifact, shown)
            except httpx.HTTPError as error:
                told = Trouble.PREFECT_UNSEEN.tell(what="progress", reason=repr(error))
                self._log.warning("%s", told)
            except RuntimeError:  # the server took too long: the flow's client has been closed
                if not self._is_over:
                    raise


def show_results(name: str, findings: Findings, comparison: Report | None = None) -> None:
    """Create tables of means and of verdicts, and a note on runs that did not finish."""
    create_table_artifact(
        result_rows(findings), key="results", description=f"{name}: means with 95 % intervals"
    )
    if comparison is not None:
        create_table_artifact(
            verdict_rows(comparison),
            key="verdicts",
            description=f"{name}: points compared with {comparison.baseline}",
        )
    lines = [
        f"- `{r.run_id[:12]}` ({r.label}, replicate {r.replicate}): **{r.state}**, {r.error or ''}"
        for r in findings.records
        if r.state != "finished"
    ]
    if lines:
        text = "\n".join(["# Runs without a result", *lines[:200]])
        create_markdown_artifact(text, key="problems", description="Runs that did not finish")


def result_rows(findings: Findings) -> list[dict[str, Any]]:
    """Return a row per metric and a column per point; of many points a row per point.

    Prefect's page has room for about five columns of figures.
    """
    points = list(zip(findings.labels, findings.points, strict=True))
    sizes = [max((i.n for i in intervals.values()), default=0) for _, intervals in points]
    if len(points) <= MOST_COLUMNS:
        return [
            {"metric": metric}
            | {
                f"{label} (n={size})": in_words(intervals.get(metric))
                for (label, intervals), size in zip(points, sizes, strict=True)
            }
            for metric in MAIN_METRICS
        ]
    return [
        {"point": label, "runs": size}
        | {metric: in_words(intervals.get(metric)) for metric in MAIN_METRICS}
        for (label, intervals), size in zip(points, sizes, strict=True)
    ]


def verdict_rows(comparison: Report) -> list[dict[str, str]]:
    """Return a row per comparison; differences that are shown first, the surest of them first."""
    others = [c for c in comparison.comparisons if not c.is_finding]
    return [
        {
            "verdict": str(c.verdict),
            "point": c.point,
            "metric": c.metric,
            "difference": c.amount,
            "p after Holm": probability(c.p_adjusted),
            "in words": c.sentence,
            "variance saved": c.saved.replace("-", "−"),  # Prefect takes a cell for Markdown
        }
        for c in [*comparison.findings, *others][:MOST_VERDICTS]
    ]
