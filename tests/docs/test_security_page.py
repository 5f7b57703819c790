"""SECURITY.md promises nothing that no test shows."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT


def test_every_promise_has_a_test_that_is_there() -> None:
    table = (ROOT / "SECURITY.md").read_text("utf-8").partition("## What is promised")[2]
    rows = re.findall(r"^\| ([^|]+) \| (`.+`) \|$", table, flags=re.MULTILINE)
    assert len(rows) == table.count("\n| ") - 1, "the head has no test"
    sources = "\n".join(p.read_text("utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for promise, cell in rows:
        for name in re.findall(r"`([^`]+)`", cell):
            assert f"def test_{name}(" in sources, f"{promise}: {name}"
