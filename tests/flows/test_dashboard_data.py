"""What the dashboard shows is what the ledger, MLflow's files and benchmarks hold, and no figure is made up."""

from __future__ import annotations

import inspect
import json
import sqlite3
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from sqlalchemy import event

from flows.benchmarks.history import FOLDER
from flows.dashboard import charts
from flows.dashboard.advice import advice_of, operation_table, read_summary
from flows.dashboard.benchmarks import changes, read_benchmarks
from flows.dashboard.comparing import Map, compare, comparison_table, point_table, two_factors
from flows.dashboard.entries import (
    Filter,
    blocks,
    entry_counts,
    find_runs,
    life_of,
    proposals,
    run_row,
)
from flows.dashboard.network import MOST_NODES, Replayer, look, replayer_of
from flows.dashboard.progress import curves, experiment_table, progress_of, run_table
from flows.dashboard.start import BenchmarkForm, Server, SweepForm, checked, numbers_in, questions
from flows.dashboard.telemetry import resource_table
from flows.dashboard.view import LedgerView
from flows.inspect import opened
from sim_core.config import LedgerConfig, PostgresLedger
from sim_core.consensus.rules import Outcome
from sim_core.errors import Unavailable, UserError
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.workspace import Workspace
from tests.ports import free_port
from tests.postgres import Postgres

NAME = "shown"
SWEEP = (
    f"experiment.name={NAME}", "simulation.nodes=12", "simulation.steps=30",
    "experiment.replicates=3", "ledger.detail=all", "adversary=poisoner", "topology=small_world",
    "dissemination=push_pull",
    "+points.few=['adversary.share=0.1','consensus.vote_deadline=3']",
    "+points.many=['adversary.share=0.4','consensus.vote_deadline=3']",
    "+points.few_late=['adversary.share=0.1','consensus.vote_deadline=6']",
    "+points.many_late=['adversary.share=0.4','consensus.vote_deadline=6']",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run_plainly_in: Callable[..., Any]) -> Path:
    workspace = tmp_path_factory.mktemp("dashboard") / "workspace"
    run_plainly_in(workspace, *SWEEP)
    return workspace


@pytest.fixture
def view(folder: Path) -> Iterator[LedgerView]:
    made = LedgerView(folder)
    yield made
    made.close()


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with opened(folder) as (_, found):
        yield found


def query(folder: Path, statement: str) -> list[Any]:
    with sqlite3.connect(folder / "ledger.db") as connection:
        return connection.execute(statement).fetchall()


def key_of(ledger: Ledger) -> str:
    return str(find_runs(ledger, experiment=NAME)["run_key"].iloc[0])


# --- live ---------------------------------------------------------------------------------


def test_progress_is_what_the_ledger_has(ledger: Ledger) -> None:
    found = progress_of(ledger, NAME)
    assert (found.state, found.runs) == ("finished", {"finished": 12})
    assert (found.steps, found.horizon, found.share) == (360, 360, 1.0)
    assert found.node_steps == 360 * 12
    assert found.nodes == found.nodes_up == 144
    row = experiment_table(ledger).iloc[0]
    assert (row["experiment"], row["runs"], row["steps"], row["of"]) == (NAME, 12, 360, 360)


