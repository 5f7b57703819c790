"""Ledgers that were changed behind the program's back, file and rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

NO_JSON = ("", "{", "[1,", "NaN{", "\0", "nul", "{'a': 1}", "\x1b[31m", "[" * 5_000)
NO_CONFIGURATION = (
    "null", "[]", "5", '"x"', "true", "{}", '{"simulation": 5}', '{"simulation": {"nodes": "x"}}',
    '{"simulation": {"nodes": 1e999}}', '{"detector": {"kind": "no_such"}}', '{"unknown": 1}',
    '{"workspace": ["/etc"]}', '{"simulation": {"nodes": ' + "9" * 400 + "}}",
    '{"detector": {"_target_": "os.system"}}', '{"experiment": {"name": "../../x"}}',
    '{"experiment": {"seed": -1}}', "[[" * 100 + "]]" * 100,
)  # fmt: skip
NO_POINTS = (
    "null", "{}", "5", '"x"', "[]", "[5]", "[null]", "[[]]", "[{}]", '[{"label": "base"}]',
    '[{"label": 5, "settings": {}}]', '[{"label": "../x", "settings": {}}]', '[{"settings": {}}]',
    '[{"label": "base", "settings": []}]', '[{"label": "base", "settings": "x"}]',
    '[{"label": "base", "settings": {"simulation": 5}}]',
    '[{"label": "base", "settings": {"workspace": "/etc"}}, {"label": "base", "settings": {}}]',
    '[{"label": "\\u001b[31m", "settings": {}}]', '[{"label": "base", "settings": {"x": 1}}]',
)  # fmt: skip


def change(database: Path, statement: str, *values: object) -> None:
    """Change rows as whoever has the file can."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("PRAGMA ignore_check_constraints=ON")
        db.execute(statement, values)


def damaged_files(database: Path) -> list[tuple[str, Callable[[Path], None]]]:
    """Return what may have become of a ledger's file, each a function that makes it of a path."""
    whole = database.read_bytes()

    def version(number: int) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.write_bytes(whole)
            change(path, f"PRAGMA user_version={number}")

        return make

    def without(table: str) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.write_bytes(whole)
            change(path, f"DROP TABLE {table}")

        return make

    def holds(content: bytes) -> Callable[[Path], None]:
        return lambda path: path.write_bytes(content) and None

    page = 4_096
    return [
        ("text", holds(b"this is no database, but long enough to be one " * 300)),
        ("zeros after the header", holds(whole[:100] + bytes(len(whole) - 100))),
        ("cut off in the first page", holds(whole[:2_000])),
        ("cut off", holds(whole[: len(whole) // 2])),
        ("first page damaged", holds(whole[:30] + b"\xff" * 3_000 + whole[3_030:])),
        ("pages gone", holds(whole[: 2 * page] + b"\xab" * (len(whole) - 2 * page))),
        ("a newer schema", version(99)),
        ("an older schema", version(1)),
        ("a schema below zero", version(-5)),
        ("a folder", lambda path: path.mkdir()),
        *((f"without {table}", without(table)) for table in ("experiment", "run", "block", "vote")),
    ]
