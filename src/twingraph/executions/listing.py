"""Which executions there are: chosen by name, status, label and time, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import and_, desc, exists, func, select

from lokki.frozen import field, frozen
from twingraph.executions import schema
from twingraph.executions.records import Execution
from twingraph.executions.repository import Repository


@frozen
class Wanted:
    """Which executions are wanted; what is not said does not matter.

    Attributes:
        name: of the pipeline or workflow.
        status: such as "failed".
        kind: "pipeline", "workflow" or "session".
        labels: which the execution, or a node of it, has; an empty value stands for any.
        since: the earliest time at which it began, in seconds since 1970.
        until: the latest.
    """

    name: str = ""
    status: str = ""
    kind: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None


class Page(NamedTuple):
    """Executions, newest first, and how many are wanted in all."""

    executions: list[Execution]
    total: int


def executions(graph: Repository, wanted: Wanted, limit: int = 20, offset: int = 0) -> Page:
    """The executions that are wanted, from the newest or `offset` later on."""
    found = schema.executions
    chosen = and_(True, *_conditions(wanted))
    newest = select(found).where(chosen).order_by(desc(found.c.started_at), desc(found.c.id))
    rows = graph.read(newest.limit(limit).offset(offset))
    total = graph.read(select(func.count()).select_from(found).where(chosen))[0][0]
    return Page([Execution(*row) for row in rows], int(total))


def _conditions(wanted: Wanted) -> list[Any]:
    found, label = schema.executions.c, schema.labels.c
    conditions: list[Any] = [
        column == value
        for column, value in ((found.name, wanted.name), (found.status, wanted.status), (found.kind, wanted.kind))
        if value
    ]
    if wanted.since is not None:
        conditions.append(found.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(found.started_at <= wanted.until)
    for key, value in wanted.labels.items():
        same = [label.execution_id == found.id, label.key == key, *([label.value == value] if value else [])]
        conditions.append(exists().where(*same))
    return conditions
