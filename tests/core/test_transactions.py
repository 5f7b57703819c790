"""Transactions on real databases that are busy, away, full or slow."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from sim_core.checkpoint import CheckpointFolder
from sim_core.config import LedgerConfig, PostgresLedger, SqliteLedger
from sim_core.errors import ConfigurationError, LedgerFailed, Unavailable
from sim_core.ledger.engine import open_engine, open_reader
from sim_core.ledger.store import Ledger
from sim_core.ledger.transactions import FULL, Database, class_of
from sim_core.simulate import simulate

Open = Callable[..., Ledger]
IMPATIENT = SqliteLedger(busy_timeout_seconds=0.01)
RECURSION = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000) "
    "SELECT count(*) FROM n"
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    ledgers: list[Ledger] = []

    def make(settings: LedgerConfig, *, attempts: int = 6) -> Ledger:
        engine = open_engine(tmp_path / "ledger.db", settings)
        folder = CheckpointFolder(tmp_path / "checkpoints")
        ledgers.append(Ledger(engine, folder, reader=open_reader(settings), attempts=attempts))
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.dispose()


def test_transaction_is_repeated_until_the_database_is_free(
    opened: Open, register: Any, make_spec: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ledger = opened(IMPATIENT)
    register(ledger, make_spec())
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        tried = threading.Event()

        class Watch(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                del record
                tried.set()

        watch = Watch()
        logging.getLogger("quorumlab.ledger").addHandler(watch)
        writing = threading.Thread(
            target=ledger.set_experiment, args=("experiment",), kwargs={"state": "late"}
        )
        writing.start()
        try:
            assert tried.wait(60)
            other.execute("COMMIT")
        finally:
            writing.join()
            logging.getLogger("quorumlab.ledger").removeHandler(watch)
    assert ledger.experiment("experiment").state == "late"
    assert "try 1 failed and is repeated: " in caplog.text
    assert "database is locked" in caplog.text


def test_database_that_stays_locked_is_an_error_that_says_what_to_do(
    opened: Open, register: Any, make_spec: Any, tmp_path: Path
):
    ledger = opened(IMPATIENT, attempts=2)
    register(ledger, make_spec())
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerFailed, match=r"database is locked\. Another program holds it"):
            ledger.set_experiment("experiment", state="never")
        other.execute("COMMIT")
    assert ledger.experiment("experiment").state == "running"


def test_full_disk_leaves_what_was_committed_and_the_run_goes_on_later(
    opened: Open, register: Any, make_spec: Any, execute: Any
):
    ledger = opened(SqliteLedger())
    spec = make_spec(detail="all", simulation={"flows_per_node": 200})
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    first, second, *_ = simulate(spec)
    ledger.commit(claim, first)
    with ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(LedgerFailed, match=r"full\. Make room on the disk"):
        ledger.commit(claim, second)
    (row,) = ledger.runs_of("experiment")
    assert (row["steps"], row["state"]) == (4, "running")
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    execute(ledger, spec)
    assert ledger.runs_of("experiment")[0]["state"] == "finished"


def test_errors_that_no_repeating_mends_are_raised_at_once(opened: Open):
    database = Database(opened(SqliteLedger()).engine)
    calls: list[int] = []

    def work(connection: Any) -> None:
        calls.append(1)
        connection.execute(text("SELECT a FROM nowhere"))

    with pytest.raises(LedgerFailed, match="no such table"):
        database.write(work)
    assert len(calls) == 1


def test_lost_connection_is_made_again(postgres: Any, opened: Open, register: Any, make_spec: Any):
    url = postgres.create()
    ledger = opened(PostgresLedger(url=url))
    register(ledger, make_spec())
    pids: list[int] = []

    def work(connection: Any) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        if not pids:
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", (pid,))
        pids.append(pid)
        connection.execute(text("UPDATE experiment SET state = 'mended'"))

    ledger._database.write(work)
    assert len(set(pids)) == 2
    assert ledger.experiment("experiment").state == "mended"


def test_writer_that_stands_still_is_thrown_out_of_its_transaction(
    postgres: Any, opened: Open, register: Any, make_spec: Any
):
    url, spec = postgres.create(), make_spec()
    settings = PostgresLedger(url=url, lock_timeout_seconds=0.3)
    still, ledger = opened(settings), opened(settings)
    register(ledger, spec)
    tries: list[int] = []

    def work(connection: Any) -> None:
        tries.append(1)
        connection.execute(text("UPDATE run SET tries = tries + 1"))
        if len(tries) == 1:
            ledger.claim([spec])  # waits until the database has ended this transaction
        connection.execute(text("UPDATE run SET steps = 0"))

    still._database.write(work)
    assert len(tries) == 2
    (row,) = ledger.runs_of("experiment")
    assert (row["epoch"], row["tries"]) == (1, 2)


def test_postgresql_that_does_not_answer_is_unavailable_and_named(postgres: Any):
    url = postgres.url("nowhere")
    with pytest.raises(Unavailable, match=r"nowhere.* does not answer: .*PGPASSWORD"):
        open_engine(Path("unused"), PostgresLedger(url=url))


def test_postgresql_needs_an_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("QUORUMLAB_LEDGER_URL", raising=False)
    with pytest.raises(ConfigurationError, match=r"set ledger\.url"):
        open_engine(Path("unused"), PostgresLedger())
    monkeypatch.setenv("QUORUMLAB_LEDGER_URL", "postgresql://me:secret@localhost/ledger")
    with pytest.raises(ConfigurationError, match="holds a password") as refused:
        open_engine(Path("unused"), PostgresLedger())
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["mysql://a@b/c", "postgresql://host", "no address", "postgresql://a:b@c/d"]
)
def test_address_that_is_none_or_holds_a_password_is_refused(url: str):
    with pytest.raises(ValueError, match=r"is no postgresql|holds a password"):
        PostgresLedger(url=url)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_query_that_takes_too_long_is_ended(kind: str, opened: Open, request: Any):
    limit = {"statement_timeout_seconds": 0.2}
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").create()
        ledger = opened(PostgresLedger(url=url, **limit))
    else:
        ledger = opened(SqliteLedger(**limit))
    with (
        pytest.raises(LedgerFailed, match=r"Raise ledger\.statement_timeout_seconds"),
        ledger.reading() as connection,
    ):
        connection.execute(text(RECURSION)).all()
    assert ledger.experiments() == []


@pytest.mark.parametrize(
    ("kind", "plan"), [("sqlite", "SCAN run"), ("postgresql", "Seq Scan on run")]
)
def test_slow_query_is_logged_with_its_plan(
    kind: str, plan: str, opened: Open, request: Any, caplog: pytest.LogCaptureFixture
):
    every = {"slow_query_seconds": 1e-9}
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").create()
        ledger = opened(PostgresLedger(url=url, **every))
    else:
        ledger = opened(SqliteLedger(**every))
    with ledger.reading() as connection:
        connection.execute(text("SELECT count(*) FROM run WHERE error = :e"), {"e": "hush"}).all()
    (record,) = [r for r in caplog.records if "FROM run WHERE error" in r.getMessage()]
    assert "slow query" in record.getMessage()
    assert plan in record.getMessage()
    assert "hush" not in record.getMessage().splitlines()[0]


def test_displays_read_the_replica_and_decisions_the_database(
    postgres: Any, opened: Open, register: Any, make_spec: Any
):
    replica = postgres.create()
    open_engine(Path("unused"), PostgresLedger(url=replica)).dispose()
    ledger = opened(PostgresLedger(url=postgres.create(), replica_url=replica))
    register(ledger, make_spec())
    count = text("SELECT count(*) FROM run")
    with ledger.reading() as connection:
        assert connection.execute(count).scalar_one() == 1
    with ledger.reading(may_lag=True) as connection:
        assert connection.execute(count).scalar_one() == 0, "this replica is never told anything"


def test_reader_cannot_write(postgres: Any, opened: Open):
    ledger = opened(PostgresLedger(url=postgres.create()))
    with pytest.raises(LedgerFailed, match="read-only"), ledger.reading() as connection:
        connection.execute(text("DELETE FROM run"))


def test_full_disk_of_postgresql_is_told_from_other_errors():
    class DiskFull(Exception):
        sqlstate = "53100"

    assert class_of(OperationalError("INSERT", {}, DiskFull())) == FULL
