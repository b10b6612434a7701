"""Durations of each component in their order, so that statistics need not sort."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the index that has all that statistics read."""
    op.drop_index("nodes_by_component", "nodes")
    op.create_index(
        "nodes_by_component",
        "nodes",
        ["component", "status", "duration", "started_at", "cpu_seconds", "peak_memory_bytes", "node_id", "kind"],
    )
