"""The tables of the execution graph, the same in SQLite and in PostgreSQL.

Times are seconds since 1970. Columns with values in them hold JSON as `snapshot` writes it. A node has two hashes:
`hash` is its own, `content_hash` that of its code, inputs and parents' content, which other runs may share. Edges lead
from hash to hash, so that they can cross executions and may point at what was never recorded.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Float, Index, Integer, MetaData, String, Table, false
from sqlalchemy import Text as AnyText
from sqlalchemy.types import TypeDecorator

VERSION = "0005"
"""The revision in `migrations` that the tables here are the result of."""


class Text(TypeDecorator[str]):
    """Text as databases take it: what is no character (NUL for PostgreSQL, half of a pair for all) is written out."""

    impl = AnyText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it is stored, and looked for."""
        return None if value is None else writable(value)


def writable(value: str) -> str:
    """A text as databases take it."""
    if value.isprintable() and value.isascii():
        return value
    told = value.replace("\x00", "\\x00")
    return told if told.isascii() else told.encode("utf-8", "backslashreplace").decode()


metadata = MetaData()
_Key = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str, **more: Any) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="", **more)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


def _float(name: str) -> Column[float | None]:
    return Column(name, Float)


executions = Table(
    "executions",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _text("name"),
    _text("status"),
    _float("started_at"),
    _float("finished_at"),
    _float("duration"),
    _number("failed_nodes"),
    _text("config"),
    _text("inputs"),
    _text("outputs"),
    _text("error"),
    _text("error_type"),
    _text("trace"),
    _text("host"),
    _number("pid"),
    _text("process"),  # what tells the process from a later one with the same number
    _text("user"),
    _text("python"),
    _text("git_commit"),
    _text("git_branch"),
    _flag("git_dirty"),
    Index("executions_by_time", "started_at"),
    Index("executions_by_name", "name", "started_at"),
    Index("executions_by_status", "status", "started_at"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("key", _Key, primary_key=True, autoincrement=True),
    Column("execution_id", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    _text("hash"),
    _text("content_hash"),
    _text("code_hash"),
    _text("kind"),
    _text("component"),
    _text("platform"),
    _text("status"),
    _text("within"),
    _float("submitted_at"),
    _float("started_at"),
    _float("finished_at"),
    _float("duration"),
    _number("attempts"),
    _text("labels"),
    _text("inputs"),
    _text("outputs"),
    _flag("reusable"),
    _text("error"),
    _text("error_type"),
    _text("trace"),
    _float("cpu_seconds"),
    _float("peak_memory_bytes"),
    _text("usage"),
    _text("resources"),  # what was asked for
    _text("form"),  # of what the call returned
    Index("nodes_by_id", "execution_id", "node_id", unique=True),
    Index("nodes_by_hash", "hash"),
    Index("nodes_by_content", "content_hash"),
    Index(
        "nodes_by_component",
        "component",
        "status",
        "duration",
        "started_at",
        "cpu_seconds",
        "peak_memory_bytes",
        "node_id",
        "kind",
    ),
)

edges = Table(
    "edges",
    metadata,
    Column("child", Text, primary_key=True),
    Column("parent", Text, primary_key=True),
    Index("edges_by_parent", "parent", "child"),
    sqlite_with_rowid=False,
)

logs = Table(
    "logs",
    metadata,
    Column("key", _Key, primary_key=True, autoincrement=True),
    Column("execution_id", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    _number("attempt"),
    _number("severity"),
    Column("at", Float, nullable=False),
    _text("message"),
    Index("logs_by_execution", "execution_id", "key"),
)

# Attempts that failed and were followed by another; a node itself says what came of the last one.
attempts = Table(
    "attempts",
    metadata,
    Column("key", _Key, primary_key=True, autoincrement=True),
    Column("execution_id", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    _number("attempt"),
    _text("error"),
    _float("delay"),
    _float("at"),
    Index("attempts_by_node", "execution_id", "node_id"),
)

sources = Table(
    "sources",
    metadata,
    Column("code_hash", Text, primary_key=True),
    _text("text"),
)

labels = Table(
    "labels",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("execution_id", Text, primary_key=True),
    Index("labels_by_execution", "execution_id"),
    sqlite_with_rowid=False,
)

# Which node made a value: what is too short to tell anything, such as 3 or true, is left out.
values = Table(
    "values_made",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Index("values_by_hash", "hash"),
    sqlite_with_rowid=False,
)

# ---- What a server keeps: workflows, executions that were asked for, keys, and when schedules fired.

workflows = Table(
    "workflows",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("definition"),  # as it was posted: nodes, edges, metadata
    _text("metadata"),
    _text("tags"),  # a JSON list
    _text("status"),
    _text("code"),  # functions that a client shipped with it
    _text("origin"),  # the file that defines it, where it was not posted
    Column("version", Integer, nullable=False, server_default="1"),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("workflows_by_time", "created_at", "id"),
)

workflow_tags = Table(
    "workflow_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("workflow_id", Text, primary_key=True),
    Index("tags_by_workflow", "workflow_id"),
    sqlite_with_rowid=False,
)

# An execution that was asked for: its row in `executions` has the same id.
requests = Table(
    "requests",
    metadata,
    Column("execution_id", Text, primary_key=True),
    _text("workflow_id"),
    _text("inputs"),
    _text("config"),
    _text("rerun_of"),
    _text("rerun_from"),  # nodes from which it is run anew; empty: those that failed
    _text("client"),  # who asked
    _text("idempotency_key"),
    _text("idempotency_body"),
    _text("claimed_by"),
    _float("claimed_at"),
    _float("seen_at"),  # when whoever claimed it was last known to be there
    _flag("stop"),
    Column("created_at", Float, nullable=False),
    Index("requests_by_workflow", "workflow_id", "created_at"),
    Index("requests_by_key", "client", "idempotency_key"),
    Index("requests_by_claim", "claimed_by", "created_at"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("scope"),
    _text("digest"),
    Column("created_at", Float, nullable=False),
    _float("expires_at"),
    _float("revoked_at"),
    Index("keys_by_digest", "digest", unique=True),
)

fires = Table(
    "fires",
    metadata,
    Column("workflow_id", Text, primary_key=True),
    Column("due_at", Float, primary_key=True),
    _text("execution_id"),
    _text("outcome"),  # "started", "overlap" or "missed"
    sqlite_with_rowid=False,
)

# Servers and workers that are there, and the workflows of files that each of them runs.
serving = Table(
    "serving",
    metadata,
    Column("name", Text, primary_key=True),
    _text("workflows"),  # a JSON list of ids
    Column("seen_at", Float, nullable=False),
)

version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))
