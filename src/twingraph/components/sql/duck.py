"""DuckDB, through its own library.

Read-only is held three times: the file is opened so, the transaction is begun so, and only statements that read are
let through, because DuckDB itself lets a reader write other files. A timeout interrupts the connection.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twingraph.components.built_in import needed
from twingraph.components.sql.asking import Answer, Ask
from twingraph.components.sql.binding import Manner
from twingraph.components.sql.pools import pools
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target

_SHARED = ":memory:twingraph"
_OTHER_WAY = "different configuration"
_READING = frozenset({"SELECT", "WITH", "VALUES", "FROM", "PIVOT", "UNPIVOT"})
_GIVING = frozenset({"SELECT", "EXPLAIN", "PRAGMA", "CALL", "EXECUTE", "SHOW", "LOGICAL_PLAN", "RELATION"})
_MISSING = re.compile(r"with name (\S+) does not exist")
_WRITES = "with read_only=True a statement may only read"


class Duck:
    """DuckDB files, and the database in memory that a process has."""

    def manner(self, target: Target) -> Manner:
        """How it is told of values."""
        return Manner("dollar")

    def opened(self, target: Target) -> Any:
        """A new connection."""
        with needed("duckdb", "DatabaseQuery"):
            import duckdb
        try:
            connection = _opened(target)
        except duckdb.Error as error:
            if _OTHER_WAY not in str(error):
                raise
            pools.dispose(target)  # a file is open in one way at a time in a process
            connection = _opened(target, last=True)
        connection.execute("SET errors_as_json = true")
        return connection

    def alive(self, connection: Any, long_idle: bool) -> bool:
        """Always: nothing is between us and the file."""
        return True

    @contextmanager
    def asked(self, connection: Any, ask: Ask, target: Target) -> Iterator[Answer]:
        """The answer, as long as the block lasts."""
        import duckdb

        statement = connection.extract_statements(ask.bound.text)[0]
        if ask.read_only:
            _check(str(statement.type).rpartition(".")[2], ask)
        within = ask.read_only or ask.bound.many
        if within:
            connection.execute("BEGIN TRANSACTION READ ONLY" if ask.read_only else "BEGIN TRANSACTION")
        try:
            with _interrupting(connection, ask.timeout) as limit:
                yield _answer(connection, statement, ask, limit)
            _finish(connection, ask.bound.statement.reads)
        except BaseException:
            with suppress(duckdb.Error):  # the first error is the one that tells
                _finish(connection, abandoned=True)
                if within:
                    connection.execute("ROLLBACK")
            raise
        if within:
            connection.execute("COMMIT")

    def failure(self, error: BaseException, ask: Ask | None) -> Failure | None:
        """What an error of the driver says."""
        import duckdb

        if not isinstance(error, duckdb.Error):
            return None
        said, offset = _told(str(error), ask)
        if ask is None:
            return Failure(said, unreached=True)
        stopped = isinstance(error, duckdb.InterruptException) and ask.timeout is not None
        busy = isinstance(error, duckdb.TransactionException) and "conflict" in said.lower()
        if "read-only" in said:
            said = f"{said}: {_WRITES}"
        missing = _MISSING.search(said)
        return Failure(said, offset=offset, near=missing[1] if missing else "", timeout=stopped, transient=busy)


def _opened(target: Target, last: bool = False) -> Any:
    import duckdb

    url = target.parsed
    name = _SHARED if target.in_memory else url.database
    config = {key: value for key, value in url.query.items() if isinstance(value, str)}
    try:
        return duckdb.connect(name, read_only=target.read_only and not target.in_memory, config=config)
    except duckdb.Error as error:
        if not (last and target.read_only and _OTHER_WAY in str(error)):
            raise
    return duckdb.connect(
        name, config=config
    )  # it is being written to here; the transactions are read-only all the same


def _check(kind: str, ask: Ask) -> None:
    """Let through what reads."""
    statement = ask.bound.statement
    explains = kind == "EXPLAIN" and "ANALYZE" not in statement.words
    if kind != "SELECT" and not explains and not (kind == "MULTI" and statement.first in _READING):
        raise Failure(f"it is {statement.first}, and {_WRITES}")


def _answer(connection: Any, statement: Any, ask: Ask, limit: _Limit) -> Answer:
    bound = ask.bound
    if ask.framed and bound.statement.reads:
        made = connection.sql(bound.text, params=bound.values or None)
        return Answer(tuple(made.columns), batches=lambda count: _batches(made, count, limit, ask))
    if bound.many:
        changed = 0
        for values in bound.values:
            connection.execute(statement, values)
            changed += _changed(connection)
        return Answer(affected=changed)
    connection.execute(statement, bound.values)
    if not _gives_rows(statement, ask):
        return Answer(affected=_changed(connection))

    def fetch(count: int) -> list[tuple[Any, ...]]:
        if ask.stepwise:
            limit.begin()
        rows: list[tuple[Any, ...]] = connection.fetchmany(count)
        return rows

    described = connection.description
    loads = {number: _loaded for number, each in enumerate(described) if str(each[1]) == "JSON"}
    return Answer(tuple(each[0] for each in described), fetch=fetch, loads=loads)


def _finish(connection: Any, abandoned: bool) -> None:
    """Be done with a result of which rows may be left; DuckDB before 2 forgets it by itself."""
    if hasattr(connection, "abort"):
        (connection.abort if abandoned else connection.complete)()


def _batches(made: Any, count: int, limit: _Limit, ask: Ask) -> Iterator[Any]:
    import pyarrow as pa

    reader = made.to_arrow_reader(count) if hasattr(made, "to_arrow_reader") else made.fetch_arrow_reader(count)
    with reader:
        while True:
            if ask.stepwise:
                limit.begin()
            try:
                yield reader.read_next_batch()
            except StopIteration:
                break
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)  # tells the types where there are no rows


def _gives_rows(statement: Any, ask: Ask) -> bool:
    kind, bound = str(statement.type).rpartition(".")[2], ask.bound
    if kind in _GIVING or (kind == "MULTI" and bound.statement.first in _READING):
        return True
    return "RETURNING" in bound.statement.words


def _changed(connection: Any) -> int:
    """The number that a statement without rows gives."""
    described = connection.description
    if not described or described[0][0] != "Count":
        return 0
    return sum(int(row[0]) for row in connection.fetchall())


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _told(message: str, ask: Ask | None) -> tuple[str, int | None]:
    """The message of an error and where it is, which DuckDB gives as JSON where it can."""
    kind, _, rest = message.partition(": ")
    try:
        told = json.loads(rest)
        said = str(told["exception_message"])
    except (ValueError, TypeError, KeyError):
        return message.partition("\n\nLINE ")[0], None
    at = str(told.get("position", ""))
    text = ask.bound.text if ask else ""
    return f"{kind}: {said}", len(text.encode()[: int(at)].decode(errors="ignore")) if at.isdigit() else None


class _Limit:
    """The time that a statement has; a thread interrupts the connection when it is over."""

    def __init__(self, connection: Any, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """All the time is there again."""
        if self._seconds is None:
            return
        self.end()
        timer = threading.Timer(self._seconds, lambda: self._interrupt(timer))
        timer.daemon = True
        self._timer = timer
        timer.start()

    def end(self) -> None:
        """The statement is done: what comes next is not interrupted."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _interrupt(self, timer: threading.Timer) -> None:
        with self._lock:
            if self._timer is timer:
                self._connection.interrupt()


@contextmanager
def _interrupting(connection: Any, seconds: float | None) -> Iterator[_Limit]:
    limit = _Limit(connection, seconds)
    limit.begin()
    try:
        yield limit
    finally:
        limit.end()
