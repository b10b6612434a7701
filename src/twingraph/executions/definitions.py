"""Workflows that are stored: all SQL about them. A change is one guarded statement."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, desc, func, insert, select, update

from twingraph.executions import schema
from twingraph.executions.repository import Repository

_WITH_ID = select(schema.workflows).where(schema.workflows.c.id == bindparam("workflow"))
_NAME = select(schema.workflows.c.name).where(schema.workflows.c.id == bindparam("workflow"))


class Stored(NamedTuple):
    """A workflow as it is stored; `definition`, `metadata`, `tags` and `code` are JSON."""

    id: str
    name: str
    definition: str
    metadata: str
    tags: str
    status: str
    code: str
    origin: str
    version: int
    created_at: float
    updated_at: float


class Record(NamedTuple):
    """How executions of a workflow went."""

    executions: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def success_rate(self) -> float:
        """The share that completed of those that are over; 0 before any is."""
        over = self.completed + self.failed
        return self.completed / over if over else 0.0


def found(graph: Repository, id: str) -> Stored | None:  # noqa: A002 - it is the workflow's
    """The workflow with this id."""
    rows = graph.read(_WITH_ID, {"workflow": id})
    return Stored(*rows[0]) if rows else None


def name_of(graph: Repository, id: str) -> str | None:  # noqa: A002 - it is the workflow's
    """The name of the workflow with this id."""
    rows = graph.read(_NAME, {"workflow": id})
    return str(rows[0][0]) if rows else None


def listed(
    graph: Repository, *, tag: str = "", status: str = "", limit: int = 20, offset: int = 0
) -> tuple[list[Stored], int]:
    """Workflows, newest first, and how many there are."""
    column = schema.workflows.c
    conditions = [column.status == status] if status else []
    if tag:
        named = select(schema.workflow_tags.c.workflow_id).where(schema.workflow_tags.c.tag == tag)
        conditions.append(column.id.in_(named))
    newest = select(schema.workflows).where(*conditions).order_by(desc(column.created_at), desc(column.id))
    rows = graph.read(newest.limit(limit).offset(offset))
    total = graph.read(select(func.count()).select_from(schema.workflows).where(*conditions))[0][0]
    return [Stored(*row) for row in rows], int(total)


def put(
    graph: Repository,
    id: str,  # noqa: A002 - it is the workflow's
    *,
    name: str,
    definition: Mapping[str, Any],
    metadata: Mapping[str, Any],
    tags: Sequence[str],
    status: str,
    code: str | None = None,
    origin: str = "",
    expected: int | None = None,
) -> tuple[Stored, bool] | None:
    """Store a workflow; returns it and whether it is new, or None where its version is not the `expected` one.

    An expected version of 0 means that there must be none. Without `code`, what was shipped before stays.
    """
    now = time.time()
    told = {
        "name": name,
        "definition": json.dumps(definition),
        "metadata": json.dumps(metadata),
        "tags": json.dumps(list(tags)),
        "status": status,
        "origin": origin,
        "updated_at": now,
    }
    told |= {} if code is None else {"code": code}
    column = schema.workflows.c
    with graph.engine.begin() as connection:
        same = [column.id == id, *([] if expected is None else [column.version == expected])]
        changed = connection.execute(update(schema.workflows).where(*same).values(version=column.version + 1, **told))
        new = changed.rowcount == 0
        if new:
            there = connection.execute(select(column.id).where(column.id == id)).first()
            if there is not None or expected not in (None, 0):
                return None
            connection.execute(insert(schema.workflows).values(id=id, version=1, created_at=now, **told))
        connection.execute(delete(schema.workflow_tags).where(schema.workflow_tags.c.workflow_id == id))
        if tags:
            rows = [{"tag": each, "workflow_id": id} for each in dict.fromkeys(tags)]
            connection.execute(insert(schema.workflow_tags), rows)
        row = connection.execute(select(schema.workflows).where(column.id == id)).one()
    return Stored(*row), new


def removed(graph: Repository, id: str, expected: int | None = None) -> bool:  # noqa: A002 - it is the workflow's
    """Remove a workflow; whether it was there. Its executions stay."""
    column = schema.workflows.c
    same = [column.id == id, *([] if expected is None else [column.version == expected])]
    with graph.engine.begin() as connection:
        gone = connection.execute(delete(schema.workflows).where(*same)).rowcount > 0
        if gone:
            connection.execute(delete(schema.workflow_tags).where(schema.workflow_tags.c.workflow_id == id))
    return gone


def of_files(graph: Repository, files: Sequence[str]) -> list[str]:
    """The ids of the workflows that these files defined."""
    column = schema.workflows.c
    return [str(row[0]) for row in graph.read(select(column.id).where(column.origin.in_(files)))] if files else []


def record(graph: Repository, id: str) -> Record:  # noqa: A002 - it is the workflow's
    """How executions of the workflow went."""
    request, execution = schema.requests.c, schema.executions.c
    query = (
        select(execution.status, func.count())
        .select_from(schema.requests.join(schema.executions, execution.id == request.execution_id))
        .where(request.workflow_id == id)
        .group_by(execution.status)
    )
    counts = {status: int(count) for status, count in graph.read(query)}
    return Record(sum(counts.values()), counts.get("completed", 0), counts.get("failed", 0))
