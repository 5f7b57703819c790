"""Schema 3: rows lie in the tree of their key, numbers have 64 bits, runs count their tries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"

ROWS = ("alert", "block", "decision", "metrics", "proposal", "support", "vote")


def upgrade() -> None:
    """Write each table of rows again; only SQLite has ever had schema 2."""
    connection = op.get_bind()
    made = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    op.execute("DROP INDEX alert_by_source")
    for table in ROWS:
        statement = connection.execute(made, {"name": table}).scalar_one()
        op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        op.execute(statement.replace("INTEGER", "BIGINT") + " WITHOUT ROWID")
        op.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")  # noqa: S608 - names from above
        op.execute(f"DROP TABLE old_{table}")
    op.execute("CREATE INDEX alert_by_source ON alert (run, source_ip)")
    op.execute("ALTER TABLE run ADD COLUMN tries INTEGER NOT NULL DEFAULT 0")
