"""What is written to the execution graph and read from it: all SQL about single executions and nodes.

Every method is one transaction. Writing is upserting, so that a batch may hold any part of a node's life, whichever
process wrote the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, and_, bindparam, desc, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from lokki.errors import nearest
from twingraph.errors import GraphError
from twingraph.executions import database, schema
from twingraph.executions.changes import Batch, Row
from twingraph.executions.forks import Gate
from twingraph.executions.records import WAITING, Attempt, Edge, Execution, LogLine, Node
from twingraph.executions.telling import named, reason

T = TypeVar("T")

INTERRUPTED = "The process that ran it ended before it did."
_LOOKED_AT = 200  # executions whose ids may have been meant
_AT_ONCE = 5_000  # rows of one statement
_PROGRESS = (
    select(schema.nodes.c.execution_id, schema.nodes.c.status, func.count())
    .where(schema.nodes.c.execution_id.in_(bindparam("executions", expanding=True)))
    .group_by(schema.nodes.c.execution_id, schema.nodes.c.status)
)
_node, _edge = schema.nodes.c, schema.edges.c
_NODES = (
    select(
        _node.node_id, _node.component, _node.status, _node.platform, _node.started_at, _node.finished_at,
        _node.duration, _node.hash, _node.content_hash, _node.kind, _node.within, _node.attempts, _node.labels,
        _node.usage, _node.resources, _node.error, _node.error_type, _node.inputs, _node.outputs,
    )
    .where(_node.execution_id == bindparam("execution"))
    .order_by(_node.key)
)  # fmt: skip
_EDGES = (
    select(_edge.child, _edge.parent)
    .join(schema.nodes, _node.hash == _edge.child)
    .where(_node.execution_id == bindparam("execution"))
    .order_by(_node.key, _edge.parent)
)


class Repository:
    """The execution graph at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None
        self._gate = Gate(self.close)
        with self._gate:
            self._engine = database.opened(url)

    def write(self, batch: Batch) -> None:
        """Write what a batch changes, all of it or nothing."""
        with self._gate, self.engine.begin() as connection:
            self._put(connection, schema.executions, ("id",), batch.executions.values())
            self._put(connection, schema.nodes, ("execution_id", "node_id"), batch.nodes.values())
            self._add(connection, schema.edges, batch.edges)
            self._add(connection, schema.values, batch.values)
            sources = [{"code_hash": key, "text": source} for key, source in batch.sources.items()]
            self._add(connection, schema.sources, sources)
            labels = [dict(zip(("key", "value", "execution_id"), each, strict=True)) for each in batch.labels]
            self._add(connection, schema.labels, labels)
            for rows in _pieces(batch.logs):
                connection.execute(schema.logs.insert(), rows)
            for rows in _pieces(batch.attempts):
                connection.execute(schema.attempts.insert(), rows)

    def unfinished(self, host: str) -> list[Execution]:
        """The executions of a machine that are not over; of those that were asked for, servers know better."""
        found = schema.executions
        asked = select(schema.requests.c.execution_id).where(schema.requests.c.execution_id == found.c.id)
        query = select(found).where(found.c.status.in_(WAITING), found.c.host == host, ~asked.exists())
        return [Execution(*row) for row in self.read(query)]

    def interrupt(self, executions: Sequence[str], at: float) -> None:
        """Mark executions whose process is gone, and those of their nodes that were not over."""
        if not executions:
            return
        told = {"finished_at": at, "error": INTERRUPTED, "error_type": "interrupted"}
        with self._gate, self.engine.begin() as connection:
            for piece in _pieces(list(executions), 500):
                for table, key in ((schema.executions, "id"), (schema.nodes, "execution_id")):
                    theirs = table.c[key].in_(piece), table.c.status.in_(WAITING)
                    connection.execute(update(table).where(*theirs).values(status="failed", **told))

    def find(self, named: str) -> Execution:
        """The execution with this id or with the only id that begins so, or the `latest`."""
        found = schema.executions
        query = select(found).order_by(desc(found.c.started_at), desc(found.c.id)).limit(2)
        if named == "latest":
            rows = self.read(query.limit(1))
        else:
            rows = self.read(select(found).where(found.c.id == named))
            rows = rows or (self.read(query.where(found.c.id.startswith(named, autoescape=True))) if named else [])
        if not rows and named == "latest":
            raise GraphError("No execution is recorded yet.")
        if not rows:
            newest = [row[0] for row in self.read(query.with_only_columns(found.c.id).limit(_LOOKED_AT))]
            raise GraphError(f"No execution {named!r} is recorded here{nearest(named, ['latest', *newest]) or '.'}")
        if len(rows) > 1:
            raise GraphError(f"Several executions begin with {named!r}: write more of the id.")
        return Execution(*rows[0])

    def nodes(self, execution: str) -> list[Node]:
        """The nodes of an execution, in the order in which they came to be."""
        found = schema.nodes
        return [Node(*row) for row in self.read(select(found).where(found.c.execution_id == execution).order_by("key"))]

    def node(self, execution: str, node: str) -> Node:
        """One node of an execution."""
        found = schema.nodes
        rows = self.read(select(found).where(found.c.execution_id == execution, found.c.node_id == node))
        if not rows:
            known = (each.node_id for each in self.nodes(execution))
            raise GraphError(f"Execution {execution} has no node {node!r}{nearest(node, known) or '.'}")
        return Node(*rows[0])

    def edges(self, execution: str) -> list[Edge]:
        """The edges that lead to the nodes of an execution, wherever they come from."""
        return [Edge(*row) for row in self.read(_EDGES, {"execution": execution})]

    def drawn(self, execution: str) -> tuple[Sequence[Any], Sequence[Any]]:
        """What a picture of an execution needs: of each node the columns of `_NODES`, and the edges; bare rows."""
        told = {"execution": execution}
        return self.read(_NODES, told), self.read(_EDGES, told)

    def contents(self, hashes: Iterable[str]) -> dict[str, str]:
        """The content hashes of nodes by their hashes; those that are not recorded are left out."""
        found = schema.nodes.c
        return self._by(found.hash, found.content_hash, hashes)

    def attempts(self, execution: str, node: str) -> list[Attempt]:
        """The attempts of a node that failed and were followed by another."""
        found = schema.attempts
        query = select(found.c.attempt, found.c.error, found.c.delay, found.c.at).order_by(found.c.key)
        return [
            Attempt(*row) for row in self.read(query.where(found.c.execution_id == execution, found.c.node_id == node))
        ]

    def source(self, code_hash: str) -> str:
        """The text of the code with this hash; empty when it is not known."""
        return self.sources([code_hash]).get(code_hash, "")

    def sources(self, code_hashes: Iterable[str]) -> dict[str, str]:
        """The texts of code by its hash."""
        found = schema.sources.c
        return self._by(found.code_hash, found.text, code_hashes)

    def logs(
        self,
        execution: str,
        *,
        node: str = "",
        component: str = "",
        severity: int = 0,
        since: float | None = None,
        until: float | None = None,
        after: int = 0,
        limit: int = 1_000,
    ) -> list[LogLine]:
        """Lines of the log, oldest first; `after` is the key of the last line that is known already."""
        line, call = schema.logs, schema.nodes
        same = and_(call.c.execution_id == line.c.execution_id, call.c.node_id == line.c.node_id)
        query = select(line, call.c.component).outerjoin(call, same).order_by(line.c.key).limit(limit)
        query = query.where(line.c.execution_id == execution, line.c.key > after, line.c.severity >= severity)
        if node:
            query = query.where(line.c.node_id == node)
        if component:
            query = query.where((call.c.component == component) | (line.c.node_id == component))
        if since is not None:
            query = query.where(line.c.at >= since)
        if until is not None:
            query = query.where(line.c.at <= until)
        return [LogLine._make((*row[:-1], row[-1] or "")) for row in self.read(query)]

    def newest(self, content_hash: str, since: float) -> Node | None:
        """The newest node with this content that is done, whose outputs can be had again."""
        found = schema.nodes
        query = select(found).where(
            found.c.content_hash == content_hash,
            found.c.status == "completed",
            found.c.reusable,
            found.c.finished_at >= since,
        )
        rows = self.read(query.order_by(desc(found.c.finished_at), desc(found.c.key)).limit(1))
        return Node(*rows[0]) if rows else None

    def progress(self, executions: Sequence[str]) -> dict[str, dict[str, int]]:
        """How many nodes of each status each execution has."""
        counts: dict[str, dict[str, int]] = {each: {} for each in executions}
        for execution, status, count in self.read(_PROGRESS, {"executions": list(executions)}):
            counts[execution][status] = count
        return counts

    @property
    def engine(self) -> Engine:
        """The connections; what uses them goes through `read` and `write`."""
        assert self._engine is not None
        return self._engine

    def close(self) -> None:
        """Close the connections; others are opened when they are needed."""
        if self._engine is not None:
            self._engine.dispose()

    def read(self, query: Any, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """The rows that a query finds, with these values for what it leaves open."""
        try:
            with self._gate, self.engine.connect().execution_options(reads=True) as connection:
                return connection.execute(query, parameters).all()
        except SQLAlchemyError as error:
            where = named(self.url)
            raise GraphError(f"The execution graph at {where} cannot be read: {reason(error)}.") from error

    def _by(self, key: Any, value: Any, keys: Iterable[str]) -> dict[str, str]:
        """The values of one column by another that is among some keys."""
        found: dict[str, str] = {}
        for piece in _pieces(sorted(keys), 500):
            found.update((row[0], row[1]) for row in self.read(select(key, value).where(key.in_(piece))))
        return found

    def _put(self, connection: Connection, table: Table, key: tuple[str, ...], rows: Iterable[Row]) -> None:
        """Insert rows or, where one with the key is there, set the columns that are given."""
        shapes: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            shapes.setdefault(tuple(row), []).append(row)
        for shape, alike in shapes.items():
            statement = _upsert(self.engine.dialect.name, table, key, shape)
            for piece in _pieces(alike):
                connection.execute(statement, piece)

    def _add(self, connection: Connection, table: Table, rows: list[Row]) -> None:
        """Insert rows that are not there yet."""
        statement = insert_new(self.engine.dialect.name, table)
        key = [column.name for column in table.primary_key]
        rows = sorted(
            rows, key=lambda row: [row[name] for name in key]
        )  # all in one order, so that none waits for another
        for piece in _pieces(rows):
            connection.execute(statement, piece)


@lru_cache(256)
def _upsert(dialect: str, table: Table, key: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    statement = _insert(dialect, table).values({name: bindparam(name) for name in columns})
    changed = {name: statement.excluded[name] for name in columns if name not in key}
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=key)
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


@lru_cache(16)
def insert_new(dialect: str, table: Table) -> Any:
    """The statement that inserts rows which are not there yet."""
    return _insert(dialect, table).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> Any:
    """An insert that can say what happens when the row is there already."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_there

        return insert_there(table)
    from sqlalchemy.dialects.sqlite import insert as insert_here

    return insert_here(table)


def _pieces(rows: list[T], size: int = _AT_ONCE) -> Iterator[list[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
