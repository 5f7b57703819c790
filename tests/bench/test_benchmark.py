"""The benchmark command: what it measures in turn, reports and writes. Speed itself is not tested."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flows.benchmarks.cases import Case, Group, Measured, measure
from flows.benchmarks.files import write_report
from flows.benchmarks.machine import describe_machine
from flows.benchmarks.suite_runs import Parameters, run_suite
from flows.suites import SUITES
from flows.suites.dashboard import dashboard_suite
from flows.suites.orchestration import (
    orchestration_suite,
    running_program,
    sweeping,
    sweeping_again,
)
from flows.suites.step import network, stepping
from sim_core.consensus import RULES
from sim_core.detectors import DETECTORS
from sim_core.errors import ConfigurationError, QuorumlabError

NAMES = {
    "step": """step_100x100x8 rng_100x100x8 oracle_100x100x8 step_1000x100x8 oracle_1000x100x8
        isolation_forest_50 isolation_forest_refit_50 nodes_100 nodes_1000 nodes_10000
        nodes_100000 shards_1 shards_2""",
    "ledger": """insert_sqlite raw_sqlite insert_postgresql raw_copy insert_1000 connect
        verify_chain top_sources stream_all""",
    "checkpoint": "run_without run_every_10 restore",
    "orchestration": """bare_1000 sweep_1000 sweep_1000_untracked sweep_again_1000 one_core two_cores
        program_1000 program_1000_untracked served_1000 served_1000_untracked
        tune_100 prefect_ray_100""",
    "detectors": " ".join(DETECTORS),
    "consensus": " ".join(RULES),
    "profiles": "development production high_performance edge",
    "memory": "nodes_100 nodes_10000 nodes_100000 node",
    "ray": "task put_1mb get_1mb worker_killed",
    "start": "help tiny_cold tiny_warm make_run_warm",
    "telemetry": "sweep_200_on sweep_200_off",
    "run": "run_100x50",
    "dashboard": "live live_resources network ledger compare benchmarks advice kept",
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


def test_slow_case_takes_fewer_samples_and_never_more_than_are_asked_for() -> None:
    case = counting("a", 0.001, [], repeat=2)
    for asked, taken in ((1, 1), (2, 2), (5, 2)):
        (result,) = measure(Group((case,)), repeat=asked, warmup=0, tick=lambda: None)
        assert len(result.samples) == taken


def test_call_that_fails_is_no_sample_and_counts_against_the_success_rate() -> None:
    turns = iter([1.0, None, 3.0])

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        def call() -> float:
            if (seconds := next(turns)) is None:
                raise QuorumlabError("away")
            return seconds

        yield call

    group = Group(
        (Case("a", "s", opened, scale=1.0), counting("b", 1.0, [], scale=1.0)), (("a", "b"),)
    )
    a, b = (found.row() for found in measure(group, repeat=3, warmup=0, tick=lambda: None))
    assert (a["samples"], a["failures"], a["success_rate"]) == ([1.0, 3.0], 1, 2 / 3)
    assert a["ratio_samples"] == {"b": [1.0, 3.0]}  # of the turns in which both were measured
    assert b["success_rate"] == 1.0


def test_case_that_always_fails_ends_the_benchmark_with_its_reason() -> None:
    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        def call() -> float:
            raise QuorumlabError("no such thing")

        yield call

    with pytest.raises(QuorumlabError, match="no such thing"):
        measure(Group((Case("a", "s", opened),)), repeat=3, warmup=0, tick=lambda: None)


def test_sample_may_say_what_other_processes_took() -> None:
    @contextmanager
    def opened() -> Iterator[Callable[[], Measured]]:
        yield lambda: Measured(2.0, cpu_percent=150.0, peak_rss_mb=9.0, figures={"errors": 0.5})

    (found,) = measure(
        Group((Case("a", "s", opened, scale=1.0),)), repeat=2, warmup=0, tick=lambda: None
    )
    row = found.row()
    assert (row["median"], row["cpu_mean"], row["peak_rss_mb"]) == (2.0, 150.0, 9.0)
    assert row["figures"] == {"errors": 0.5}


def test_peak_of_a_case_is_not_that_of_the_one_before() -> None:
    def taking(n_bytes: int) -> Any:
        @contextmanager
        def opened() -> Iterator[Callable[[], float]]:
            def call() -> float:
                np.ones(n_bytes, dtype=np.uint8)
                return 1.0

            yield call

        return opened

    cases = Case("large", "s", taking(200 << 20)), Case("small", "s", taking(1))
    large, small = measure(Group(cases), repeat=2, warmup=0, tick=lambda: None)
    assert large.peak_rss_mb > small.peak_rss_mb + 150


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
    said = StringIO()
    report = run_suite("tiny", repeat=2, warmup=0, console=Console(file=said))
    assert said.getvalue().strip() == "measuring a (1 of 1)", "where no bar is seen"
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


TINY = (
    "executor=inline", "tracking=off", "validation=off", "output.plots=false",
    "simulation.nodes=4", "simulation.steps=3",
)  # fmt: skip


@pytest.mark.parametrize(
    ("open_case", "ledgers"), [(sweeping, 2), (sweeping_again, 1)], ids=["new", "again"]
)
def test_a_sweep_is_carried_out_whole_every_time_and_again_only_where_that_is_measured(
    open_case: Any, ledgers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_case(10, *TINY)() as call:
        if ledgers == 1:
            assert call() > 0
        else:
            for sample in (call(), call()):
                assert 0 < sample.figures["beyond_ms"] < 1e3 * sample.value
        found = list(tmp_path.rglob("ledger.db"))
        assert len(found) == ledgers
        for path in found:
            with closing(sqlite3.connect(path)) as database:
                runs = database.execute("SELECT state, steps, epoch FROM run").fetchall()
            assert runs == [("finished", 3, 1)] * 10


def test_names_of_sweeps_say_how_long_they_are():
    names = [case.name for group in orchestration_suite(5) for case in group.cases]
    assert {"bare_5", "sweep_5", "sweep_again_5", "prefect_ray_5"} <= set(names)


def test_every_page_of_the_dashboard_is_measured_on_one_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (group,) = dashboard_suite(("simulation.nodes=6", "simulation.steps=8"), samples=5)
    found = measure(group, repeat=2, warmup=0, tick=lambda: None)
    assert [result.case.name for result in found] == NAMES["dashboard"].split()
    assert all(len(result.samples) == 2 and min(result.samples) > 0 for result in found)
    assert found[-1].ratios["live"] > 0
    assert list(tmp_path.iterdir()) == [], "the workspace is gone"


def test_looking_at_the_suites_imports_no_ray():
    """Or an executor that starts Ray later in the same process would be refused by it."""
    program = (
        "import sys; from flows.suites import SUITES; [suite() for suite in SUITES.values()]; "
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_program_that_fails_is_no_sample():
    with (
        running_program([sys.executable, "-c", "raise SystemExit('no Ray')"], 5)() as call,
        pytest.raises(QuorumlabError, match="no Ray"),
    ):
        call()


def test_length_of_sweeps_is_no_setting_of_other_suites():
    with pytest.raises(ConfigurationError, match="'step' has no sweeps"):
        run_suite(
            "step", repeat=1, warmup=0, console=Console(quiet=True), parameters=Parameters(runs=5)
        )


def test_unknown_suite_names_those_that_there_are():
    with pytest.raises(
        ConfigurationError,
        match="there are: checkpoint, consensus, dashboard, detectors, forks, ledger, memory, orchestration, ",
    ):
        run_suite("stepp", repeat=1, warmup=0, console=Console(quiet=True))
