"""What a server does most often, with an execution graph in a SQLite file: a few statements, prepared once.

They have a connection of their own, and none of what SQLAlchemy does around each statement, so that they take less
time than going to another thread would. For the same reason nothing here waits: while somebody else writes, `ask` says
that it could not, and the usual way is taken.

What was written is moved from the log to the database in a thread, because the file is forced to the disk there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select

from twingraph.errors import GraphError
from twingraph.executions import requests, schema
from twingraph.executions.forks import Gate
from twingraph.executions.repository import Repository
from twingraph.executions.requests import Asked

_OFTEN = 250
"""Executions that are asked for between two times that the log is moved."""
_LONG = 4_000
"""Pages of the log from which on writing waits a moment, so that it can begin anew instead of growing."""

_row, _request, _workflow, _node = schema.executions.c, schema.requests.c, schema.workflows.c, schema.nodes.c
_NAME = select(_workflow.name).where(_workflow.id == bindparam("workflow"))
_GLANCE = (
    select(_row.name, _row.status, _row.started_at, _row.host, _request.workflow_id, _request.rerun_of)
    .select_from(schema.executions.outerjoin(schema.requests, _request.execution_id == _row.id))
    .where(_row.id == bindparam("execution"))
)
_PROGRESS = (
    select(_node.status, func.count()).where(_node.execution_id == bindparam("execution")).group_by(_node.status)
)


class Glance(NamedTuple):
    """The little that there is to say of an execution before it is over."""

    name: str
    status: str
    started_at: float | None
    host: str
    workflow_id: str | None
    rerun_of: str | None


class Near:
    """A SQLite file, as the one thread that answers requests uses it."""

    @classmethod
    def of(cls, graph: Repository) -> Near | None:
        """The same for this graph; None for one that is not in a file."""
        told = graph.engine.url
        plain = graph.engine.dialect.name == "sqlite" and told.database and told.database != ":memory:"
        return cls(str(told.database)) if plain and not told.query else None

    def __init__(self, file: str) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._gate = Gate(self._close)
        self._asked = 0
        self._name, self._glance, self._progress = (self._told(each) for each in (_NAME, _GLANCE, _PROGRESS))
        self._inserts: list[tuple[str, Sequence[str]]] = []

    def name_of(self, workflow: str) -> str | None:
        """The name of the workflow with this id."""
        rows = self._read(self._name, workflow)
        return str(rows[0][0]) if rows else None

    def glance(self, execution: str) -> Glance | None:
        """How an execution is."""
        rows = self._read(self._glance, execution)
        return Glance(*rows[0]) if rows else None

    def progress(self, execution: str) -> dict[str, int]:
        """How many nodes of each status an execution has."""
        return dict(self._read(self._progress, execution))

    def ask(self, asked: Sequence[Asked]) -> bool:
        """Keep executions that are asked for, all of them; False while somebody else writes: then none is kept."""
        told = requests.rows(asked)
        self._inserts = self._inserts or [
            _insert(table, rows[0]) for table, rows in zip((schema.requests, schema.executions), told, strict=True)
        ]
        try:
            with self._gate:
                self._write(told)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise self._broken("written", error) from error
        except sqlite3.Error as error:
            raise self._broken("written", error) from error
        self._asked += len(asked)
        return True

    def due(self) -> bool:
        """Whether `checkpoint` should be called; it says so once."""
        due = self._asked >= _OFTEN
        self._asked = 0 if due else self._asked
        return due

    def checkpoint(self) -> None:
        """Move what was written from the log to the database; in a thread, with a connection of its own."""
        with self._gate, closing(sqlite3.connect(self._file, timeout=1.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONG:
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _write(self, told: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for (statement, names), rows in zip(self._inserts, told, strict=True):
                connection.executemany(statement, [[_held(row[name]) for name in names] for row in rows])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _read(self, statement: str, value: str) -> list[Any]:
        try:
            with self._gate:
                return self._open().execute(statement, (_held(value),)).fetchall()
        except sqlite3.Error as error:
            raise self._broken("read", error) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._file, timeout=0.0, isolation_level=None, check_same_thread=False, cached_statements=16
            )
            for each in ("synchronous = NORMAL", "wal_autocheckpoint = 0"):
                self._connection.execute(f"PRAGMA {each}")
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _broken(self, done: str, error: sqlite3.Error) -> GraphError:
        return GraphError(f"The execution graph at {self._file} cannot be {done}: {error}.")

    def _told(self, statement: Any) -> str:
        return str(statement.compile(dialect=_dialect()))


def _insert(table: Any, row: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """The statement that inserts such rows, and the columns in its order."""
    made = insert(table).compile(dialect=_dialect(), column_keys=list(row))
    return str(made), made.positiontup or ()


def _dialect() -> Any:
    from sqlalchemy.dialects import sqlite

    return sqlite.dialect(paramstyle="qmark")


def _held(value: Any) -> Any:
    return schema.writable(value) if type(value) is str else value
