"""Twenty kills of driver and worker at random moments of one experiment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.soak import differences, disturb, end_of, finish, make_program

KILLS = 20


@pytest.mark.faults
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_twenty_kills_lose_and_double_nothing(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres") if database == "postgresql" else None
    calm = make_program(tmp_path / "undisturbed", server)
    assert finish(calm) is None
    program = make_program(tmp_path / "disturbed", server)
    numbers = random.Random(20)
    struck = 0
    while struck < KILLS:
        struck += disturb(program, numbers, ("kill driver", "kill worker")) is not None
        if not program.query("SELECT run FROM summary LIMIT 1"):
            continue
        assert finish(program) is None
        assert differences(program, end_of(calm)) == []
        program = make_program(tmp_path / f"disturbed-{struck}", server)
    assert finish(program) is None
    assert differences(program, end_of(calm)) == []
