"""The page on reliability names tests that are there, one for each row of the matrix."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

ROWS = 25
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


def test_every_row_of_the_matrix_has_a_test_that_is_there() -> None:
    table = PAGE.partition("## The matrix")[2]
    rows = re.findall(r"^\| ([\d, ]+) \|.*\| (.+) \|$", table, flags=re.MULTILINE)
    numbers = [int(n) for first, _ in rows for n in first.split(",")]
    assert sorted(numbers) == list(range(1, ROWS + 1))
    sources = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    functions = "\n".join(sources.values())
    for _, cell in rows:
        for name in re.findall(r"`([^`]+)`", cell):
            if name.endswith(".py"):
                assert name.rpartition("/")[2] in sources, name
            elif not name.startswith("["):
                assert f"def test_{name.partition('[')[0]}" in functions, name
