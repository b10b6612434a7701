"""What a server keeps: workflows, executions that were asked for, keys, and when schedules fired."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables, and keep what resources a call asked for."""
    op.add_column("nodes", _text("resources"))
    _workflows()
    _requests()
    _keys_and_fires()


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _primary(name: str, kind: Any = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.Text(), primary_key=True)


def _when(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _workflows() -> None:
    op.create_table(
        "workflows",
        _primary("id"),
        *map(_text, ("name", "definition", "metadata", "tags", "status", "code", "origin")),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        *map(_when, ("created_at", "updated_at")),
    )
    op.create_index("workflows_by_time", "workflows", ["created_at", "id"])
    op.create_table("workflow_tags", _primary("tag"), _primary("workflow_id"), sqlite_with_rowid=False)
    op.create_index("tags_by_workflow", "workflow_tags", ["workflow_id"])


def _requests() -> None:
    texts = (
        "workflow_id",
        "inputs",
        "config",
        "rerun_of",
        "rerun_from",
        "client",
        "idempotency_key",
        "idempotency_body",
    )
    op.create_table(
        "requests",
        _primary("execution_id"),
        *map(_text, (*texts, "claimed_by")),
        *(_when(name, nullable=True) for name in ("claimed_at", "seen_at")),
        sa.Column("stop", sa.Boolean(), server_default=sa.false(), nullable=False),
        _when("created_at"),
    )
    op.create_index("requests_by_workflow", "requests", ["workflow_id", "created_at"])
    op.create_index("requests_by_key", "requests", ["client", "idempotency_key"])
    op.create_index("requests_by_claim", "requests", ["claimed_by", "created_at"])


def _keys_and_fires() -> None:
    op.create_table(
        "keys",
        _primary("id"),
        *map(_text, ("name", "scope", "digest")),
        _when("created_at"),
        *(_when(name, nullable=True) for name in ("expires_at", "revoked_at")),
    )
    op.create_index("keys_by_digest", "keys", ["digest"], unique=True)
    op.create_table(
        "fires",
        _primary("workflow_id"),
        _primary("due_at", sa.Float()),
        *map(_text, ("execution_id", "outcome")),
        sqlite_with_rowid=False,
    )
