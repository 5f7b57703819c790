"""Rows of a run's steps that were changed behind the program's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def change(database: Path, statement: str) -> None:
    """Change rows as whoever has the file can."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(statement)


def changed_entries(database: Path) -> list[tuple[str, str]]:
    """Return statements that change entries or blocks: each column, and whole rows."""
    found: list[tuple[str, str]] = []

    def add(what: str, statement: str) -> None:
        found.append((what, statement))

    with closing(sqlite3.connect(database)) as db:
        for table in ("alert", "proposal", "vote", "decision", "metrics", "block"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            keys = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]
            key = db.execute(
                f"SELECT {', '.join(keys)} FROM {table} ORDER BY {', '.join(keys)} LIMIT 1 OFFSET 1"
            ).fetchone()
            at = " AND ".join(f"{name} = {part}" for name, part in zip(keys, key, strict=True))
            for column in columns[1:]:
                blob = isinstance(
                    db.execute(f"SELECT {column} FROM {table} WHERE {at}").fetchone()[0], bytes
                )
                other = f"zeroblob(length({column}))" if blob else f"coalesce({column}, 0) + 100000"
                add(f"{table}.{column}", f"UPDATE {table} SET {column} = {other} WHERE {at}")
                if column in keys:
                    add(f"{table}.{column} text", f"UPDATE {table} SET {column} = 'x' WHERE {at}")
            add(f"{table} gone", f"DELETE FROM {table} WHERE {at}")
            add(f"all {table} gone", f"DELETE FROM {table}")
            rest = ", ".join(c if c != "step" else "step + 1000" for c in columns)
            add(f"{table} doubled", f"INSERT INTO {table} SELECT {rest} FROM {table} WHERE {at}")
            last = keys[-1]
            add(f"{table} swapped", f"UPDATE {table} SET {last} = -{last} - 1 WHERE {at}")
    return found
