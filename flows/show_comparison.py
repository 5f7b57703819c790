"""A report of comparisons as people read it: verdicts first, then tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim_core.comparison.report import Report
from sim_core.comparison.verdicts import Comparison, Verdict, about
from sim_core.comparison.wording import percent, plain, probability

MOST_SENTENCES = 20
WIDE = 96
"""Columns of a terminal that has room for everything."""
MOST_OTHERS = 3
MOST_GAPS = 10
POINTS_BY_POINT = 4
"""Up to so many points have a table each; beyond that each metric has one."""
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
    for table in tables(report, is_wide=console.width >= WIDE):
        console.print(table)
    for line in [*explanations(report), *notes]:
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
    rest = [c for c in report.comparisons if not c.is_finding]
    if len(rest) <= MOST_OTHERS:
        lines += [f"• {escape(c.sentence)}" for c in rest]
    else:
        others = Counter(c.verdict for c in rest)
        words = {
            Verdict.NO_DIFFERENCE: "without a difference that matters",
            Verdict.TOO_FEW: "with too few replicates to tell",
            Verdict.EQUAL: "equal in every replicate",
            Verdict.UNDEFINED: "undefined",
        }
        counts = ", ".join(f"{others[v]} {text}" for v, text in words.items() if others[v])
        lines.append(f"• other comparisons: {counts}")
    return lines


def tables(report: Report, *, is_wide: bool) -> list[Table]:
    """Return a table per point, or, of many points, a table per metric.

    Narrow ones leave out both means, which `quorumlab run` shows, and the effect size.
    """
    points = dict.fromkeys(c.point for c in report.comparisons)
    metrics = dict.fromkeys(c.metric for c in report.comparisons)
    if len(points) <= max(POINTS_BY_POINT, len(metrics) // 2):
        parts = [[c for c in report.comparisons if c.point == point] for point in points]
        return [_table(part[0].point, "metric", part, is_wide=is_wide) for part in parts]
    parts = [[c for c in report.comparisons if c.metric == metric] for metric in metrics]
    return [_table(part[0].metric, "point", part, is_wide=is_wide) for part in parts]


def _table(subject: str, first: str, rows: Sequence[Comparison], *, is_wide: bool) -> Table:
    sizes = {_size(comparison) for comparison in rows}
    n = f" ({sizes.pop()})" if len(sizes) == 1 else ""
    table = Table(
        title=escape(f"{subject} against {rows[0].baseline}{n}"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    if first == "metric":
        table.add_column(first, no_wrap=True)
    else:
        table.add_column(first, overflow="fold", min_width=12)
    if sizes:
        table.add_column("n", justify="right")
    headings = [
        heading for heading in _FIGURES if is_wide or heading not in ("baseline", "mean", "d")
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for comparison in rows:
        n_cell = [_size(comparison)] if sizes else []
        figures = [_FIGURES[heading](comparison) for heading in headings]
        name = escape(getattr(comparison, first))
        style = STYLES.get(comparison.verdict, "dim")
        verdict = f"[{style}]{escape(in_short(comparison))}[/]"
        table.add_row(name, *n_cell, *figures, verdict)
    return table


def _size(comparison: Comparison) -> str:
    found = comparison.found
    return f"{found.n} pairs" if found.is_paired else f"{found.n} and {found.n_baseline}"


def _effect_size(comparison: Comparison) -> str:
    size = comparison.found.effect_size
    return "-" if size is None else f"{size:+.2f}"


_FIGURES: dict[str, Callable[[Comparison], str]] = {
    "baseline": lambda c: plain(c.found.baseline_mean),
    "mean": lambda c: plain(c.found.mean),
    "difference": lambda c: c.amount,
    "d": _effect_size,
    "p": lambda c: (
        probability(c.p_adjusted).removeprefix("p = ").removeprefix("p ").replace(" ", "")
    ),
    "saved": lambda c: c.saved,
}
"""Columns, from left to right."""


def in_short(comparison: Comparison) -> str:
    """Return a verdict for a cell: how many replicates are needed, how small a difference is."""
    verdict = comparison.verdict
    if verdict == Verdict.TOO_FEW and comparison.replicates_needed is not None:
        return f"needs ~{_compact(about(comparison.replicates_needed))}"
    if verdict == Verdict.TOO_FEW:
        return "too few"
    if verdict == Verdict.NO_DIFFERENCE:
        return f"within ±{plain(comparison.smallest_effect)}"
    return f"{verdict}, small" if comparison.is_finding and comparison.is_small else str(verdict)


def _compact(n: int) -> str:
    return str(n) if n < 1_000 else f"{n / 1_000:g}k"


def explanations(report: Report) -> list[str]:
    """Return how the figures are to be read."""
    lines = [
        (
            f"difference ± half of its {percent(1 - report.alpha)} interval; d: effect size; p: "
            f"adjusted after Holm over {report.family} tests, better or worse below "
            f"{report.alpha:g}; saved: share of the variance that the same random numbers took away."
        ),
        (
            f"What matters is {percent(report.smallest.relative)} of the baseline's mean, or "
            "--smallest-effect. small, within: the difference, if any, is smaller. needs: too few "
            "replicates to tell; about so many would do."
        ),
    ]
    if report.saved:
        low, middle, high = (f"{100 * f(report.saved):.0f} %" for f in (min, median, max))
        lines.append(
            f"Pairing saved {middle} of the variance of the differences (median of "
            f"{len(report.saved)} comparisons, {low} to {high})."
        )
    return lines
