"""Who serves which workflows of files, so that what nobody serves does not start by itself."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table in which servers and workers say it."""
    op.create_table(
        "serving",
        Column("name", Text, primary_key=True),
        Column("workflows", Text, nullable=False, server_default=""),
        Column("seen_at", Float, nullable=False),
    )
