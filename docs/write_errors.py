"""Write docs/reference/errors.md from the table of errors in the code.

.venv/bin/python docs/write_errors.py
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from sim_core.error_table import Handling, Trouble
from sim_core.ledger.transactions import POSTGRES_CLASSES, SQLITE_CLASSES

PAGE = Path(__file__).resolve().parent / "reference" / "errors.md"
SHOWN_BY = "tests/flows/test_error_table.py"
HEAD = """# Errors

What becomes of errors of the ledger, checkpoints, runs, workers, Ray, Prefect, MLflow and validation, and what you read then.
This page is written by `docs/write_errors.py` from `sim_core/error_table.py`, which is also where the program takes its
messages from.

- **retried**: it is tried again. What helps nobody hears of, but for a warning; otherwise the command or the run ends as the row says.
- **degraded**: the experiment goes on without the part that is concerned, and says so.
- **fatal**: the command ends. What is committed stays.

The exit code is the command's if it comes to the worst. Mistakes of the user (keys, values, data files, names) are always
fatal, before anything is started, with [exit code 2](commands.md#exit-codes). How to recover: [reliability](../reliability.md#how-to-recover).
"""


def generated() -> str:
    """Return the page."""
    parts = [HEAD, *(_section(part, list(rows)) for part, rows in groupby(Trouble, _part))]
    return "\n".join([*parts, _codes(), _tests()])


def _part(row: Trouble) -> str:
    return row.part


def _section(part: str, rows: list[Trouble]) -> str:
    """Return the table of one part of the stack."""
    lines = [f"## {part[0].upper()}{part[1:]}", ""]
    lines += ["| what happens | it is | error, exit code | message |", "|---|---|---|---|"]
    lines += [
        f"| {row.event} | **{row.handling}** | {_error(row)}, {row.exit_code} "
        f"| {in_capitals(row.message)} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def _error(row: Trouble) -> str:
    return "none" if row.becomes is None else f"`{row.becomes.__name__}`"


def in_capitals(message: str) -> str:
    """Return a message with the places for evidence as readers know them.

    >>> in_capitals("run {run} of {place!r}: {reason}")
    'run RUN of PLACE: REASON'
    """
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: found[1].upper(), message)


def _codes() -> str:
    """Return which codes of the databases are which row."""
    lines = [
        "## Codes of the databases",
        "",
        "Beginnings of SQLite's names and of PostgreSQL's SQLSTATE; the longest that fits counts.",
        "",
        "| what happens | it is | SQLite | PostgreSQL |",
        "|---|---|---|---|",
    ]
    for row in dict.fromkeys((*SQLITE_CLASSES.values(), *POSTGRES_CLASSES.values())):
        cells = [
            ", ".join(f"`{code}`" for code, of in codes.items() if of is row)
            for codes in (SQLITE_CLASSES, POSTGRES_CLASSES)
        ]
        lines.append(f"| {row.event.partition(';')[0]} | {row.handling} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _tests() -> str:
    """Return where each row is shown."""
    elsewhere = [f"`{row.shown_by}` ({row.part})" for row in Trouble if row.shown_by]
    return (
        f"## Tests\n\nEach row is shown by `{SHOWN_BY}`, these by others: {', '.join(elsewhere)}.\n"
    )


if __name__ == "__main__":
    assert {row.handling for row in Trouble} == set(Handling)
    PAGE.write_text(generated(), "utf-8")
