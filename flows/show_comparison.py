"""A report of comparisons as people read it: verdicts first, then tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim_core.comparison.report import Report
from sim_core.comparison.telling import (
    FIGURES,
    Part,
    explanations,
    in_short,
    others,
    parts_of,
    size_of,
)
from sim_core.comparison.verdicts import Verdict

MOST_SENTENCES = 20
WIDE = 96
"""Columns of a terminal that has room for everything."""
MOST_GAPS = 10
STYLES = {
    Verdict.BETTER: "green",
    Verdict.WORSE: "red",
    Verdict.HIGHER: "cyan",
    Verdict.LOWER: "cyan",
    Verdict.TOO_FEW: "yellow",
}


def show_report(report: Report, console: Console, *, title: str, notes: Sequence[str] = ()) -> None:
    """Print verdicts, a table per point or metric, and what to know about them."""
    console.print(f"[bold]{escape(title)}[/]: compared with [bold]{escape(report.baseline)}[/]")
    if not report.comparisons:
        console.print("there is only one point: nothing to compare")
    for line in verdict_lines(report, MOST_SENTENCES):
        console.print(line, highlight=False)
    is_wide = console.width >= WIDE
    for table in tables(report, is_wide=is_wide):
        console.print(table)
    if report.comparisons and not is_wide:
        notes = [*notes, f"A terminal of {WIDE} columns also shows the means and the effect size."]
    for line in [*explanations(report, is_wide=is_wide), *notes]:
        console.print(f"[dim]{escape(line)}[/]", highlight=False)
    for gap in report.left_out[:MOST_GAPS]:
        console.print(f"[yellow]left out:[/] {escape(str(gap))}", highlight=False)
    if len(report.left_out) > MOST_GAPS:
        console.print(
            f"[yellow]left out:[/] {len(report.left_out) - MOST_GAPS} more reasons: --json"
        )


def verdict_lines(report: Report, most: int) -> list[str]:
    """Return a sentence per difference that is shown, then what the other comparisons say."""
    findings = report.findings
    lines = [f"[{STYLES[c.verdict]}]•[/] {escape(c.sentence)}" for c in findings[:most]]
    if len(findings) > most:
        lines.append(f"• and {len(findings) - most} more differences")
    if not findings and report.comparisons:
        lines.append("• no difference is shown")
    return lines + [f"• {escape(line)}" for line in others(report.comparisons)]


def tables(report: Report, *, is_wide: bool) -> list[Table]:
    """Return a table per point, or, of many points, a table per metric.

    Narrow ones leave out both means, which `quorumlab run` shows, and the effect size.
    """
    return [_table(part, is_wide=is_wide) for part in parts_of(report)]


def _table(part: Part, *, is_wide: bool) -> Table:
    sizes = part.sizes
    n = f" ({next(iter(sizes))})" if len(sizes) == 1 else ""
    table = Table(
        title=escape(f"{part.subject} against {part.rows[0].baseline}{n}"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    if part.first == "metric":
        table.add_column(part.first, no_wrap=True)
    else:
        table.add_column(part.first, overflow="fold", min_width=12)
    if not n:
        table.add_column("n", justify="right")
    headings = [
        heading for heading in FIGURES if is_wide or heading not in ("baseline", "mean", "d")
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for comparison in part.rows:
        n_cell = [] if n else [size_of(comparison)]
        figures = [FIGURES[heading](comparison) for heading in headings]
        name = escape(getattr(comparison, part.first))
        style = STYLES.get(comparison.verdict, "dim")
        verdict = f"[{style}]{escape(in_short(comparison))}[/]"
        table.add_row(name, *n_cell, *figures, verdict)
    return table