def test_an_experiment_whose_driver_is_gone_is_abandoned(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "workspace"
    copied.mkdir()
    with (
        sqlite3.connect(folder / "ledger.db") as source,
        sqlite3.connect(copied / "ledger.db") as to,
    ):
        source.backup(to)
        to.execute("UPDATE experiment SET state = 'running'")
    with opened(copied) as (_, ledger):
        assert progress_of(ledger, NAME).state == "abandoned"
    found = LedgerView(copied).ask("table", experiment_table).value
    assert found is not None
    (advice,) = advice_of(Workspace(copied), found)
    assert advice.advice == f"quorumlab resume {NAME}"


def test_curves_are_means_of_the_rows_and_say_what_they_leave_out(ledger: Ledger) -> None:
    whole = curves(ledger, NAME, ["tp", "nodes_up"], 10_000)
    assert (whole.runs, whole.all_runs, whole.every) == (12, 12, 1)
    assert len(whole.table) == 4 * 30
    one = whole.table[(whole.table["label"] == "few") & (whole.table["step"] == 17)].iloc[0]
    mine = query(
        Path(str(ledger.engine.url.database)).parent,
        "SELECT avg(m.tp) FROM metrics m JOIN experimentrun e ON e.run = m.run "
        "WHERE e.point = 0 AND m.step = 17",
    )
    assert one["tp"] == pytest.approx(mine[0][0])
    assert one["n"] == 3
    thin = curves(ledger, NAME, ["tp"], 100)
    assert thin.runs == 5
    assert thin.all_runs == 12
    assert thin.every == 2
    assert thin.table["n"].sum() <= 100
    with pytest.raises(UserError, match="no metric of a step"):
        curves(ledger, NAME, ["tp; DROP TABLE run"], 100)


def test_runs_come_by_pages_and_states(ledger: Ledger) -> None:
    rows = run_table(ledger, NAME)
    assert list(rows["point"].unique()) == ["few", "many", "few_late", "many_late"]
    assert len(rows) == 12
    assert run_table(ledger, NAME, page=1).empty
    assert run_table(ledger, NAME, state="failed").empty


# --- ledger -------------------------------------------------------------------------------


def test_runs_are_found_by_key_experiment_and_replicate(ledger: Ledger) -> None:
    key = key_of(ledger)
    assert list(find_runs(ledger, key=key[:10].upper())["run_key"]) == [key]
    assert len(find_runs(ledger, experiment=NAME, replicate=2)) == 4
    assert find_runs(ledger, experiment="other").empty
    with pytest.raises(UserError, match="no beginning of a run's key"):
        find_runs(ledger, key="%' OR 1=1")


def test_rows_blocks_and_proposals_are_those_of_the_run(ledger: Ledger, folder: Path) -> None:
    run = run_row(ledger, key_of(ledger))
    counted = entry_counts(ledger, run).set_index("entries")["rows"]
    for kind, n in counted.items():
        ((there,),) = query(folder, f"SELECT count(*) FROM {kind} WHERE run = {run.number}")
        assert n == there
    chain = blocks(ledger, run, n=100)
    assert len(chain) == 30
    assert chain["follows"].all()
    assert str(run.head).startswith(chain["hash"].iloc[0])
    everything = proposals(ledger, run, Filter())
    ((n,),) = query(folder, f"SELECT count(*) FROM proposal WHERE run = {run.number}")
    assert everything.n == len(everything.table) == n
    by_outcome = {o: proposals(ledger, run, Filter(outcome=o)).n for o in Outcome}
    assert sum(by_outcome.values()) == n
    decided = query(folder, f"SELECT count(*) FROM decision WHERE run = {run.number}")
    assert n - by_outcome[Outcome.PENDING] == decided[0][0]
    late = proposals(ledger, run, Filter(first_step=10, last_step=20)).table
    assert late["step"].between(10, 20).all()
    assert proposals(ledger, run, Filter(), page=1).table.empty


def test_every_decision_is_found_however_late_it_was(ledger: Ledger, folder: Path) -> None:
    waited = set()
    for key in find_runs(ledger, experiment=NAME)["run_key"]:
        run = run_row(ledger, str(key))
        table = proposals(ledger, run, Filter()).table
        ((n,),) = query(folder, f"SELECT count(*) FROM decision WHERE run = {run.number}")
        assert table["decided"].notna().sum() == n
        waited |= set((table["decided"] - table["step"]).dropna().astype(int))
    assert max(waited) > 3, "some were late"


def test_a_life_goes_from_the_proposal_to_the_decision(ledger: Ledger, folder: Path) -> None:
    run = run_row(ledger, key_of(ledger))
    for number in proposals(ledger, run, Filter()).table["proposal"]:
        life = life_of(ledger, run, int(number))
        assert life.events["event"].iloc[0] == "proposed"
        votes = life.events[life.events["event"].str.startswith("votes")]["nodes"].sum()
        where = f"run = {run.number} AND proposal = {number}"
        assert votes == query(folder, f"SELECT count(*) FROM vote WHERE {where}")[0][0]
        if life.outcome != "pending":
            assert life.events["event"].iloc[-1] == life.outcome
        charts.draw_life(life.events)
    with pytest.raises(UserError, match="no proposal 999999"):
        life_of(ledger, run, 999_999)


# --- network ------------------------------------------------------------------------------


def test_network_at_any_step_is_the_one_that_the_ledger_has_recorded(ledger: Ledger) -> None:
    replayer = replayer_of(ledger, key_of(ledger), [NAME])
    for step in (29, 4, 17, 29):
        found = look(ledger, replayer, step)
        assert found.is_recorded is True
        assert len(found.nodes) == 12
        assert (found.nodes["behaviour"] == "lying").sum() == 1
        assert found.note == ""
    ((held,),) = query(
        Path(str(ledger.engine.url.database)).parent,
        f"SELECT count(*) FROM decision WHERE run = {run_row(ledger, key_of(ledger)).number}"
        f" AND outcome = {int(Outcome.CONFIRMED)}",
    )
    assert len(found.blocked) <= held
    assert found.nodes["blocks"].sum() == found.blocked["held by"].sum()
    charts.draw_network(found)


@pytest.mark.parametrize("kind", ["none", "centralised", "ledger"])
def test_links_that_carry_nothing_are_told(
    ledger: Ledger, make_spec: Callable[..., Any], kind: str
) -> None:
    found = look(ledger, Replayer(make_spec(dissemination={"kind": kind})), 2)
    assert f"Nothing travels over links (dissemination={kind})" in found.note
    assert found.is_recorded is None


def test_a_changed_ledger_is_not_called_what_happened(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "workspace"
    copied.mkdir()
    with (
        sqlite3.connect(folder / "ledger.db") as source,
        sqlite3.connect(copied / "ledger.db") as to,
    ):
        source.backup(to)
        to.execute("UPDATE block SET hash = zeroblob(32) WHERE step = 9")
    with opened(copied) as (_, ledger):
        replayer = replayer_of(ledger, key_of(ledger), [NAME])
        assert look(ledger, replayer, 8).is_recorded is True
        assert look(ledger, replayer, 9).is_recorded is False
        assert not blocks(ledger, run_row(ledger, key_of(ledger)), last=10)["follows"].all()


def test_a_network_that_is_too_large_is_refused_in_words(make_spec: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=f"more than {MOST_NODES}"):
        Replayer(make_spec(simulation={"nodes": MOST_NODES + 1}))


# --- compare ------------------------------------------------------------------------------


def test_comparison_is_that_of_the_command(ledger: Ledger) -> None:
    found = compare(ledger, [NAME], "many")
    assert found.report is not None
    assert found.report.baseline == "many"
    table = comparison_table(found.report, "f1")
    assert set(table["point"]) == {"few", "few_late", "many_late"}
    means = point_table(found.spots, "f1")
    assert list(means["n"]) == [3, 3, 3, 3]
    drawn = two_factors(found.spots, "f1")
    assert isinstance(drawn, Map)
    assert drawn.table.shape == (2, 2)
    assert drawn.table.notna().all().all()
    charts.draw_map(drawn, "f1")
    charts.draw_effects([c for c in found.report.comparisons if c.metric == "f1"])
    assert "exactly two factors" in str(two_factors(found.spots[:2], "f1"))
    with pytest.raises(UserError, match="--smallest-effect nonsense"):
        compare(ledger, [NAME], None, smallest_effect="nonsense")


# --- answers ------------------------------------------------------------------------------


def test_answers_are_kept_until_the_ledger_says_something_else(
    view: LedgerView, folder: Path
) -> None:
    calls = []

    def load(ledger: Ledger) -> int:
        calls.append(ledger)
        return len(calls)

    assert [view.ask("q", load).value for _ in range(3)] == [1, 1, 1]
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("UPDATE experiment SET updated_at = updated_at + 1")
    assert view.ask("q", load).value == 2
    assert view.forget() == 1
    assert view.ask("q", load).value == 3


def test_what_was_read_stays_and_is_stale_while_the_ledger_is_away(
    folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "workspace"
    copied.mkdir()
    with (
        sqlite3.connect(folder / "ledger.db") as source,
        sqlite3.connect(copied / "ledger.db") as to,
    ):
        source.backup(to)
    now = [100.0]
    view = LedgerView(copied, clock=lambda: now[0])
    first = view.ask("table", experiment_table)
    assert (first.trouble, first.read_at) == (None, 100.0)
    (copied / "ledger.db").rename(copied / "away.db")
    now[0] = 160.0
    stale = view.ask("table", experiment_table)
    assert stale.is_stale
    assert "no ledger.db" in str(stale.trouble)
    assert stale.read_at == 100.0
    assert stale.value is not None
    pd.testing.assert_frame_equal(stale.value, first.value)
    assert view.ask("never asked", experiment_table).value is None
    (copied / "away.db").rename(copied / "ledger.db")
    again = view.ask("table", experiment_table)
    assert (again.trouble, again.read_at) == (None, 160.0)
    view.close()


def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database at all, but some text that is long enough")
    answer = LedgerView(tmp_path).ask("table", experiment_table)
    assert answer.value is None
    assert "Traceback" not in str(answer.trouble)
    assert str(tmp_path) in str(answer.trouble)


def test_the_ledger_is_only_read(view: LedgerView) -> None:
    table = ENTRY_TABLES["proposal"]

    def write(ledger: Ledger) -> None:
        with ledger.reading() as connection:
            version = connection.exec_driver_sql("PRAGMA query_only").scalar_one()
            assert version == 1
            connection.exec_driver_sql(f"DELETE FROM {table.name}")

    assert "readonly" in str(view.ask("write", write).trouble)


def test_no_question_about_one_run_reads_the_rows_of_all(ledger: Ledger) -> None:
    """However many there are: the database looks rows up by their keys."""
    asked: list[tuple[str, Any]] = []

    @event.listens_for(ledger.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        del connection, cursor
        asked.append((statement, parameters))

    run = run_row(ledger, key_of(ledger))
    curves(ledger, NAME, ["tp"], 500)
    progress_of(ledger, NAME)
    entry_counts(ledger, run)
    blocks(ledger, run)
    proposals(ledger, run, Filter(outcome=Outcome.CONFIRMED))
    life_of(ledger, run, 0)
    event.remove(ledger.engine, "before_cursor_execute", note)
    questions = [each for each in asked if each[0].startswith("SELECT")]
    assert len(questions) > 15
    large = [table.name for table in ENTRY_TABLES.values()] + ["block"]
    with ledger.engine.connect() as connection:
        for statement, parameters in questions:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [str(row[-1]) for row in plan]
            scanned = [step for step in steps for name in large if f"SCAN {name}" in step]
            assert not scanned, (statement, steps)


def test_postgresql_gives_the_same_answers(
    postgres: Postgres, tmp_path: Path, run_plainly_in: Callable[..., Any], ledger: Ledger
) -> None:
    url = postgres.create()
    workspace = tmp_path / "workspace"
    words = [*SWEEP, "ledger=postgresql", f"ledger.url={url.replace('+psycopg', '')}"]
    run_plainly_in(workspace, *words)
    view = LedgerView(workspace)
    key = key_of(ledger)
    questions: list[Callable[[Ledger], Any]] = [
        lambda found: progress_of(found, NAME).runs,
        lambda found: curves(found, NAME, ["tp"], 500).table,
        lambda found: find_runs(found, experiment=NAME, key=key[:6]),
        lambda found: entry_counts(found, run_row(found, key)),
        lambda found: blocks(found, run_row(found, key)),
        lambda found: proposals(found, run_row(found, key), Filter()).table,
        lambda found: proposals(found, run_row(found, key), Filter(outcome=Outcome.REJECTED)).n,
        lambda found: life_of(found, run_row(found, key), 0).events,
    ]
    for number, question in enumerate(questions):
        answer = view.ask(number, question)
        assert answer.trouble is None
        expected = question(ledger)
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(answer.value, expected)
        else:
            assert answer.value == expected
    view.close()


def test_a_database_server_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    address = f"postgresql://somebody:secret@127.0.0.1:{free_port()}/nowhere"
    settings: LedgerConfig = PostgresLedger(kind="postgresql", url=address.replace(":secret", ""))
    (tmp_path / "ledger.json").write_text(settings.model_dump_json())
    answer = LedgerView(tmp_path).ask("table", experiment_table)
    assert answer.value is None
    assert "secret" not in str(answer.trouble)
    assert "127.0.0.1" in str(answer.trouble)


# --- advice, telemetry, benchmarks ----------------------------------------------------------


def test_advice_is_what_the_last_command_has_noted(folder: Path, tmp_path: Path) -> None:
    table = pd.DataFrame([{"experiment": NAME, "state": "finished"}])
    assert advice_of(Workspace(folder), table) == []
    place = tmp_path / "experiments" / NAME
    place.mkdir(parents=True)
    noted = json.loads((folder / "experiments" / NAME / "summary.json").read_text())
    noted["issues"] = [
        {"after_seconds": 61.0, "kind": "cpu", "severity": "high", "text": "busy", "advice": "wait"}
    ]
    noted["validation"]["failed"] = [{"expectation": "votes are few", "detail": "they are not"}]
    (place / "summary.json").write_text(json.dumps(noted))
    found = advice_of(Workspace(tmp_path), table)
    assert [each.severity for each in found] == ["critical", "high"]
    assert found[1].what == "busy (after 61 s)"
    assert found[1].advice == "wait"
    (place / "summary.json").write_text("{")
    (damaged,) = advice_of(Workspace(tmp_path), table)
    assert "cannot be read" in damaged.what


def test_operations_and_resources_are_those_of_the_files(folder: Path) -> None:
    found = operation_table(read_summary(Workspace(folder), NAME)).set_index("operation")
    assert found.loc["run", "count"] == 12
    place = folder / "experiments" / NAME
    samples = pd.read_parquet(place / "resources.parquet")
    assert len(resource_table(place, 10_000)) == len(samples)
    assert len(resource_table(place, 1)) == 1
    assert resource_table(folder, 10).empty


def write_benchmark(folder: Path, number: int, samples: list[float], unit: str) -> None:
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    result = {"name": "case", "unit": unit, "samples": samples}
    machine = {"processor": "P", "cpus": 2}
    report = {"suite": "step", "commit": "c", "machine": machine, "results": [result]}
    (place / f"step-{number}.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("unit", "factor", "verdict", "is_regression"),
    [
        ("ms", 1.5, "worse", True),
        ("ms", 1.1, "worse", False),
        ("ms/step", 0.5, "better", False),
        ("rows/s", 0.5, "worse", True),
        ("ms", 1.0, "no difference shown", False),
    ],
)
def test_regressions_are_those_of_the_benchmark_command(
    tmp_path: Path, unit: str, factor: float, verdict: str, *, is_regression: bool
) -> None:
    usual = list(10 + np.random.default_rng(1).normal(0, 0.2, 20))
    write_benchmark(tmp_path, 1, usual, unit)
    assert changes(tmp_path).empty
    write_benchmark(tmp_path, 2, [factor * each for each in usual], unit)
    (row,) = changes(tmp_path).to_dict("records")
    assert (row["verdict"], row["regression"]) == (verdict, is_regression)
    assert row["change"] == pytest.approx(factor - 1)


def test_other_files_among_benchmarks_are_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "other.json").write_text('{"suite": 1}')
    found = read_benchmarks(tmp_path)
    assert found.table.empty
    assert found.unreadable[0].startswith("other.json: ")


# --- starting -------------------------------------------------------------------------------


def test_forms_have_the_types_and_limits_of_the_deployed_flows() -> None:
    from flows.deployed import benchmark, sweep

    for form, flow in ((SweepForm, sweep), (BenchmarkForm, benchmark)):
        hints = typing.get_type_hints(flow.fn, include_extras=True)
        parameters = inspect.signature(flow.fn).parameters
        assert list(form.model_fields) == list(parameters)
        ours = typing.get_type_hints(form, include_extras=True)
        for name, parameter in parameters.items():
            same = TypeAdapter(ours[name]).json_schema()
            assert same == TypeAdapter(hints[name]).json_schema(), name
            assert form.model_fields[name].default == parameter.default, name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nodes": [10_001]}, "10000"),
        ({"shares_of_liars": [1.5]}, "less than or equal to 1"),
        ({"name": "../../elsewhere"}, "name"),
        ({"detectors": ["oracle"]}, "detectors"),
        ({"steps": 0}, "steps"),
        ({"workspace": "/tmp"}, "workspace"),
    ],
)
def test_what_the_dashboards_form_does_not_allow_is_refused(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        checked(SweepForm, values)


def test_what_is_filled_in_is_what_is_asked_for() -> None:
    nodes = next(q for q in questions(SweepForm) if q.name == "nodes")
    assert (nodes.kind, nodes.low, nodes.high) == ("numbers", 2, 10_000)
    values = {"name": "", "study": None, "detectors": [], "nodes": numbers_in("20; 50", nodes)}
    assert checked(SweepForm, values) == {"nodes": [20, 50]}
    with pytest.raises(UserError, match="'many' is no number"):
        numbers_in("20, many", nodes)


def test_a_server_that_is_away_is_told_in_words() -> None:
    server = Server(f"http://127.0.0.1:{free_port()}/api", "secret")
    with pytest.raises(Unavailable, match="does not answer") as raised:
        server.workers()
    assert "secret" not in str(raised.value)
    assert not isinstance(raised.value, httpx.HTTPError)
