"""The description that an experiment has in MLflow: what was run, a table of results, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sim_core.comparison.report import Report
from sim_core.results import Interval, RunRecord

NOTE_METRICS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "detection_delay_steps": "delay (steps)",
    "false_confirmations": "false conf.",
}
"""Columns of the table in the parent's description, and their heads."""
NOTE_ROWS = 30
NOTE_VERDICTS = 20
LONGEST_NOTE = 7_500
"""MLflow keeps 8,000 characters."""
LONGEST_END = 80
"""Of the last line of verdicts."""


def describe(
    key: str,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    verdict: str,
) -> str:
    """Return the parent's description in Markdown: what was run, and a table of results."""
    finished = sum(record.state == "finished" for record in records)
    labels = {record.point_index: record.label for record in records}
    lines = [
        f"{finished} of {len(records)} runs finished, validation: {verdict}, key `{key[:12]}`",
        "",
        "| point | n | " + " | ".join(NOTE_METRICS.values()) + " |",
        "|---|---|" + "---|" * len(NOTE_METRICS),
    ]
    for index in sorted(labels)[:NOTE_ROWS]:
        done = sum(r.point_index == index and r.state == "finished" for r in records)
        cells = [_cell(points[index].get(metric)) for metric in NOTE_METRICS]
        lines.append(f"| {labels[index]} | {done} | " + " | ".join(cells) + " |")
    if len(labels) > NOTE_ROWS:
        lines.append(f"\n{len(labels) - NOTE_ROWS} more points: see summary.json.")
    lines.append("\nMean ± half of the 95 % t interval over the replicates of a point. ")
    lines.append("To compare points: Group by, parameter `point`. Plots are among the artifacts.")
    return "\n".join(lines)


def describe_comparison(comparison: Report | None, room: int = LONGEST_NOTE) -> str:
    """Return the verdicts in Markdown, the surest first, in at most so many characters.

    Nothing where nothing was compared or nothing fits.
    """
    if comparison is None:
        return ""
    text = f"\n\n**Compared with {comparison.baseline}** (p adjusted after Holm):\n\n"
    told = 0
    for found in comparison.findings[:NOTE_VERDICTS]:
        line = f"- {found.sentence}\n"
        if len(text) + len(line) + LONGEST_END > room:
            break
        text, told = text + line, told + 1
    others = len(comparison.comparisons) - told
    text += f"- {others} more comparisons: see the artifact `comparison.json`."
    return text if len(text) <= room else ""


def _cell(found: Interval | None) -> str:
    if found is None or found.mean is None:
        return "–"
    if found.ci_high is None:
        return f"{found.mean:.3g}"
    return f"{found.mean:.3g} ± {found.ci_high - found.mean:.2g}"
