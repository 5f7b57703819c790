"""What a ledger database lacks is named with the statement that makes it, on either database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from sim_core.config import PostgresLedger, SqliteLedger
from sim_core.ledger.condition import compact, damage, shorten_log, size_of
from sim_core.ledger.engine import open_engine
from sim_core.ledger.migrations.versions import schema_2
from sim_core.ledger.missing import missing_parts
from sim_core.ledger.store import Ledger
from sim_core.simulate import RunSpec
from tests.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    settings = None
    if request.param == "postgresql":
        settings = PostgresLedger(url=request.getfixturevalue("postgres").create())
    made = open_engine(tmp_path / "ledger.db", settings)
    yield made
    made.dispose()


def fill(path: Path) -> None:
    """Make a ledger so large that SQLite looks at the clock while it is examined."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE filler (x TEXT)")
        database.executemany("INSERT INTO filler VALUES (?)", ((str(i),) for i in range(100_000)))
        database.execute("CREATE INDEX filler_x ON filler (x)")
        database.commit()


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_new_ledger_lacks_nothing(engine: Engine) -> None:
    assert missing_parts(engine) == []


@pytest.mark.parametrize(
    ("name", "table", "columns"),
    [
        ("alert_by_source", "alert", "(run, source_ip)"),
        ("ix_experimentrun_run", "experimentrun", "(run)"),
    ],
)
def test_dropped_index_is_named_and_its_statement_makes_it(
    engine: Engine, name: str, table: str, columns: str
) -> None:
    execute(engine, f"DROP INDEX {name}")
    (missing,) = missing_parts(engine)
    assert (missing.name, missing.table) == (name, table)
    assert missing.statement == f"CREATE INDEX {name} ON {table} {columns}"
    execute(engine, missing.statement)
    assert missing_parts(engine) == []


def test_index_of_another_name_or_with_more_columns_will_do(engine: Engine) -> None:
    execute(engine, "DROP INDEX alert_by_source")
    execute(engine, "CREATE INDEX other ON alert (source_ip, run)")
    assert [m.name for m in missing_parts(engine)] == ["alert_by_source"], "columns in that order"
    execute(engine, "CREATE INDEX another ON alert (run, source_ip, step)")
    assert missing_parts(engine) == []


def test_index_of_some_rows_alone_will_not_do_whatever_its_name(engine: Engine) -> None:
    execute(engine, "DROP INDEX alert_by_source")
    execute(engine, "CREATE INDEX alert_by_source ON alert (run, source_ip) WHERE step > 5")
    (missing,) = missing_parts(engine)
    assert missing.statement.startswith("DROP INDEX alert_by_source; CREATE INDEX")
    for statement in missing.statement.split("; "):
        execute(engine, statement)
    assert missing_parts(engine) == []


def test_invalid_rest_of_an_index_of_postgresql_will_not_do(postgres: Postgres) -> None:
    engine = open_engine(Path("unused"), PostgresLedger(url=postgres.create()))
    execute(
        engine,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'alert_by_source'::regclass",
    )
    (missing,) = missing_parts(engine)
    assert missing.name == "alert_by_source"
    for statement in missing.statement.split("; "):
        execute(engine, statement)
    assert missing_parts(engine) == []
    engine.dispose()


def test_missing_table_is_named_and_its_statement_makes_it(engine: Engine) -> None:
    execute(engine, "DROP TABLE vote")
    (missing,) = missing_parts(engine)
    assert (missing.name, missing.table) == ("vote", "vote")
    execute(engine, missing.statement)
    assert missing_parts(engine) == []


def test_lost_keys_of_postgresql_are_named_and_made(postgres) -> None:
    engine = open_engine(Path("unused"), PostgresLedger(url=postgres.create()))
    execute(engine, "ALTER TABLE run DROP CONSTRAINT run_run_key_key")
    execute(engine, "ALTER TABLE vote DROP CONSTRAINT vote_pkey")
    found = missing_parts(engine)
    assert [m.name for m in found] == ["run_run_key_key", "vote_pkey"]
    for missing in found:
        execute(engine, missing.statement)
    assert missing_parts(engine) == []
    engine.dispose()


def test_ledger_brought_from_an_older_schema_lacks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as database:
        for statement in schema_2.STATEMENTS:
            database.execute(statement)
        database.execute("PRAGMA user_version = 2")
        database.commit()
    engine = open_engine(path)
    assert missing_parts(engine) == []
    engine.dispose()


def test_looking_as_it_is_upgrades_and_makes_nothing(tmp_path: Path, postgres) -> None:
    url = postgres.create()
    for engine in (
        open_engine(tmp_path / "ledger.db", as_it_is=True),
        open_engine(Path("unused"), PostgresLedger(url=url), as_it_is=True),
    ):
        assert len(missing_parts(engine)) == 12
        assert inspect(engine).get_table_names() == []
        engine.dispose()


def test_damaged_file_is_found(
    tmp_path: Path,
    ledger: Ledger,
    register: Callable[..., None],
    execute: Callable[..., object],
    make_spec: Callable[..., RunSpec],
) -> None:
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    assert shorten_log(ledger.engine)
    with ledger.reading() as connection:
        assert damage(connection) == []
    ledger.dispose()
    path = tmp_path / "ledger.db"
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 9 * 4096] = bytes(6 * 4096)
    path.write_bytes(content)
    with ledger.reading() as connection:
        assert damage(connection)


def test_look_that_takes_too_long_finds_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    open_engine(path).dispose()
    fill(path)
    engine = open_engine(path, SqliteLedger(statement_timeout_seconds=1e-9), as_it_is=True)
    with (
        engine.execution_options(readonly=True).connect() as connection,
        pytest.raises(OperationalError, match="interrupted"),
    ):
        damage(connection)
    engine.dispose()


def test_space_of_erased_rows_and_of_the_log_is_given_back(
    tmp_path: Path,
    ledger: Ledger,
    register: Callable[..., None],
    execute: Callable[..., object],
    make_spec: Callable[..., RunSpec],
) -> None:
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    ledger.erase(spec.run_key)
    before = size_of(ledger.engine)
    assert before.log > 0
    assert before.free > 0
    compact(ledger.engine)
    assert shorten_log(ledger.engine)
    after = size_of(ledger.engine)
    assert (after.free, after.log) == (0, 0)
    assert (tmp_path / "ledger.db").stat().st_size == after.database < before.database


def test_postgresql_is_left_to_compact_itself(postgres) -> None:
    engine = open_engine(Path("unused"), PostgresLedger(url=postgres.create()))
    compact(engine)
    assert shorten_log(engine)
    assert missing_parts(engine) == []
    assert size_of(engine).database > 0
    engine.dispose()
