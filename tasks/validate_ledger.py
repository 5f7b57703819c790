"""Validate the ledger of an experiment with Great Expectations (the only import of it)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import pandas as pd
from sqlalchemy import URL

from sim_core.errors import QuorumlabError
from sim_core.ledger.checks import QUERIES, batch_query
from sim_core.ledger.comparisons import COMPARISONS, Run
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


def validate_experiment(ledger: Ledger, experiment: str) -> ValidationReport:
    """Return the report on the runs of an experiment that are finished up to their horizon.

    Raises:
        QuorumlabError: an expectation could not be carried out.
    """
    runs = [run for run in ledger.runs_of(experiment) if run["summary"] is not None]
    if not runs:
        return ValidationReport(success=True, expectations=0, failed=())
    failed: list[Failure] = []
    with _sources(ledger.engine.url) as (rows, frames):
        for start in range(0, len(runs), RUNS_AT_ONCE):
            part = runs[start : start + RUNS_AT_ONCE]
            failed += _broken_queries(rows, part)
            failed += _broken_comparisons(frames, ledger, part)
    return ValidationReport(not failed, len(EXPECTATIONS), tuple(failed))


@contextmanager
def _sources(url: URL) -> Iterator[tuple[Any, Any]]:
    """Give Great Expectations' data sources: the database, and frames of pandas.

    Its source for PostgreSQL knows no addresses of sockets, that for any SQL knows them all.

    Raises:
        QuorumlabError: the database does not answer.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what its own imports use, and about that source
        import great_expectations
        from great_expectations.datasource.fluent.interfaces import TestConnectionError

        context: Any = great_expectations.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        try:
            rows = context.data_sources.add_sql("ledger", connection_string=_address(url))
            engines = rows.get_engine(), rows.get_execution_engine().engine
        except TestConnectionError as error:
            raise QuorumlabError(f"the ledger at {url!r} cannot be validated: {error}") from None
    try:
        yield rows, context.data_sources.add_pandas("recomputed")
    finally:
        rows.get_execution_engine().close()
        for engine in engines:
            engine.dispose()


def _address(url: URL) -> str:
    """Return a database's address, which may hold a password, as Great Expectations reads it."""
    return url.render_as_string(hide_password=False).replace("$", r"\$")


def _broken_queries(source: Any, runs: Sequence[Run]) -> Iterator[Failure]:
    """Yield the failures of QUERIES; the batch is a query for the runs."""
    from great_expectations.expectations.core.unexpected_rows_expectation import (
        UnexpectedRowsExpectation,
    )

    asset = source.add_query_asset(f"runs from {runs[0]['id']}", batch_query(runs).strip())
    batch = asset.add_batch_definition_whole_table("runs").get_batch()
    expectations = [
        UnexpectedRowsExpectation(unexpected_rows_query=query.by_run, meta={"name": query.name})
        for query in QUERIES
    ]
    for name, result in _unmet(batch, expectations):
        for row in result["details"]["unexpected_rows"]:
            yield Failure(name, row["run_id"], _first_of(row["places"], row["detail"]))


def _broken_comparisons(source: Any, ledger: Ledger, runs: Sequence[Run]) -> Iterator[Failure]:
    """Yield the failures of COMPARISONS; the batch is a frame of all compared places."""
    from great_expectations.expectations.core.expect_column_pair_values_to_be_equal import (
        ExpectColumnPairValuesToBeEqual,
    )
    from great_expectations.expectations.row_conditions import Column

    places = [
        (comparison.name, run["run_key"], *place)
        for comparison in COMPARISONS
        for run in runs
        for place in comparison.of_run(ledger, run)
    ]
    frame = pd.DataFrame(places, columns=["name", "run_id", "at", "expected", "found"])
    asset = source.add_dataframe_asset(f"runs from {runs[0]['id']}")
    definition = asset.add_batch_definition_whole_dataframe("places")
    batch = definition.get_batch({"dataframe": frame})
    expectations = [
        ExpectColumnPairValuesToBeEqual(
            column_A="expected",
            column_B="found",
            row_condition=Column("name") == comparison.name,
            meta={"name": comparison.name},
        )
        for comparison in COMPARISONS
    ]
    for name, result in _unmet(batch, expectations):
        by_run: dict[str, list[dict[str, str]]] = {}
        for place in result["unexpected_index_list"]:
            by_run.setdefault(place["run_id"], []).append(place)
        for run_id, found in by_run.items():
            detail = "{at}: expected {expected}, found {found}".format(**found[0])
            yield Failure(name, run_id, _first_of(len(found), detail))


def _unmet(batch: Any, expectations: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and result of each expectation that is not met.

    Raises:
        QuorumlabError: Great Expectations could not tell.
    """
    import great_expectations

    suite = great_expectations.ExpectationSuite("ledger", expectations=expectations)
    wanted = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": ["run_id", "at"],
    }
    for outcome in batch.validate(suite, result_format=wanted).results:
        name = outcome.expectation_config.meta["name"]
        if not outcome.success:
            if not outcome.result:
                raise QuorumlabError(f"{name!r} cannot be checked: {outcome.exception_info}")
            yield name, outcome.result


def _first_of(places: int, detail: str) -> str:
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
