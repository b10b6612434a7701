"""Executions that were asked for: all SQL about them. They wait here until somebody claims them.

A claim and every change of state is one guarded statement, so that two servers never run the same execution and a late
answer never undoes a newer one.

Why no queue library, such as procrastinate, carries this on PostgreSQL: an execution would be a row here and a job in
the library's own tables, written through its own connector, which does not share our transaction. Between the two
commits a crash would leave one without the other, and what was acknowledged could get lost. Its workers run tasks in
their own threads or event loop, where ours fork a process that can be stopped. It would bring migrations of its own,
and SQLite, the default, would need this table all the same. What is left to gain is `FOR UPDATE SKIP LOCKED`, one
statement in `claim`, and LISTEN and NOTIFY, which events of executions need in any case (`twingraph.server.exchange`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Float, bindparam, delete, desc, func, insert, literal, select, update

from twingraph.executions import schema
from twingraph.executions.records import OVER, WAITING, Execution
from twingraph.executions.repository import Repository
from twingraph.executions.snapshot import snapshot

_BOTH = schema.executions.outerjoin(schema.requests, schema.requests.c.execution_id == schema.executions.c.id)
_WITH_ID = (
    select(schema.executions, schema.requests)
    .select_from(_BOTH)
    .where(schema.executions.c.id == bindparam("execution"))
)
_NEWEST = 5_000
_NEW_REQUEST, _NEW_EXECUTION = insert(schema.requests), insert(schema.executions)


class Request(NamedTuple):
    """An execution that was asked for; `inputs` and `config` are JSON."""

    execution_id: str
    workflow_id: str
    inputs: str
    config: str
    rerun_of: str
    rerun_from: str
    client: str
    idempotency_key: str
    idempotency_body: str
    claimed_by: str
    claimed_at: float | None
    seen_at: float | None
    stop: bool
    created_at: float


class Asked(NamedTuple):
    """What somebody asks for, before it has a row."""

    execution_id: str
    workflow_id: str
    name: str
    inputs: Mapping[str, Any]
    config: Mapping[str, Any]
    client: str = ""
    idempotency_key: str = ""
    idempotency_body: str = ""
    rerun_of: str = ""
    rerun_from: Sequence[str] = ()


def ask_once(graph: Repository, asked: Asked) -> Request | None:
    """Keep an execution that is asked for under a key, unless something was already: then that is returned.

    Of several that come at the same time, with the same key from the same client, one is kept.
    """
    column = schema.requests.c
    same = (column.client == asked.client, column.idempotency_key == asked.idempotency_key)
    with graph.engine.begin() as connection:  # in SQLite one at a time
        if graph.engine.dialect.name == "postgresql":
            key = func.hashtextextended(f"{asked.client} {asked.idempotency_key}", 0)
            connection.execute(select(func.pg_advisory_xact_lock(key)))
        found = connection.execute(select(schema.requests).where(*same).limit(1)).first()
        if found is None:
            _keep(connection, [asked])
    return None if found is None else Request(*found)


def ask(graph: Repository, asked: Sequence[Asked]) -> None:
    """Keep executions that are asked for; they are pending from now on, all of them or none."""
    with graph.engine.begin() as connection:
        _keep(connection, asked)


def rows(asked: Sequence[Asked]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of what is asked for: in `requests`, and in `executions`."""
    now = time.time()
    made, executions = [], []
    for each in asked:
        made.append(
            {
                "execution_id": each.execution_id,
                "workflow_id": each.workflow_id,
                "inputs": json.dumps(each.inputs),
                "config": json.dumps(each.config),
                "rerun_of": each.rerun_of,
                "rerun_from": json.dumps(list(each.rerun_from)) if each.rerun_from else "",
                "client": each.client,
                "idempotency_key": each.idempotency_key,
                "idempotency_body": each.idempotency_body,
                "created_at": now,
            }
        )
        executions.append(
            {
                "id": each.execution_id,
                "kind": "workflow",
                "name": each.name,
                "status": "pending",
                "started_at": now,
                "config": json.dumps(each.config),
                "inputs": snapshot(each.inputs).text,
            }
        )
    return made, executions


def _keep(connection: Connection, asked: Sequence[Asked]) -> None:
    made, executions = rows(asked)
    connection.execute(_NEW_REQUEST, made)
    connection.execute(_NEW_EXECUTION, executions)


def found(graph: Repository, execution: str) -> Request | None:
    """What was asked for under this id."""
    rows = graph.read(select(schema.requests).where(schema.requests.c.execution_id == execution))
    return Request(*rows[0]) if rows else None


def with_id(graph: Repository, execution: str) -> tuple[Execution | None, Request | None]:
    """The execution with this id, and what was asked for under it; an execution may also come from elsewhere."""
    rows = graph.read(_WITH_ID, {"execution": execution})
    return _pair(rows[0]) if rows else (None, None)


