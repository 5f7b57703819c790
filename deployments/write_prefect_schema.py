"""Write flows/prefect_schema.sql: tables of Prefect's database as the migrations of this Prefect make them.

python deployments/write_prefect_schema.py
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from flows.environment import DATABASE, SQLITE
from flows.prefect_server import SCHEMA


def migrated(database: Path) -> None:
    """Let Prefect make its database."""
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={**os.environ, DATABASE: f"{SQLITE}{database}", "PREFECT_HOME": str(database.parent)},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def dumped(database: Path) -> str:
    """Return the statements that make a database like this one."""
    with closing(sqlite3.connect(database)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "prefect.db"
        migrated(made)
        SCHEMA.write_text(dumped(made))
