"""Validate the ledger of an experiment with Great Expectations (the only import of it)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from sqlalchemy import URL

from sim_core.error_table import Trouble
from sim_core.errors import QuorumlabError
from sim_core.ledger.checks import QUERIES, batch_query
from sim_core.ledger.comparisons import COMPARISONS, Compared, compare_run
from sim_core.ledger.decisions import Run
from sim_core.ledger.report import (
    EXPECTATIONS,
    RUNS_AT_ONCE,
    Failure,
    ValidationReport,
    first_of,
)
from sim_core.ledger.store import Ledger

ADDRESS = "QUORUMLAB_LEDGER"
"""Stands for the database's address, which may hold a password, where Great Expectations shows it."""
AGREEING = Compared("all of it", "as it should be", "as it should be")


def validate_runs(ledger: Ledger, runs: Sequence[Run]) -> ValidationReport:
    """Return the report on finished runs.

    Raises:
        QuorumlabError: an expectation could not be carried out.
    """
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

        context: Any = great_expectations.get_context(
            mode="ephemeral",
            runtime_environment={ADDRESS: url.render_as_string(hide_password=False)},
        )
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        try:
            rows = context.data_sources.add_sql("ledger", connection_string=f"${{{ADDRESS}}}")
            engines = rows.get_engine(), rows.get_execution_engine().engine
        except TestConnectionError as error:
            told = Trouble.VALIDATION_UNOPENED.tell(place=url, reason=error)
            raise QuorumlabError(told) from None
    try:
        yield rows, context.data_sources.add_pandas("recomputed")
    finally:
        rows.get_execution_engine().close()
        for engine in engines:
            engine.dispose()


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
            yield Failure(name, row["run_id"], first_of(row["places"], row["detail"]))


def _broken_comparisons(source: Any, ledger: Ledger, runs: Sequence[Run]) -> Iterator[Failure]:
    """Yield the failures of COMPARISONS.

    The batch is a frame: a row for each place that differs, and one for each comparison of a run
    without any.
    """
    from great_expectations.expectations.core.expect_column_pair_values_to_be_equal import (
        ExpectColumnPairValuesToBeEqual,
    )
    from great_expectations.expectations.row_conditions import Column

    places = [
        (name, run["run_key"], *place)
        for run in runs
        for name, of_run in compare_run(ledger, run)
        for place in of_run or [AGREEING]
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
            yield Failure(name, run_id, first_of(len(found), detail))


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
                reason = outcome.exception_info
                raise QuorumlabError(Trouble.VALIDATION_UNSURE.tell(rule=name, reason=reason))
            yield name, outcome.result
