"""When schedules fired: all SQL about it. A time is claimed by a row, so that of several servers one fires it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import desc, select, update

from twingraph.executions import schema
from twingraph.executions.definitions import Stored
from twingraph.executions.records import WAITING
from twingraph.executions.repository import Repository, insert_new

CLIENT = "schedule"
"""Who asked for an execution that a schedule started."""


class Fire(NamedTuple):
    """A time at which a schedule was due, and what came of it: "started", "overlap" or "missed"."""

    workflow_id: str
    due_at: float
    execution_id: str
    outcome: str


def scheduled(graph: Repository) -> list[Stored]:
    """The workflows that may have a schedule, archived ones and drafts aside."""
    column = schema.workflows.c
    query = select(schema.workflows).where(column.metadata.contains('"schedule"'), column.status == "active")
    return [Stored(*row) for row in graph.read(query)]


def last(graph: Repository, workflow: str) -> Fire | None:
    """The last time at which a workflow was due."""
    column = schema.fires.c
    newest = select(schema.fires).where(column.workflow_id == workflow).order_by(desc(column.due_at)).limit(1)
    rows = graph.read(newest)
    return Fire(*rows[0]) if rows else None


def claim(graph: Repository, workflow: str, due_at: float, outcome: str) -> bool:
    """Take a time; false when somebody has it already."""
    row = {"workflow_id": workflow, "due_at": due_at, "execution_id": "", "outcome": outcome}
    with graph.engine.begin() as connection:
        return bool(connection.execute(insert_new(graph.engine.dialect.name, schema.fires), row).rowcount)


def started(graph: Repository, workflow: str, due_at: float, execution: str) -> None:
    """Keep which execution a time started."""
    column = schema.fires.c
    mine = update(schema.fires).where(column.workflow_id == workflow, column.due_at == due_at)
    with graph.engine.begin() as connection:
        connection.execute(mine.values(execution_id=execution))


def is_running(graph: Repository, workflow: str) -> bool:
    """Whether an execution that the schedule of a workflow started is not over."""
    request, row = schema.requests.c, schema.executions.c
    query = (
        select(request.execution_id)
        .join(schema.executions, row.id == request.execution_id)
        .where(request.workflow_id == workflow, request.client == CLIENT, row.status.in_((*WAITING, "stopping")))
    )
    return bool(graph.read(query.limit(1)))
