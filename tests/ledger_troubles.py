"""Databases that are locked, lost, full, damaged or slow: how each really happens."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import Any

import psycopg
from sqlalchemy import text

from sim_core.config import PostgresLedger, SqliteLedger
from sim_core.error_table import Trouble
from sim_core.errors import QuorumlabError
from sim_core.ledger.store import Ledger
from sim_core.simulate import simulate
from tests.ports import free_port
from tests.scene import Scene, caught, causes

RENAME = text("UPDATE experiment SET state = 'late'")
LONG_QUERY = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000) "
    "SELECT count(*) FROM n"
)


def other(ledger: Ledger, *, autocommit: bool = True) -> psycopg.Connection[Any]:
    """Return a connection to the same database that the program knows nothing of."""
    url = ledger.engine.url.set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(), autocommit=autocommit)


@causes(Trouble.LEDGER_BUSY)
def sqlite_locked(scene: Scene) -> QuorumlabError:
    ledger = scene.with_experiment(scene.ledger())
    with closing(sqlite3.connect(scene.file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        return caught(lambda: ledger.set_experiment("experiment", state="late"))


@causes(Trouble.LEDGER_BUSY)
def postgres_locked(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres(lock_timeout_seconds=0.05)
    with other(ledger, autocommit=False) as holder:
        holder.execute("LOCK TABLE experiment")
        return caught(lambda: ledger.set_experiment("experiment", state="late"))


@causes(Trouble.LEDGER_BUSY)
def postgres_serialization(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres()

    def work(connection: Any) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        connection.execute(text("SELECT state FROM experiment")).all()
        with other(ledger) as quicker:
            quicker.execute("UPDATE experiment SET state = 'first'")
        connection.execute(RENAME)

    error = caught(lambda: ledger._database.write(work))
    assert "could not serialize" in str(error)
    return error


@causes(Trouble.LEDGER_BUSY)
def postgres_deadlock(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres()
    threads: list[threading.Thread] = []

    def work(connection: Any) -> None:
        rival = other(ledger, autocommit=False)
        rival.execute("SET deadlock_timeout = '1h'")
        rival.execute("UPDATE run SET tries = 7")
        connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        connection.execute(RENAME)
        threads.append(threading.Thread(target=wait_for_experiment, args=(rival,)))
        threads[-1].start()
        waits = text("SELECT count(*) FROM pg_locks WHERE pid = :pid AND NOT granted")
        while not connection.execute(waits, {"pid": rival.info.backend_pid}).scalar_one():
            pass
        connection.execute(text("UPDATE run SET tries = 8"))

    def wait_for_experiment(rival: psycopg.Connection[Any]) -> None:
        with closing(rival):
            rival.execute("UPDATE experiment SET state = 'rival'")

    error = caught(lambda: ledger._database.write(work))
    for thread in threads:
        thread.join()
    assert len(threads) == 2
    assert "deadlock detected" in str(error)
    return error


@causes(Trouble.LEDGER_AWAY)
def postgres_connection_killed(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres()

    def work(connection: Any) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with other(ledger) as killer:
            killer.execute("SELECT pg_terminate_backend(%s)", (pid,))
        connection.execute(RENAME)

    return caught(lambda: ledger._database.write(work))


@causes(Trouble.LEDGER_AWAY)
def postgres_has_no_connection_free(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres(pool_size=1, max_overflow=0, pool_timeout_seconds=0.01)
    with ledger.engine.connect():
        return caught(lambda: ledger.set_experiment("experiment", state="late"))


@causes(Trouble.LEDGER_FULL)
def sqlite_full(scene: Scene) -> QuorumlabError:
    ledger = scene.ledger()
    spec = scene.fixture("make_spec")(detail="all", simulation={"flows_per_node": 200})
    scene.fixture("register")(ledger, spec)
    (claim,) = ledger.claim([spec])
    with ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")
    return caught(lambda: ledger.commit(claim, next(simulate(spec))))


@causes(Trouble.LEDGER_BROKEN)
def sqlite_damaged(scene: Scene) -> QuorumlabError:
    ledger = scene.with_experiment(scene.ledger())
    find = text("SELECT rootpage FROM sqlite_master WHERE name = 'experiment'")
    with ledger.engine.connect() as connection:
        page = connection.execute(find).scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    ledger.dispose()  # with it the log goes into the file
    with scene.file.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    return caught(lambda: scene.ledger().set_experiment("experiment", state="late"))


@causes(Trouble.LEDGER_BROKEN)
def sqlite_not_writable(scene: Scene) -> QuorumlabError:
    ledger = scene.with_experiment(scene.ledger())
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    return caught(lambda: ledger.set_experiment("experiment", state="late"))


def ask_for_ever(ledger: Ledger) -> None:
    """Ask what takes minutes."""
    with ledger.reading() as connection:
        connection.execute(LONG_QUERY).all()


@causes(Trouble.LEDGER_SLOW)
def sqlite_slow(scene: Scene) -> QuorumlabError:
    ledger = scene.ledger(SqliteLedger(statement_timeout_seconds=0.1))
    return caught(lambda: ask_for_ever(ledger))


@causes(Trouble.LEDGER_SLOW)
def postgres_slow(scene: Scene) -> QuorumlabError:
    ledger = scene.postgres(statement_timeout_seconds=0.1)
    return caught(lambda: ask_for_ever(ledger))


@causes(Trouble.LEDGER_OTHER)
def sqlite_table_gone(scene: Scene) -> QuorumlabError:
    ledger = scene.with_experiment(scene.ledger())
    with closing(sqlite3.connect(scene.file)) as vandal:
        vandal.execute("ALTER TABLE experiment RENAME TO lost")
    return caught(lambda: ledger.set_experiment("experiment", state="late"))


@causes(Trouble.LEDGER_UNREADABLE)
def no_database(scene: Scene) -> QuorumlabError:
    scene.file.write_text("this is no database" * 100)
    return caught(scene.ledger)


@causes(Trouble.LEDGER_UNREADABLE)
def damaged_all_over(scene: Scene) -> QuorumlabError:
    scene.ledger().dispose()
    size = scene.file.stat().st_size
    with scene.file.open("r+b") as file:
        file.seek(100)  # behind the head of the file
        file.write(b"\xff" * (size - 100))
    return caught(scene.ledger)


@causes(Trouble.LEDGER_NEWER)
def newer_schema(scene: Scene) -> QuorumlabError:
    return of_schema(scene, 99)


@causes(Trouble.LEDGER_OLDER)
def older_schema(scene: Scene) -> QuorumlabError:
    return of_schema(scene, 1)


def of_schema(scene: Scene, number: int) -> QuorumlabError:
    """Return the error of opening a ledger that says so of itself."""
    with closing(sqlite3.connect(scene.file)) as file:
        file.execute(f"PRAGMA user_version = {number}")
    return caught(scene.ledger)


@causes(Trouble.LEDGER_UNREACHABLE)
def postgres_does_not_run(scene: Scene) -> QuorumlabError:
    url = f"postgresql://me@127.0.0.1:{free_port()}/ledger"
    return caught(lambda: scene.ledger(PostgresLedger(url=url)))


@causes(Trouble.LEDGER_TAKEN)
def run_claimed_by_another(scene: Scene) -> QuorumlabError:
    ledger, spec = scene.with_experiment(scene.ledger()), scene.fixture("make_spec")()
    (claim,) = ledger.claim([spec])
    scene.ledger().claim([spec])
    return caught(lambda: ledger.commit(claim, next(simulate(spec))))
