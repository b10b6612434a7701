"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    _executions()
    _nodes()
    _what_hangs_on_nodes()


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _whole(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _float(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Float())


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)


def _key() -> sa.Column[Any]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("key", kind, primary_key=True, autoincrement=True)


def _needed(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _primary(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _executions() -> None:
    op.create_table(
        "executions",
        _primary("id"),
        *map(_text, ("kind", "name", "status")),
        *map(_float, ("started_at", "finished_at", "duration")),
        _whole("failed_nodes"),
        *map(_text, ("config", "inputs", "outputs", "error", "error_type", "trace", "host")),
        _whole("pid"),
        *map(_text, ("process", "user", "python", "git_commit", "git_branch")),
        _flag("git_dirty"),
    )
    op.create_index("executions_by_time", "executions", ["started_at"])
    op.create_index("executions_by_name", "executions", ["name", "started_at"])
    op.create_index("executions_by_status", "executions", ["status", "started_at"])


def _nodes() -> None:
    op.create_table(
        "nodes",
        _key(),
        *map(_needed, ("execution_id", "node_id")),
        *map(_text, ("hash", "content_hash", "code_hash", "kind", "component", "platform", "status", "within")),
        *map(_float, ("submitted_at", "started_at", "finished_at", "duration")),
        _whole("attempts"),
        *map(_text, ("labels", "inputs", "outputs")),
        _flag("reusable"),
        *map(_text, ("error", "error_type", "trace")),
        *map(_float, ("cpu_seconds", "peak_memory_bytes")),
        _text("usage"),
    )
    op.create_index("nodes_by_id", "nodes", ["execution_id", "node_id"], unique=True)
    op.create_index("nodes_by_hash", "nodes", ["hash"])
    op.create_index("nodes_by_content", "nodes", ["content_hash"])
    op.create_index("nodes_by_component", "nodes", ["component"])


def _what_hangs_on_nodes() -> None:
    op.create_table("edges", _primary("child"), _primary("parent"), sqlite_with_rowid=False)
    op.create_index("edges_by_parent", "edges", ["parent", "child"])
    op.create_table(
        "logs",
        _key(),
        *map(_needed, ("execution_id", "node_id")),
        *map(_whole, ("attempt", "severity")),
        sa.Column("at", sa.Float(), nullable=False),
        _text("message"),
    )
    op.create_index("logs_by_execution", "logs", ["execution_id", "key"])
    op.create_table(
        "attempts",
        _key(),
        *map(_needed, ("execution_id", "node_id")),
        _whole("attempt"),
        _text("error"),
        *map(_float, ("delay", "at")),
    )
    op.create_index("attempts_by_node", "attempts", ["execution_id", "node_id"])
    op.create_table("sources", _primary("code_hash"), _text("text"))
    op.create_table("labels", *map(_primary, ("key", "value", "execution_id")), sqlite_with_rowid=False)
    op.create_index("labels_by_execution", "labels", ["execution_id"])
    op.create_table("values_made", *map(_primary, ("digest", "hash", "name")), sqlite_with_rowid=False)
    op.create_index("values_by_hash", "values_made", ["hash"])
