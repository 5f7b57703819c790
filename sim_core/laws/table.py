"""Measured beside exact: the rows of a law, and the page that shows them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sim_core.config import ModelConfig
from sim_core.laws.catalogue import Law
from sim_core.laws.findings import FALSE_ALARMS, Finding, RunResult, judge

PointResults = tuple[ModelConfig, Sequence[RunResult]]
"""The configuration of a point, and its runs."""

PAGE_WIDTH = 110
HEADINGS = ("parameters", "quantity", "exact", "measured", "99.9 % interval", "n", "verdict")


@dataclass(frozen=True)
class Row:
    """One quantity at one point."""

    parameters: str
    symbol: str
    finding: Finding

    def cells(self) -> tuple[str, ...]:
        """Return what is shown below HEADINGS; measured values to two digits of their uncertainty."""
        found = self.finding
        half = found.half_width
        places = 6 if not half > 0 else min(9, max(0, 1 - math.floor(math.log10(half))))
        return (
            self.parameters,
            self.symbol,
            f"{found.exact:.6g}",
            f"{found.measured:.{places}f}",
            f"{found.low:.{places}f} to {found.high:.{places}f}",
            f"{found.n:,} {found.unit}",
            "agrees" if found.agrees else "differs",
        )


def compare(law: Law, points: Sequence[PointResults]) -> list[Row]:
    """Return the rows of a law; their intervals hold all at once with 99.9 % confidence."""
    n_rows = len(points) * len(law.quantities)
    rows = []
    for config, runs in points:
        for quantity in law.quantities:
            measured = [quantity.measure(config, run) for run in runs]
            exact, square = quantity.exact(config), quantity.is_square
            found = judge(exact, measured, n_rows=n_rows, is_square=square)
            if square:
                found = _rooted(found)
            rows.append(Row(law.parameters(config), quantity.symbol, found))
    return rows


def _rooted(found: Finding) -> Finding:
    """Return a finding about a variance as one about the standard deviation."""
    return replace(
        found,
        exact=math.sqrt(found.exact),
        measured=math.sqrt(found.measured),
        low=math.sqrt(found.low),
        high=math.sqrt(found.high),
    )


def write_page(tables: Iterable[tuple[Law, int, Sequence[Row]]], command: str) -> str:
    """Return the page of laws, each with its replicates and rows, as Markdown."""
    share = f"{100 * (1 - FALSE_ALARMS):g} %"
    sections = "\n\n".join(
        f"## {law.title}\n\n{_wrapped(law.method)}\n\nStudy `laws/{law.name}`, {replicates} replicates.\n\n"
        f"{_markdown_table(rows)}"
        for law, replicates, rows in tables
    )
    return PAGE.format(command=command, share=share, sections=sections)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, PAGE_WIDTH, break_long_words=False, break_on_hyphens=False)


def _markdown_table(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGE = """\
# Laws

Where theory has an exact value, the model must reproduce it. This page compares the two; it is the output of

<!-- not run: takes minutes -->
```bash
{command}
```

Each law is a study preset in `conf/study/laws` and can be run, looked at and changed like any other study:

```bash
quorumlab run +study=laws/auroc experiment.replicates=2
```

`quorumlab laws` runs them by the same path, as experiments called `laws-NAME-KEY`, reads the runs from the
ledger, and computes the exact value from the configuration of each point (`sim_core/laws`). A second time it
reuses the runs. Exit code 1 says that a row differs:

```bash
quorumlab laws auroc --replicates 3
```

The intervals of a law hold all at once with {share} confidence (Bonferroni): a law of m rows has intervals of
1 - 0.001/m each, so that a correct model shows `differs` anywhere in a law with a probability of 0.001 at
most. For trials they are those of Clopper and Pearson (1934), for means over runs Student's t intervals, for
sd[T] those of the logarithm of the mean square. The seed is 1, so the same code gives the same page.

{sections}
"""
