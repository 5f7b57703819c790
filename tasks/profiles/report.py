"""A profile as a report that people read: findings first, then tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from tasks.profiles.figures import Growth, Line, MemoryFigures, Profile, TimeFigures

NOTHING = "Nothing is out of the ordinary."
STYLE = """:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1f2328, #e6edf3); background: light-dark(#fff, #0d1117) }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
.table { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid light-dark(#d8dee4, #3d444d);
  font-variant-numeric: tabular-nums; white-space: nowrap }
th:first-child, td:first-child, .where { text-align: left }
.high { color: light-dark(#cf222e, #f85149) } .medium { color: light-dark(#9a6700, #d29922) }
.soft { color: light-dark(#59636e, #9da7b3) } li { margin: .4rem 0 }"""


class Table(NamedTuple):
    """A table of a report."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def tables_of(profile: Profile, rows: int = 15) -> list[Table]:
    """Return the tables of a profile, with so many rows each at most."""
    tables = [
        *(_of_time(profile.time) if profile.time else ()),
        *(_of_memory(profile.memory) if profile.memory else ()),
    ]
    return [table._replace(rows=table.rows[:rows]) for table in tables if table.rows]


def _of_time(figures: TimeFigures) -> Iterator[Table]:
    note = f"{figures.samples:,} samples in {figures.seconds:.2f} s, {figures.cpu_seconds:.2f} s of processor time"
    heads = ("function", "own s", "own", "total s", "total", "where")
    for title, functions in (
        ("Functions by their own time", figures.by_own),
        ("Functions by time with all they call", figures.by_total),
    ):
        yield Table(
            title,
            heads,
            [
                (
                    f.name,
                    f"{f.own_seconds:.3f}",
                    f"{f.own_share:.1%}",
                    f"{f.seconds:.3f}",
                    f"{f.share:.1%}",
                    f"{f.file}:{f.line}",
                )
                for f in functions
            ],
            note,
        )
    ops = figures.operations
    yield Table(
        "Slowest steps and checkpoints",
        ("operation", "ms"),
        [(o.name, f"{o.seconds * 1e3:.1f}") for o in ops.slowest],
        f"{ops.n} of them: mean {ops.mean * 1e3:.1f} ms, median {ops.p50 * 1e3:.1f} ms, p95 "
        f"{ops.p95 * 1e3:.1f} ms",
    )


def _of_memory(figures: MemoryFigures) -> Iterator[Table]:
    yield Table(
        "Memory at the peak, by line",
        ("function", "MB", "allocations", "where"),
        _lines(figures.lines),
        f"{figures.peak_mb:.1f} MB of the run's own; {figures.peak_rss_mb:,.0f} MB of its process; "
        f"{figures.allocations:,} allocations in all",
    )
    if figures.growth is not None:
        yield _of_growth(figures.growth)
    yield Table(
        "Object types whose number has changed",
        ("type", "before", "after", "change"),
        [(o.name, f"{o.before:,}", f"{o.after:,}", f"{o.growth:+,}") for o in figures.objects],
        "Objects that the garbage collector knows; arrays and texts are none of them",
    )


def _of_growth(growth: Growth) -> Table:
    return Table(
        f"Memory that stayed from step {growth.first_step} to {growth.last_step}, by line",
        ("function", "MB", "allocations", "where"),
        _lines(growth.lines),
        f"{growth.kb_per_step:+.1f} KB per step, "
        + ("more with nearly every checkpoint" if growth.is_steady else "up and down"),
    )


def _lines(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    return [(x.function, f"{x.mb:.2f}", f"{x.allocations:,}", f"{x.file}:{x.line}") for x in lines]


def title_of(profile: Profile) -> str:
    """Return what was profiled, in words."""
    s = profile.subject
    return (
        f"run {s.run_key[:12]}: {s.nodes} nodes, {s.steps} steps, point {s.point}, replicate "
        f"{s.replicate}, seed {s.seed}"
    )


def as_markdown(profile: Profile) -> str:
    """Return the report for readers of text."""
    parts = [f"# Profile {profile.name}", f"{title_of(profile)}; {_when(profile)}.", "## Findings"]
    parts += [f"- **{f.severity}**: {f.text}. {f.advice}." for f in profile.findings] or [NOTHING]
    for table in tables_of(profile):
        head = f"| {' | '.join(table.heads)} |\n|{'---|' * len(table.heads)}"
        rows = [f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |" for row in table.rows]
        parts += [f"## {table.title}", table.note, "\n".join([head, *rows])]
    return "\n\n".join(parts) + "\n"


def as_html(profile: Profile) -> str:
    """Return the report as one page that needs nothing else."""
    findings = "".join(
        f'<li><b class="{f.severity}">{f.severity}</b>: {escape(f.text)}. '
        f'<span class="soft">{escape(f.advice)}.</span></li>'
        for f in profile.findings
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Profile {escape(profile.name)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>Profile {escape(profile.name)}</h1><p class="soft">{escape(title_of(profile))}; '
        f"{_when(profile)}</p><p>{_links(profile)}</p><h2>Findings</h2>"
        f"{f'<ul>{findings}</ul>' if findings else f'<p>{NOTHING}</p>'}"
        f"{''.join(map(_table, tables_of(profile)))}</body></html>\n"
    )


def _links(profile: Profile) -> str:
    pages = {"time.html": profile.time, "memory.html": profile.memory}
    return " · ".join(
        f'<a href="{page}">flame graph of {page.removesuffix(".html")}</a>'
        for page, figures in pages.items()
        if figures is not None
    )


def _table(table: Table) -> str:
    kinds = [' class="where"' if head == "where" else "" for head in table.heads]
    head = _cells("th", kinds, table.heads)
    rows = "".join(f"<tr>{_cells('td', kinds, row)}</tr>" for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2><p class="soft">{escape(table.note)}</p><div class="table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(tag: str, kinds: Sequence[str], cells: Sequence[str]) -> str:
    pairs = zip(kinds, cells, strict=True)
    return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in pairs)


def _when(profile: Profile) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(profile.created))