def status(graph: Repository, execution: str) -> str:
    """How an execution is."""
    rows = graph.read(select(schema.executions.c.status).where(schema.executions.c.id == execution))
    return str(rows[0][0]) if rows else ""


def is_over(graph: Repository, execution: str) -> bool:
    """Whether an execution is over."""
    return status(graph, execution) in OVER


def is_to_stop(graph: Repository, execution: str) -> bool:
    """Whether somebody asked for the end of an execution."""
    request = found(graph, execution)
    return request is not None and request.stop


def with_key(graph: Repository, client: str, key: str) -> Request | None:
    """What a client asked for under an idempotency key."""
    column = schema.requests.c
    newest = select(schema.requests).where(column.client == client, column.idempotency_key == key)
    rows = graph.read(newest.order_by(desc(column.created_at)).limit(1))
    return Request(*rows[0]) if rows else None


def claim(graph: Repository, by: str, execution: str = "", served: Sequence[str] | None = None) -> str | None:
    """Take the oldest execution that nobody has, or this one; returns its id. Others skip what is being taken.

    With `served`, of workflows that files define only these.
    """
    request, row, workflow = schema.requests.c, schema.executions.c, schema.workflows.c
    free = (
        select(request.execution_id)
        .join(schema.executions, row.id == request.execution_id)
        .where(request.claimed_by == "", row.status == "pending", request.stop.is_(False))
        .order_by(request.created_at)
        .limit(1)
    )
    if execution:
        free = free.where(request.execution_id == execution)
    if served is not None:
        elsewhere = select(workflow.id).where(workflow.origin != "", workflow.id.not_in(served))
        free = free.where(request.workflow_id.not_in(elsewhere))
    with graph.engine.begin() as connection:
        now = database_time(graph)
        taken = connection.execute(free.with_for_update(skip_locked=True, of=schema.requests)).scalar()
        if taken is None:
            return None
        mine = update(schema.requests).where(request.execution_id == taken, request.claimed_by == "")
        if not connection.execute(mine.values(claimed_by=by, claimed_at=now, seen_at=now)).rowcount:
            return None
    return str(taken)


def hand_over(graph: Repository, execution: str, ticket: str, by: str) -> bool:
    """Let the job that an execution was launched as have its claim; False when it is not to run, or not there any more.

    Who launches claims with a ticket at the end of the name, and so does the job: of several jobs only that one whose
    ticket is the claim's may run the execution.
    """
    request, row = schema.requests.c, schema.executions.c
    waiting = select(row.id).where(row.id == execution, row.status == "pending")
    theirs = (request.execution_id.in_(waiting), request.claimed_by.endswith(f" {ticket}", autoescape=True))
    with graph.engine.begin() as connection:
        mine = update(schema.requests).where(*theirs, request.stop.is_(False))
        return connection.execute(mine.values(claimed_by=by, seen_at=database_time(graph))).rowcount > 0


def seen(graph: Repository, by: Collection[str], executions: Sequence[str]) -> set[str]:
    """Say that whoever claimed these, by these names, is there; returns those of them that are to be stopped."""
    if not executions:
        return set()
    column = schema.requests.c
    with graph.engine.begin() as connection:
        mine = (column.claimed_by.in_(by), column.execution_id.in_(executions))
        connection.execute(update(schema.requests).where(*mine).values(seen_at=database_time(graph)))
        return set(connection.execute(select(column.execution_id).where(*mine, column.stop)).scalars())


class Held(NamedTuple):
    """An execution that is not over and that somebody has claimed; it was known to be there so many seconds ago."""

    execution_id: str
    claimed_by: str
    unseen: float
    status: str
    pid: int
    process: str
    host: str
    workflow_id: str
    stop: bool


def held(graph: Repository) -> list[Held]:
    """Executions that are not over and that somebody has claimed."""
    request, row = schema.requests.c, schema.executions.c
    query = (
        select(
            request.execution_id, request.claimed_by, database_time(graph) - request.seen_at, row.status, row.pid,
            row.process, row.host, request.workflow_id, request.stop,
        )
        .join(schema.executions, row.id == request.execution_id)
        .where(row.status.in_((*WAITING, "stopping")), request.claimed_by != "")
    )  # fmt: skip
    return [Held(*each) for each in graph.read(query)]


def take_over(graph: Repository, lost: Held, by: str) -> bool:
    """Claim an execution in place of who has it and is gone; False when somebody else was first."""
    column = schema.requests.c
    theirs = (column.execution_id == lost.execution_id, column.claimed_by == lost.claimed_by)
    with graph.engine.begin() as connection:
        mine = (
            update(schema.requests)
            .where(*theirs)
            .values(claimed_by=by, claimed_at=database_time(graph), seen_at=database_time(graph))
        )
        return connection.execute(mine).rowcount > 0


