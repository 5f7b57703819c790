"""What the ledger of an experiment satisfies: the report, as values and as a page.

`validate_in_sql` makes it with the database alone; `tasks.validate_ledger` has Great Expectations
make the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import chain
from typing import Any

from sim_core.ledger.checks import QUERIES, batch_query
from sim_core.ledger.comparisons import COMPARISONS, compare_run
from sim_core.ledger.decisions import Run
from sim_core.ledger.store import Ledger

RUNS_AT_ONCE = 200
"""Great Expectations shows 200 unexpected rows of a query; ours have one row per broken run."""

EXPECTATIONS = (*(query.name for query in QUERIES), *(c.name for c in COMPARISONS))


@dataclass(frozen=True)
class Failure:
    """One broken expectation of one run."""

    expectation: str
    run_id: str
    detail: str
    """The first place: step, proposal, node, what was expected and found."""


@dataclass(frozen=True)
class ValidationReport:
    """What the ledger's runs satisfy, and what they do not."""

    success: bool
    expectations: int
    """How many rules every run was held against; 0 where no run was finished."""
    failed: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values.

        >>> ValidationReport(True, 3, ()).to_json()
        {'success': True, 'expectations': 3, 'failed': []}
        """
        return {
            "success": self.success,
            "expectations": self.expectations,
            "failed": [asdict(failure) for failure in self.failed],
        }


def finished_runs(ledger: Ledger, experiment: str, keys: Sequence[str] | None = None) -> list[Run]:
    """Return the runs of an experiment, all or those with some keys, that reach their horizon."""
    return [run for run in ledger.runs_of(experiment, keys) if run["summary"] is not None]


def validate_in_sql(ledger: Ledger, runs: Sequence[Run]) -> ValidationReport:
    """Return the report on finished runs."""
    if not runs:
        return ValidationReport(success=True, expectations=0, failed=())
    failed: list[Failure] = []
    for start in range(0, len(runs), RUNS_AT_ONCE):
        part = runs[start : start + RUNS_AT_ONCE]
        failed += _broken_queries(ledger, part)
        failed += _broken_comparisons(ledger, part)
    return ValidationReport(not failed, len(EXPECTATIONS), tuple(failed))


def _broken_queries(ledger: Ledger, runs: Sequence[Run]) -> Iterator[Failure]:
    batch = f"({batch_query(runs)})"
    for query in QUERIES:
        with ledger.reading() as connection:
            statement = query.by_run.format(batch=batch)
            for row in connection.exec_driver_sql(statement).mappings():
                yield Failure(query.name, row["run_id"], first_of(row["places"], row["detail"]))


def _broken_comparisons(ledger: Ledger, runs: Sequence[Run]) -> Iterator[Failure]:
    failed: dict[str, list[Failure]] = {comparison.name: [] for comparison in COMPARISONS}
    for run in runs:
        for name, places in compare_run(ledger, run):
            if places:
                at, expected, found = places[0]
                detail = f"{at}: expected {expected}, found {found}"
                failed[name].append(Failure(name, run["run_key"], first_of(len(places), detail)))
    return chain.from_iterable(failed.values())


def first_of(places: int, detail: str) -> str:
    """Return the first place with the number of the others."""
    return detail if places == 1 else f"{detail} (and {places - 1} more)"


# --- page -------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Validation of {experiment}</title>
<style>
:root {{ color-scheme: light dark; --line: light-dark(#d8dee4, #3d444d);
  --soft: light-dark(#f6f8fa, #161b22); --good: light-dark(#1a7f37, #3fb950);
  --bad: light-dark(#cf222e, #f85149) }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1f2328, #e6edf3); background: light-dark(#fff, #0d1117) }}
h1 {{ font-size: 1.4rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .7rem;
  border-bottom: 1px solid var(--line) }}
th {{ background: var(--soft) }} td {{ overflow-wrap: anywhere }}
code {{ font: 13px ui-monospace, monospace }}
ul {{ columns: 20rem; list-style: none; padding: 0 }}
.good {{ color: var(--good) }} .bad {{ color: var(--bad) }}
</style></head><body>
<h1>Validation of {experiment}</h1>
<p><strong class="{mood}">{verdict}</strong></p>
{failures}<h2>Expectations</h2><ul>{names}</ul>
</body></html>
"""
FAILURES = """<h2>Failures</h2><table>
<thead><tr><th>Expectation</th><th>Run</th><th>First place</th></tr></thead>
<tbody>{rows}</tbody></table>
"""


def render_html(report: ValidationReport, experiment: str) -> str:
    """Return the report as one page that needs nothing else.

    >>> report = ValidationReport(False, 36, (Failure("messages add up", "5f14", "step 3"),))
    >>> "1 of 36 expectations are not met, in 1 run." in render_html(report, "e")
    True
    """
    broken = {failure.expectation for failure in report.failed}
    runs = {failure.run_id for failure in report.failed}
    if not report.expectations:
        verdict = "No run is finished: nothing was validated."
    elif report.success:
        verdict = f"All {report.expectations} expectations are met."
    else:
        verdict = (
            f"{len(broken)} of {report.expectations} expectations are not met, in {len(runs)} "
            f"run{'s' if len(runs) > 1 else ''}."
        )
    rows = "".join(
        f"<tr><td>{escape(f.expectation)}</td><td><code>{escape(f.run_id)}</code></td>"
        f"<td>{escape(f.detail)}</td></tr>"
        for f in report.failed
    )
    names = "".join(
        f'<li class="bad">✗ {escape(name)}</li>'
        if name in broken
        else f'<li><span class="good">✓</span> {escape(name)}</li>'
        for name in EXPECTATIONS
    )
    return PAGE.format(
        experiment=escape(experiment),
        mood="good" if report.success else "bad",
        verdict=verdict,
        failures=FAILURES.format(rows=rows) if rows else "",
        names=names if report.expectations else "",
    )
