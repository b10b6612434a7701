"""The form of what a call returned, so that the cache gives that again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Keep it; what was recorded before has none."""
    op.add_column("nodes", sa.Column("form", sa.Text(), server_default="", nullable=False))
