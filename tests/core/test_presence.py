"""Who is at work on an experiment can be seen by everybody, and ends with the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sim_core.config import PostgresLedger
from sim_core.ledger.engine import open_engine
from sim_core.ledger.presence import is_at_work, present

AT_WORK = """
import sys
from pathlib import Path
from sim_core.config import PostgresLedger
from sim_core.ledger.engine import open_engine
from sim_core.ledger.presence import present

url = sys.argv[2]
engine = open_engine(Path(sys.argv[1]), PostgresLedger(url=url) if url else None)
with present(engine, "experiment"):
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    made: str = request.getfixturevalue("postgres").create()
    return made


@pytest.fixture
def engine(url: str, tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(tmp_path / "ledger.db", PostgresLedger(url=url) if url else None)
    yield made
    made.dispose()


def test_who_is_at_work_is_seen_until_the_end(engine: Engine) -> None:
    assert not is_at_work(engine, "experiment")
    with present(engine, "experiment"), present(engine, "experiment"):
        assert is_at_work(engine, "experiment")
        assert not is_at_work(engine, "another")
    assert not is_at_work(engine, "experiment")


def test_killed_process_is_not_at_work(engine: Engine, url: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path / "ledger.db"), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "at work\n"
    assert is_at_work(engine, "experiment")
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    while is_at_work(engine, "experiment"):  # a database learns of it a moment later
        pass
