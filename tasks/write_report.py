"""A comparison as one page that needs nothing else: verdicts, pictures, tables, how it was computed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sim_core.comparison.planning import POWER
from sim_core.comparison.report import Report
from sim_core.comparison.telling import explanations, others
from sim_core.comparison.verdicts import SMALLEST_MEAN, Comparison
from sim_core.comparison.wording import percent, plain
from sim_core.workspace import write_whole
from tasks.plots.canvas import Picture
from tasks.plots.factors import Spot
from tasks.plots.gallery import Gallery, StepsOf, galleries
from tasks.plots.style import printable, style_rules
from tasks.report_tables import MARKS, Origin, comparisons_of, means_of, origins_of, settings_of

MOST_SENTENCES = 12
MOST_GAPS = 50
PAGE_STYLE = """:root { color-scheme: light dark; --line: light-dark(#d8dee4, #3d444d);
  --soft: light-dark(#f6f8fa, #161b22); --good: light-dark(#1a7f37, #3fb950);
  --bad: light-dark(#cf222e, #f85149); --other: light-dark(#0969da, #58a6ff) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1f2328, #e6edf3); background: light-dark(#fff, #0d1117) }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2.2rem }
p, dd, li { max-width: 48rem; overflow-wrap: anywhere }
.soft, figcaption, .lead { color: light-dark(#59636e, #9da7b3) } figcaption, .soft { font-size: 13px }
ul.verdicts { list-style: none; padding: 0 } .verdicts li { padding-left: 1.6em; margin: .3rem 0 }
.mark { display: inline-block; width: 1.6em; margin-left: -1.6em }
.good .mark, tr.good td:last-child { color: var(--good) }
.bad .mark, tr.bad td:last-child { color: var(--bad) }
.other .mark, tr.other td:last-child { color: var(--other) }
summary { cursor: pointer } details { margin: .6rem 0 }
.pictures { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)) }
figure:has(.broad) { grid-column: 1 / -1 }
figure { margin: 0 0 0 -8px; max-width: calc(100% + 8px); overflow-x: auto }
figcaption { padding-left: 8px }
.plot { display: block; max-width: 100%; height: auto } .plot.wide { min-width: 21rem }
.plot.broad { min-width: 36rem }
.table { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; min-width: 16rem } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { text-align: right; vertical-align: top; padding: .35rem .7rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
thead th { background: var(--soft) }
th:first-child, th:last-child, td:last-child { text-align: left }
tbody th { font-weight: 400; white-space: normal; overflow-wrap: anywhere; min-width: 7rem;
  max-width: 22rem; position: sticky; left: 0; background: light-dark(#fff, #0d1117) }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1rem }
dt { color: light-dark(#59636e, #9da7b3) } dd { margin: 0 }
@media (max-width: 40rem) { dl { display: block } dd { margin: 0 0 .5rem } body { margin: 1rem auto } }
@page { margin: 14mm }
@media print { :root { color-scheme: light } body { max-width: none; margin: 0; font-size: 10pt }
  figure, tr, dl, li { break-inside: avoid } h1, h2, h3, caption, .lead { break-after: avoid }
  .pictures { grid-template-columns: 1fr 1fr } .pictures .plot { min-width: 0 }
  .table, figure { overflow: visible } table { font-size: 8pt } th, td { padding: .2rem .4rem }
  tbody th { position: static; min-width: 0; overflow-wrap: normal }
  details::details-content { content-visibility: visible; height: auto } }
"""


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    title: str
    origins: Sequence[Origin]
    spots: Sequence[Spot]
    report: Report | None
    """None where nothing was compared."""
    steps_of: StepsOf = field(repr=False)
    why_not: str = ""
    """Why nothing was compared."""
    notes: Sequence[str] = ()
    resources: Sequence[Picture] = ()
    """What the command took that has made the page."""


def write_report(subject: Subject, file: Path, plots: Path | None = None) -> list[Path]:
    """Write a page, and its pictures into a folder, if one is given; return the files."""
    page, pictures = render_report(subject)
    write_whole(file, page)
    if plots is None:
        return [file]
    files = [plots / f"{picture.name}.svg" for picture in pictures]
    for path, picture in zip(files, pictures, strict=True):
        write_whole(path, picture.as_file())
    return [file, *files]


def render_report(subject: Subject) -> tuple[str, list[Picture]]:
    """Return the page of a report, and the pictures on it."""
    from jinja2 import Environment

    report = subject.report
    shown = galleries(subject.spots, report, subject.steps_of)
    if subject.resources:
        shown.append(Gallery("resources", "Resources", (), tuple(subject.resources)))
    style = PAGE_STYLE + style_rules()
    sentences = [_sentence(c) for c in report.findings] if report else []
    first, more = sentences[:MOST_SENTENCES], sentences[MOST_SENTENCES:]
    rest = [_other(text) for text in others(report.comparisons)] if report else []
    if report is not None and report.comparisons and not sentences:
        rest.insert(0, _other("no difference is shown"))
    template = (Path(__file__).parent / "report.html.jinja").read_text("utf-8")
    page = Environment(autoescape=True, trim_blocks=True).from_string(template)
    text = page.render(
        title=subject.title,
        lead=_lead(subject),
        policy=policy_of(style),
        style=style,
        why_not=_why_not(subject),
        sentences=[*first, *([] if more else rest)],
        more=[*more, *rest] if more else [],
        galleries=shown,
        tables=comparisons_of(report)
        if report and report.comparisons
        else [means_of(subject.spots)],
        explanations=[*(explanations(report) if report else ()), *subject.notes],
        gaps=_gaps(subject),
        facts=_facts(report),
        origins=[origins_of(subject.origins), *settings_of(subject.spots)],
    )
    return text, [picture for gallery in shown for picture in gallery.pictures]


def policy_of(style: str) -> str:
    """Return a policy under which the page loads and runs nothing, and has no style but its own."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _lead(subject: Subject) -> str:
    n = len(subject.spots)
    points = "one point" if n == 1 else f"{n:,} points"
    finished, planned = (
        sum(getattr(origin, name) for origin in subject.origins) for name in ("finished", "planned")
    )
    runs = (
        f"{finished:,} of {planned:,} runs finished" if finished < planned else f"{finished:,} runs"
    )
    against = f", compared with {subject.report.baseline}" if subject.report and n > 1 else ""
    return f"{points}, {runs}{against}"


def _why_not(subject: Subject) -> str:
    if subject.report is not None and subject.report.comparisons:
        return ""
    return subject.why_not or "There is only one point: nothing to compare."


def _sentence(comparison: Comparison) -> dict[str, str]:
    mark, mood = MARKS[comparison.verdict]
    return {"mark": mark, "mood": mood, "text": comparison.sentence}


def _other(text: str) -> dict[str, str]:
    return {"mark": "○", "mood": "none", "text": text}


def _gaps(subject: Subject) -> list[str]:
    """Return which runs do not count."""
    if subject.report is None:
        missing = sum(origin.planned - origin.finished for origin in subject.origins)
        return [f"{missing} runs are not finished, or do not count"] if missing else []
    gaps = [printable(str(gap)) for gap in subject.report.left_out]
    undefined = sum(c.n_undefined for c in subject.report.comparisons)
    if undefined:
        gaps.append(f"{undefined:,} times a replicate has no value of a metric that is compared")
    rest = len(gaps) - MOST_GAPS
    return [*gaps[:MOST_GAPS], f"{rest} more"] if rest > 0 else gaps


def _facts(report: Report | None) -> list[tuple[str, str]]:
    """Return what the figures depend on besides the runs."""
    facts = [("page made by", f"quorumlab {version('quorumlab')}")]
    if report is None:
        return [("intervals", "t intervals at 95 % over the replicates of a point"), *facts]
    smallest = report.smallest
    least = plain(smallest.relative * SMALLEST_MEAN)
    sizes = [
        f"{percent(smallest.relative)} of the baseline's mean, {least} at least for metrics from 0 to 1",
        *(f"{metric}: {percent(share)} of the mean" for metric, share in smallest.shares.items()),
        *(f"{metric}: {plain(size)}" for metric, size in smallest.absolute.items()),
    ]
    pairs = sum(c.found.is_paired for c in report.comparisons)
    apart = len(report.comparisons) - pairs
    how = [f"{pairs} of pairs with the same random numbers (paired t test)"] if pairs else []
    how += [f"{apart} of independent samples (Welch's t test)"] if apart else []
    return [
        ("baseline", report.baseline),
        ("alpha", f"{report.alpha:g}, the probability of any false alarm on this page"),
        ("correction", f"Holm, over {report.family} tests"),
        ("smallest effect", "; ".join(sizes)),
        ("intervals", f"each at {percent(1 - report.alpha)}, not corrected"),
        ("replicates needed", f"for the smallest effect, found in {percent(POWER)} of cases"),
        ("comparisons", " and ".join(how) or "none"),
        *facts,
    ]
