"""Answers that are kept are those of now: whoever commits, on either database."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text, update

from sim_core.caching import Cache
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import CacheConfig
from sim_core.errors import LedgerFailed, UserError
from sim_core.ledger.cached import CachedQueries
from sim_core.ledger.engine import open_engine
from sim_core.ledger.queries import top_sources
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import EXPERIMENT_RUNS, EXPERIMENTS, RUNS
from sim_core.simulate import RunSpec, simulate
from tests.postgres import open_postgres

Open = Callable[[], Ledger]


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens one database, each time as another program would."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
    made: list[Ledger] = []

    def make() -> Ledger:
        engine = open_engine(tmp_path / "ledger.db") if url is None else open_postgres(url)
        made.append(Ledger(engine, CheckpointFolder(tmp_path / "checkpoints")))
        return made[-1]

    yield make
    for ledger in made:
        ledger.dispose()


@pytest.fixture
def queries(opened: Open) -> Iterator[CachedQueries]:
    cached = CachedQueries(opened(), Cache("trial", CacheConfig()))
    yield cached
    cached.close()


def all_answers(queries: Any, spec: RunSpec, sources: Any) -> list[Any]:
    found: list[Any] = [queries.experiments(), queries.experiment("experiment")]
    found += [queries.runs_of("experiment"), queries.row_counts([1, 2, 99])]
    try:
        found.append(sources(spec.run_key, at_least=1, last_step=9))
    except UserError as error:
        found.append(str(error))
    return found


def test_no_answer_is_stale_after_any_write_of_another_program(
    opened: Open, queries: CachedQueries, register: Any, make_spec: Any
):
    """Every write of a ledger, and rows changed so that no count and no sum differs."""
    writer, spec = opened(), make_spec(detail="alerts")
    other = make_spec(replicate=1, detail="alerts")

    def check() -> None:
        for _ in range(2):  # the second answers are the kept ones
            kept = all_answers(queries, spec, queries.top_sources)
            now = all_answers(writer, spec, lambda *a, **k: top_sources(writer, *a, **k))
            assert kept == now

    def sql(statement: Any) -> None:
        with writer.engine.begin() as connection:
            connection.execute(statement)

    check()
    register(writer, spec, other)
    check()
    [claim] = writer.claim([spec])
    check()
    for segment in simulate(spec):
        writer.commit(claim, segment)
        check()
    writer.set_experiment("experiment", validation={"success": True})
    check()
    sql(update(EXPERIMENTS).values(validation={"success": None}))  # and updated_at as before
    check()
    writer.set_published("experiment", {1: "an id"})
    check()
    sql(update(EXPERIMENT_RUNS).where(EXPERIMENT_RUNS.c.run == 1).values(mlflow_run_id="no id"))
    check()
    writer.quarantine({spec.run_key: "broken"})
    check()
    sql(update(RUNS).where(RUNS.c.id == 1).values(error="brokem"))
    check()
    writer.release("experiment", broken=[])
    check()
    [claim] = writer.claim([other])
    writer.fail(claim, "no reason")
    check()
    writer.erase(spec.run_key)
    check()
    [claim] = writer.claim([replace(spec, detail="all")])
    for segment in simulate(replace(spec, detail="all")):
        writer.commit(claim, segment)
        check()
    longer = make_spec(simulation={"steps": 20})
    register(writer, longer, name="longer")
    check()


def test_own_writes_show_too(opened: Open, register: Any, make_spec: Any):
    ledger = opened()
    queries = CachedQueries(ledger, Cache("trial", CacheConfig()))
    spec = make_spec()
    assert queries.experiments() == []
    register(ledger, spec)
    assert queries.runs_of("experiment")[0]["state"] == "planned"
    ledger.claim([spec])
    assert queries.runs_of("experiment")[0]["state"] == "running"
    queries.close()


WRITER = """
import sys
kind, where = sys.argv[1:]
if kind == "sqlite":
    import sqlite3
    connection = sqlite3.connect(where, isolation_level=None, timeout=60)
else:
    import psycopg
    connection = psycopg.connect(where, autocommit=True)
for number in range(300):
    connection.execute(f"UPDATE experiment SET state = '{number}'")
    print(number, flush=True)  # it is committed now
    if number % 3 == 0:
        sys.stdin.readline()  # until the reader has seen something
