"""The benchmark command: what it measures in turn, reports and writes. Speed itself is not tested."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.benchmark import Case, Group, describe_machine, measure, run_suite, write_report
from flows.suites import SUITES
from flows.suites.step import network, stepping
from sim_core.errors import ConfigurationError

NAMES = {
    "step": """step_100x100x8 rng_100x100x8 oracle_100x100x8 step_1000x100x8 oracle_1000x100x8
        isolation_forest_50 isolation_forest_refit_50 nodes_100 nodes_1000 nodes_10000
        nodes_100000 shards_1 shards_2""",
    "ledger": """insert_sqlite raw_sqlite insert_postgresql raw_copy insert_1000 connect
        verify_chain top_sources stream_all""",
    "checkpoint": "run_without run_every_10 restore",
}


def counting(name: str, seconds: float, log: list[str], **settings: Any) -> Case:
    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        def call() -> float:
            log.append(name)
            return seconds

        yield call

    return Case(name, "ms", opened, **settings)


@pytest.mark.parametrize(("suite", "names"), NAMES.items())
def test_suite_has_the_names_of_the_contract(
    suite: str, names: str, postgres: Any, monkeypatch: Any
):
    monkeypatch.setenv("QUORUMLAB_LEDGER_URL", postgres.create())
    cases = {case.name for group in SUITES[suite]() for case in group.cases}
    assert set(names.split()) <= cases


def test_cases_of_a_group_are_measured_in_turn_after_their_warm_up():
    log: list[str] = []
    group = Group(
        (counting("a", 0.002, log), counting("b", 0.001, log, repeat=2)),
        (("a", "b"), ("b", "gone")),
    )
    a, b = measure(group, repeat=3, warmup=1, tick=lambda: None)
    assert log == ["a", "b", "a", "b", "a", "b", "a"]
    assert a.samples == [2.0, 2.0, 2.0]
    assert b.samples == [1.0, 1.0]
    assert a.ratios == {"b": 2.0}
    assert b.ratios == {}
    row = a.row()
    assert (row["n"], row["mean"], row["median"], row["sd"]) == (3, 2.0, 2.0, 0.0)
    assert row["success_rate"] == 1.0
    assert row["peak_rss_mb"] > 10


def test_a_real_step_is_timed_per_node():
    case = Case("tiny", "µs", stepping(network(70, 5), steps=2, per=70, settled=1), scale=1e6)
    (result,) = measure(Group((case,)), repeat=2, warmup=0, tick=lambda: None)
    assert len(result.samples) == 2
    assert all(0 < sample < 1e6 for sample in result.samples)


def test_report_is_written_as_json_and_as_a_row_per_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log: list[str] = []
    monkeypatch.setitem(SUITES, "tiny", lambda: [Group((counting("a", 0.002, log),))])
    report = run_suite("tiny", repeat=2, warmup=0, console=Console(quiet=True))
    assert report["machine"] == describe_machine()
    write_report(report, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == report
    write_report(report, tmp_path / "figures.csv")
    rows = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert [(row["name"], row["iteration"], row["value"]) for row in rows] == [
        ("a", "0", "2.0"),
        ("a", "1", "2.0"),
    ]
    with pytest.raises(ConfigurationError, match=r"\.json or \.csv"):
        write_report(report, tmp_path / "figures.txt")


def test_unknown_suite_names_those_that_there_are():
    with pytest.raises(ConfigurationError, match="there are: checkpoint, ledger, recovery, step"):
        run_suite("stepp", repeat=1, warmup=0, console=Console(quiet=True))
