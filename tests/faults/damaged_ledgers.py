"""Ledgers that something else has changed: files, tables, and rows of experiments and runs."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sim_core.ledger.tables import (
    BLOCKS,
    ENTRY_TABLES,
    EXPERIMENT_RUNS,
    EXPERIMENTS,
    RUNS,
    SUMMARIES,
)

PAGE = 4_096
SCHEMA_BYTES = slice(60, 64)
"""Where SQLite's header has the schema's number (https://sqlite.org/fileformat.html, 1.3)."""
TABLES = [t.name for t in (EXPERIMENTS, RUNS, EXPERIMENT_RUNS, SUMMARIES, BLOCKS)]
TEXTS = ("", "\x1b[31m\n", "../../etc/passwd", "'; DROP TABLE run; --", "x" * 3_000)
NUMBERS = (-1, -(2**63), 2**63 - 1, 0.5, float("inf"), "many", b"\x00\xff", "")
NO_JSON = ("", "{", "\x00", b"\xff\xfe", "[" * 3_000, "null", "5", '"text"', 7, "[[]]")
CONFIGS = (
    "{}", '{"simulation": 5}', '{"simulation": {"nodes": "many"}}', '{"no": {"such": "group"}}',
    '{"detector": {"kind": "none_such"}}', '{"_target_": "os.system"}', '{"simulation": {"nodes": NaN}}',
    '{"simulation": {"nodes": 1e400}}', '{"workspace": 5}', '{"experiment": {"name": "../../x"}}',
)  # fmt: skip
POINTS = (
    "[]", "[5]", "[{}]", '[{"label": 5, "settings": {}, "values": {}}]', "[null]",
    '[{"label": "a/../b", "settings": {}, "values": {}}]', '[{"label": "a", "settings": [], "values": {}}]',
    '[{"label": "a", "settings": {"no_such": 5}, "values": {}}]',
    '[{"label": "a", "settings": {"simulation": {"nodes": -5}}, "values": {}}]',
    '[{"label": "a", "settings": {"simulation": []}, "values": {}}]',
    '[{"label": "a", "settings": {}, "values": {"a": {}}}]',
)  # fmt: skip
WRONG: dict[str, dict[str, tuple[Any, ...]]] = {
    "experiment": {
        "name": ("../../x", "", "a b", "\x1b[31m", b"\xff", "x" * 65),
        "key": ("\x1b[2J", b"\x00\xff"),
        "revision": (0, *NUMBERS[:2], *NUMBERS[3:]),
        "state": ("", "\x1b[31m\n", "x" * 3_000, b"\x00\xff"),
        "config": (*NO_JSON, "[]", *CONFIGS[1:]),
        "points": (*NO_JSON[:-1], "{}", *POINTS),
        "environment": (*NO_JSON, "[]"),
        "validation": (*(v for v in NO_JSON if v != "null"), "[]"),
        "created_at": (-1, float("inf"), "long ago", b"\x00"),
        "updated_at": (-1, float("inf"), "long ago", b"\x00"),
    },
    "run": {
        "run_key": ("", "g" * 64, "AB" * 32, "00" * 31, "../../x", b"\xff", 5),
        "config": (*NO_JSON, "[]"),
        "seed": (-1, 0.5, "many", b"\x00\xff", ""),
        "replicate": (-1, 0.5, "many", b"\x00\xff", ""),
        "model_version": ("\x1b[2J", b"\x00\xff"),
        "detail": (*TEXTS, "everything", b"\xff", 5),
        "n_nodes": (-1, 0.5, "many", b"\x00\xff", ""),
        "n_features": (-1, 0.5, "many", b"\x00\xff", "", 9),
        "epoch": (-1, 0.5, "many", b"\x00\xff", ""),
        "state": ("", "\x1b[31m\n", "x" * 3_000, b"\x00\xff"),
        "steps": (*NUMBERS, 0, 11, 13),
        "head": (*TEXTS, "0" * 64, b"\xff", 5),
        "claimed_at": (-1, float("inf"), "long ago", b"\x00"),
        "wall_seconds": (-1, float("inf"), "long", b"\x00"),
        "cpu_seconds": (-1, float("inf"), "long", b"\x00"),
        "peak_rss_mb": (-1, float("inf"), "much", b"\x00"),
        "error": (b"\x00\xff",),
        "tries": (-1, 0.5, "many", b"\x00\xff", ""),
    },
    "experimentrun": {
        "point": (*NUMBERS, 1),
        "horizon": (*(n for n in NUMBERS if n != 2**63 - 1), 0),
        "mlflow_run_id": ("\x1b[2J", b"\x00\xff"),
    },
    "summary": {
        "head": (*TEXTS, "0" * 64, b"\xff", 5),
        "metrics": (*(v for v in NO_JSON if v != "null"), "[]", '{"f1": []}', '{"f1": {"a": 1}}'),
    },
}  # fmt: skip


def damaged_files(base: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield contents of a file that may be no database any more, with what they are."""
    rng = random.Random(7)
    yield from (("empty", b""), ("text", b"hello " * 900), ("zeros", bytes(len(base))))
    yield from (("noise", rng.randbytes(9_000)), ("header alone", base[:100]))
    for version in (1, 4, 99, 2**31 - 1, 2**32 - 1):
        changed = bytearray(base)
        changed[SCHEMA_BYTES] = version.to_bytes(4, "big")
        yield f"schema {version}", bytes(changed)
    for _ in range(10):
        end = rng.randrange(1, len(base))
        yield f"{end} bytes", base[:end]
        whole = end - end % PAGE
        yield f"{whole} bytes", base[:whole]
    for _ in range(35):
        at, length = rng.randrange(len(base)), rng.choice((1, 60, PAGE, 3 * PAGE))
        yield (
            f"{length} other bytes at {at}",
            (base[:at] + rng.randbytes(length) + base[at + length :])[: len(base)],
        )
    for _ in range(15):
        at = rng.randrange(len(base) // PAGE) * PAGE
        other = rng.choice((bytes(PAGE), base[:PAGE], base[-PAGE:]))
        yield f"another page at {at}", base[:at] + other + base[at + PAGE :]


def changes_of_tables() -> Iterator[str]:
    """Yield statements that leave a database of another shape, or other rows."""
    for name in TABLES:
        yield from (f"DROP TABLE {name}", f"ALTER TABLE {name} RENAME TO other")
    for name in ENTRY_TABLES:
        yield f"DROP TABLE {name}"
    yield from (f"DELETE FROM {t}" for t in ("block", "metrics", "proposal", "decision"))
    yield "ALTER TABLE run RENAME COLUMN steps TO paces"
    yield "ALTER TABLE run DROP COLUMN error"
    yield "UPDATE run SET id = id + 100"
    yield "UPDATE experimentrun SET run = 999 WHERE replicate = 0"
    yield "UPDATE block SET step = step + 100"


def changes_of_rows() -> Iterator[tuple[str, str, Any]]:
    """Yield table, column and value of what no row may hold."""
    for table, columns in WRONG.items():
        for column, values in columns.items():
            for value in values:
                yield table, column, value


def change_row(path: Path, table: str, column: str, value: Any) -> None:
    """Change the first row of a table."""
    first = f"rowid = (SELECT MIN(rowid) FROM {table})"
    execute(path, f"UPDATE {table} SET {column} = ? WHERE {first}", value)


def hashed_rows(path: Path) -> list[list[Any]]:
    """Return all that the chains of hashes vouch for."""
    tables = [f"SELECT * FROM {t.name}" for t in (BLOCKS, *ENTRY_TABLES.values())]
    with closing(sqlite3.connect(path)) as database:
        return [
            database.execute(statement).fetchall()
            for statement in ("SELECT id, run_key, steps, head FROM run", *tables)
        ]


def execute(path: Path, statement: str, *values: Any) -> None:
    """Change a database behind the program's back."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(statement, values)