"""


def test_what_another_process_has_committed_is_never_missed(
    opened: Open, queries: CachedQueries, register: Any, make_spec: Any, request: Any
):
    """The writer says after each commit that it is over; from then on no reader sees less."""
    ledger = opened()
    register(ledger, make_spec())
    url = ledger.engine.url.set(drivername="postgresql")
    is_sqlite = ledger.engine.name == "sqlite"
    where = str(ledger.engine.url.database) if is_sqlite else url.render_as_string()
    command = [sys.executable, "-c", WRITER, ledger.engine.name, where]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            committed = int(line)
            first = queries.experiments()[0].state
            second = queries.experiments()[0].state
            assert committed <= int(first) <= int(second)
            if committed % 3 == 0:
                assert committed == int(second)  # it waits, and nobody else writes
                process.stdin.write("go on\n")
                process.stdin.flush()
    assert process.returncode == 0
    figures = queries._cache.statistics
    assert figures.hits >= 100
    assert figures.outdated >= 100


def test_transaction_that_is_not_over_changes_no_answer(
    opened: Open, queries: CachedQueries, register: Any, make_spec: Any
):
    writer = opened()
    register(writer, make_spec())
    assert queries.experiments()[0].state == "running"
    with writer.engine.begin() as connection:
        connection.execute(text("UPDATE experiment SET state = 'later'"))
        assert [queries.experiments()[0].state for _ in range(3)] == ["running"] * 3
    assert queries.experiments()[0].state == "later"


def test_rows_of_a_finished_run_are_kept_whatever_others_write(
    opened: Open, queries: CachedQueries, register: Any, execute: Any, make_spec: Any
):
    writer, spec, other = opened(), make_spec(detail="alerts"), make_spec(replicate=1)
    register(writer, spec, other)
    execute(writer, spec)
    before = queries.row_counts([1]), queries.top_sources(spec.run_key)
    kept = queries._cache.statistics
    execute(writer, other)
    writer.set_experiment("experiment", state="finished")
    assert (queries.row_counts([1]), queries.top_sources(spec.run_key)) == before
    now = queries._cache.statistics
    assert (now.hits - kept.hits, now.misses - kept.misses) == (2, 0)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_ledgers_may_share_a_cache(
    kind: str, tmp_path: Path, request: Any, register: Any, make_spec: Any
):
    """Two databases of one server, where one snapshot is that of both, or two files."""
    cache, ledgers = Cache("trial", CacheConfig()), []
    for name in ("one", "two"):
        if kind == "sqlite":
            engine = open_engine(tmp_path / f"{name}.db")
        else:
            engine = open_postgres(request.getfixturevalue("postgres").create())
        ledgers.append(Ledger(engine, CheckpointFolder(tmp_path)))
        register(ledgers[-1], make_spec(), name=name)
    queries = [CachedQueries(ledger, cache) for ledger in ledgers]
    for _ in range(2):
        assert [q.experiments()[0].name for q in queries] == ["one", "two"]
    for one in queries:
        one.close()
    for ledger in ledgers:
        ledger.dispose()


def test_reading_ahead_makes_the_first_question_a_hit(
    opened: Open, queries: CachedQueries, register: Any, make_spec: Any
):
    register(opened(), make_spec(), name="one")
    register(opened(), make_spec(replicate=1), name="two")
    assert queries.warm() == 2
    before = queries._cache.statistics
    assert [len(queries.runs_of(name)) for name in ("one", "two")] == [1, 1]
    assert queries._cache.statistics.hits == before.hits + 2


def test_database_that_is_gone_is_an_error_and_no_old_answer(
    postgres: Any, register: Any, make_spec: Any
):
    url = postgres.create()
    ledger = Ledger(open_postgres(url), CheckpointFolder(Path("unused")), attempts=1)
    register(ledger, make_spec())
    queries = CachedQueries(ledger, Cache("trial", CacheConfig()))
    assert len(queries.experiments()) == 1
    where = f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres"
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)".encode())
    with pytest.raises(LedgerFailed):
        queries.experiments()
    ledger.dispose()


@contextmanager
def commit_that_waits(postgres: Any, database: str) -> Iterator[Callable[[], None]]:
    """Begin a commit that is in the log and cannot be seen, until the function is called.

    It waits for a standby that there is not: the one moment between the two that can be held.
    """
    where = f"host=127.0.0.1 port={postgres.port} user=postgres dbname={database}"
    change = "UPDATE experiment SET state = state || ', later'"
    with psycopg.connect(where, autocommit=True) as admin, psycopg.connect(where) as writer:
        writer.execute("SET synchronous_commit = on")
        writer.commit()
        waiting = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {writer.info.backend_pid}"
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            while True:  # until the server has taken notice of its setting
                writer.execute(change.encode())
                committing = threading.Thread(target=writer.commit)
                committing.start()
                while committing.is_alive() and (
                    admin.execute(waiting.encode()).fetchone() != ("SyncRep",)
                ):
                    pass
                if committing.is_alive():
                    break

            def let_go() -> None:
                admin.execute(f"SELECT pg_cancel_backend({writer.info.backend_pid})".encode())
                committing.join()

            yield let_go
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            committing.join()


def test_commit_that_is_in_the_log_before_it_is_seen_is_not_missed(
    postgres: Any, register: Any, make_spec: Any
):
    """The position in PostgreSQL's log would not do as a token."""
    url = postgres.create()
    ledger = Ledger(open_postgres(url), CheckpointFolder(Path("unused")))
    register(ledger, make_spec())
    queries = CachedQueries(ledger, Cache("trial", CacheConfig()))
    with commit_that_waits(postgres, url.rpartition("/")[2]) as let_go:
        before = [queries.experiments()[0].state for _ in range(2)]
        let_go()
        assert queries.experiments()[0].state == f"{before[0]}, later"
    assert before[0] == before[1]
    ledger.dispose()