def free(graph: Repository, execution: str, by: str) -> None:
    """Let an execution wait again, to be run by somebody else; of its nodes, those that are done stay."""
    request, row, node = schema.requests.c, schema.executions.c, schema.nodes.c
    with graph.engine.begin() as connection:
        mine = (request.execution_id == execution, request.claimed_by == by)
        waiting = update(schema.requests).where(*mine).values(claimed_by="", claimed_at=None, seen_at=None)
        if not connection.execute(waiting).rowcount:
            return
        connection.execute(update(schema.executions).where(row.id == execution).values(status="pending"))
        undone = (node.execution_id == execution, node.status.not_in(("completed", "cached")))
        connection.execute(delete(schema.nodes).where(*undone))


def database_time(graph: Repository) -> Any:
    """The time, of the database's clock where several machines use it."""
    if graph.engine.dialect.name == "sqlite":
        return literal(time.time(), Float)
    return func.extract("epoch", func.clock_timestamp()).cast(Float)


def ask_to_stop(graph: Repository, execution: str) -> str:
    """Ask for the end of an execution; returns what it is from now on: "stopping", "stopped", or what it was already.

    One that nobody has begun is stopped at once.
    """
    request, row = schema.requests.c, schema.executions.c
    now = time.time()
    with graph.engine.begin() as connection:
        connection.execute(update(schema.requests).where(request.execution_id == execution).values(stop=True))
        idle = select(request.execution_id).where(request.execution_id == execution, request.claimed_by == "")
        stopped = update(schema.executions).where(row.id == execution, row.status == "pending", row.id.in_(idle))
        if connection.execute(stopped.values(status="stopped", finished_at=now)).rowcount:
            return "stopped"
        stopping = update(schema.executions).where(row.id == execution, row.status.in_(WAITING))
        connection.execute(stopping.values(status="stopping"))
        status = connection.execute(select(row.status).where(row.id == execution)).scalar()
    return str(status or "")


def end(graph: Repository, execution: str, status: str, error: str = "", kind: str = "", ticket: str = "") -> bool:
    """Mark an execution whose process cannot do so any more; whether it was not over yet. Its nodes end with it.

    With a ticket only if it is claimed by the job with this one, or by who launched that.
    """
    row, node, request = schema.executions.c, schema.nodes.c, schema.requests.c
    claimed = select(request.execution_id).where(request.claimed_by.endswith(f" {ticket}", autoescape=True))
    now = time.time()
    told = {"status": status, "finished_at": now, "error": error, "error_type": kind}
    with graph.engine.begin() as connection:
        mine = update(schema.executions).where(row.id == execution, row.status.in_((*WAITING, "stopping")))
        if ticket:
            mine = mine.where(row.id.in_(claimed))
        if not connection.execute(mine.values(**told, duration=now - row.started_at)).rowcount:
            return False
        theirs = update(schema.nodes).where(node.execution_id == execution, node.status.in_(WAITING))
        connection.execute(theirs.values(**told))
    return True


def platforms(graph: Repository) -> list[str]:
    """The platforms that the newest nodes ran on."""
    node = schema.nodes.c
    newest = select(node.platform).order_by(desc(node.key)).limit(_NEWEST).subquery()
    return sorted(name for (name,) in graph.read(select(newest.c.platform).distinct()) if name)


def counted(graph: Repository) -> dict[str, int]:
    """How many executions there are of each state that is not over."""
    row = schema.executions.c
    query = select(row.status, func.count()).where(row.status.in_((*WAITING, "stopping"))).group_by(row.status)
    return {status: int(count) for status, count in graph.read(query)}


def of_workflow(
    graph: Repository, *, workflow: str = "", status: str = "", limit: int = 20, offset: int = 0
) -> tuple[list[tuple[Execution, Request | None]], int]:
    """Executions, newest first, those of one workflow or all, and how many there are."""
    request, row = schema.requests.c, schema.executions.c
    joined = schema.executions.outerjoin(schema.requests, request.execution_id == row.id)
    conditions = [*([request.workflow_id == workflow] if workflow else []), *([row.status == status] if status else [])]
    newest = select(schema.executions, schema.requests).select_from(joined).where(*conditions)
    rows = graph.read(newest.order_by(desc(row.started_at), desc(row.id)).limit(limit).offset(offset))
    counting = joined if workflow else schema.executions
    total = graph.read(select(func.count()).select_from(counting).where(*conditions))[0][0]
    return [_pair(row) for row in rows], int(total)


def _pair(row: Any) -> tuple[Execution, Request | None]:
    width = len(schema.executions.c)
    return Execution(*row[:width]), Request(*row[width:]) if row[width] else None
