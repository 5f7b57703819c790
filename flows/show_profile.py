"""Profiles on the terminal: findings, the first rows of each table, and what many of them say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.profiles.figures import Profile, Severity
from tasks.profiles.report import NOTHING, tables_of, title_of

SHOWN_ROWS = 6
LISTED = 10
OF_RUN = ("nodes", "steps", "findings")
COLOURS: dict[Severity, str] = {"high": "red", "medium": "yellow", "low": "dim"}


def show_profile(profile: Profile, folder: Path, console: Console) -> None:
    """Print findings and tables of a profile, and where its files are."""
    console.print(f"[bold]{escape(profile.name)}[/]: {escape(title_of(profile))}", highlight=False)
    for table in tables_of(profile, SHOWN_ROWS):
        console.print(f"[bold]{escape(table.title)}[/]")
        console.print(_drawn(table.heads, table.rows))
        console.print(f"[dim]{escape(table.note)}[/]\n", highlight=False)
    show_findings(profile, console)
    for name, what in (
        ("report.html", "report"),
        ("time.html", "time"),
        ("memory.html", "memory"),
        ("profile.json", "figures"),
    ):
        if (folder / name).exists():
            console.print(f"{what:<12} {folder / name}", highlight=False, soft_wrap=True)


def show_findings(profile: Profile, console: Console) -> None:
    """Print what is worth a word, and what to do about it."""
    if not profile.findings:
        console.print(NOTHING)
    for finding in profile.findings:
        colour = COLOURS[finding.severity]
        console.print(
            f"[{colour}]{finding.severity}[/]: {escape(finding.text)}.\n  [dim]{escape(finding.advice)}[/]",
            highlight=False,
        )


def show_summary(profiles: Sequence[Profile], console: Console) -> None:
    """Print the slowest and the hungriest of many profiles, their p95, and what is found most often."""
    timed = sorted((p for p in profiles if p.time), key=_seconds, reverse=True)
    sized = sorted((p for p in profiles if p.memory), key=_peak_mb, reverse=True)
    if timed:
        rows = [_row(p, f"{_seconds(p):.3f}") for p in timed[:LISTED]]
        console.print("[bold]Slowest[/]", _drawn(("profile", "s", *OF_RUN), rows))
    if sized:
        rows = [_row(p, f"{_peak_mb(p):.1f}") for p in sized[:LISTED]]
        console.print("[bold]Hungriest[/]", _drawn(("profile", "MB", *OF_RUN), rows))
    console.print(f"{len(profiles)} profiles; {_tails(timed, sized)}", highlight=False)
    console.print(_commonest(profiles), highlight=False)


def _seconds(profile: Profile) -> float:
    return profile.time.seconds if profile.time else 0.0


def _peak_mb(profile: Profile) -> float:
    return profile.memory.peak_mb if profile.memory else 0.0


def _row(profile: Profile, figure: str) -> tuple[str, ...]:
    s = profile.subject
    is_of_experiment = profile.name == s.run_key[:12]
    name = f"{s.experiment}/{profile.name}" if is_of_experiment else profile.name
    return name, figure, str(s.nodes), str(s.steps), str(len(profile.findings))


def _tails(timed: Sequence[Profile], sized: Sequence[Profile]) -> str:
    """Return how long and how large all but the worst twentieth are, in words."""
    parts = []
    if timed:
        parts.append(f"p95 {p95([_seconds(p) for p in timed]):.3f} s")
    if sized:
        parts.append(f"p95 {p95([_peak_mb(p) for p in sized]):.1f} MB")
    return ", ".join(parts)


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile, interpolated.

    >>> p95([1.0]), round(p95([float(n) for n in range(101)]), 6)
    (1.0, 95.0)
    """
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def _commonest(profiles: Sequence[Profile]) -> str:
    found = Counter(kind for p in profiles for kind in {f.kind for f in p.findings})
    if not found:
        return "nothing was found in any of them"
    parts = [f"{kind} (in {n})" for kind, n in found.most_common()]
    return f"found most often: {', '.join(parts)}"


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        is_text = head in ("function", "type", "operation", "profile", "where")
        table.add_column(
            head,
            justify="left" if is_text else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=44 if is_text else None,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table
