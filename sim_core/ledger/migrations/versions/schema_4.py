"""Schema 4: it is noted what has been validated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add the column; nothing counts as validated yet."""
    op.add_column("summary", sa.Column("validated", sa.String(), nullable=True))
