"""Figures, comparisons and trends in words and tables, for terminals of 80 to 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.benchmarks.comparing import Comparison, Difference, Verdict
from flows.benchmarks.files import OF_SIZE
from flows.benchmarks.trends import Tendency, Trend
from sim_core.comparison.wording import probability

FACTOR = "factor_"
"""What the name of a figure begins with that says how much better another one is than promised."""
COLOURS = {
    Verdict.WORSE: "yellow",
    Verdict.BETTER: "green",
    Tendency.DEGRADING: "yellow",
    Tendency.IMPROVING: "green",
}


def show_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the figures, and each ratio as `x OTHER`."""
    table = _table(f"suite {report['suite']}", "name", "median>", "p95>", "unit", "n>", "ratios")
    for result in report["results"]:
        if not result["n"]:
            continue
        ratios = ", ".join(f"{value:.3g} x {other}" for other, value in result["ratios"].items())
        table.add_row(
            escape(result["name"]),
            f"{result['median']:.4g}",
            f"{result['p95']:.4g}",
            result["unit"],
            str(result["n"]),
            escape(ratios),
        )
    console.print(table)
    if any(result["figures"] for result in report["results"]):
        console.print(_figures(report))
    for result in report["results"]:
        if result["failures"]:
            console.print(f"{result['name']}: {result['failures']} calls have failed")


def _figures(report: Mapping[str, Any]) -> Table:
    """Return a table of what else was measured, and how it compares with what was promised."""
    has_promises = any(FACTOR + n in r["figures"] for r in report["results"] for n in r["figures"])
    headings = ("name", "figure", "median>", *(["promise"] if has_promises else []))
    table = _table("beside that", *headings)
    for result in report["results"]:
        name, found = result["name"], result["figures"]
        for figure, value in found.items():
            if not figure.startswith(FACTOR):
                cells = [escape(name), figure, f"{value:.4g}"]
                table.add_row(*cells, *([_promise(found.get(FACTOR + figure))] * has_promises))
                name = ""
    return table


def _promise(factor: float | None) -> str:
    """Return in words whether a figure is as good as was promised.

    >>> _promise(12.4), _promise(0.5), _promise(0.0), _promise(None)
    ('met, 12 x better', '[yellow]not met, 2 x worse[/]', '[yellow]not met[/]', '')
    """
    if factor is None:
        return ""
    if factor >= 1:
        return "met" if factor == 1 else f"met, {factor:.2g} x better"
    return f"[yellow]not met{f', {1 / factor:.2g} x worse' if factor else ''}[/]"


def show_comparison(found: Comparison, console: Console) -> None:
    """Print each case before and now, the verdict in words, and what regressed."""
    title = f"suite {found.suite}: {found.now} beside {found.before}"
    table = _table(title, "case", "before>", "now>", "change>", "paced>", "p>", "verdict")
    for each in found.differences:
        colour = "red" if each.is_regression else COLOURS.get(each.verdict)
        words = in_words(each)
        table.add_row(
            escape(each.name),
            f"{each.before:.4g}",
            f"{each.now:.4g} {each.unit}",
            change_in_words(each),
            "–" if each.paced_ratio is None else f"{_percent(each.paced_ratio - 1)} %",
            _p_value(each.p_adjusted),
            f"[{colour}]{words}[/]" if colour else words,
        )
    console.print(table)
    for note in found.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    console.print(conclusion(found), highlight=False)


def conclusion(found: Comparison) -> str:
    """Return in a sentence whether anything has regressed."""
    limit = f"{found.threshold:.0%}".replace("%", " %")
    if not found.regressions:
        return f"no regression: nothing is significantly worse by more than {limit}"
    names = ", ".join(
        f"{each.name} ({in_words(each)}, {change_in_words(each)})" for each in found.regressions
    )
    return f"regression beyond {limit}: {names}"


def in_words(each: Difference) -> str:
    """Return what is shown of a case: faster or slower, smaller or larger, less or more."""
    if each.verdict not in (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED):
        return each.verdict.value
    is_up = each.now > each.before
    if each.unit == "x":
        tail = {Verdict.BETTER: ", better", Verdict.WORSE: ", worse"}.get(each.verdict, "")
        return ("higher" if is_up else "lower") + tail
    if each.unit in OF_SIZE:
        return "larger" if is_up else "smaller"
    return "slower" if each.verdict is Verdict.WORSE else "faster"


def change_in_words(each: Difference) -> str:
    """Return the change of the median with its interval, in per cent."""
    if each.ratio is None:
        return "–"
    change = _percent(each.ratio - 1)
    if each.low is None or each.high is None:
        return f"{change} %"
    return f"{change} % ({_percent(each.low - 1)} to {_percent(each.high - 1)})"


def show_trends(suite: str, machine: str, trends: Sequence[Trend], console: Console) -> None:
    """Print where each case of a suite tends."""
    title = f"suite {suite} on {machine}"
    table = _table(title, "case", "first>", "last>", "change>", "p>", "n>", "tendency")
    for each in trends:
        colour = COLOURS.get(each.tendency)
        change = "–"
        if each.change is not None and each.low is not None and each.high is not None:
            change = f"{_percent(each.change)} % ({_percent(each.low)} to {_percent(each.high)})"
        table.add_row(
            escape(each.name),
            f"{each.medians[0]:.4g}",
            f"{each.medians[-1]:.4g} {each.unit}",
            change,
            _p_value(each.p),
            str(len(each.medians)),
            f"[{colour}]{each.tendency}[/]" if colour else str(each.tendency),
        )
    console.print(table)


def _percent(share: float) -> str:
    """Return a share as a signed number of per cent.

    >>> _percent(0.1234), _percent(-0.001), _percent(3.2)
    ('+12', '-0.1', '+320')
    """
    return f"{100 * share:+.1f}" if abs(share) < 0.1 else f"{100 * share:+.0f}"


def _p_value(p: float | None) -> str:
    """Return a p-value for a column of them.

    >>> _p_value(0.0312), _p_value(1e-9), _p_value(None)
    ('.031', '< .0001', '–')
    """
    return "–" if p is None else probability(p).removeprefix("p ").removeprefix("= ")


def _table(title: str, *headings: str) -> Table:
    """Return a table; columns of headings that end with `>` are numbers."""
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        is_number = heading.endswith(">")
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(heading.removesuffix(">"), justify=justify, overflow="fold")
    return table
