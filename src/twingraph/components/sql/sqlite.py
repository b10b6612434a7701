"""SQLite, through Python's own driver.

Read-only is held three times: the file is opened so, the connection refuses to write, and what a statement may do is
checked as it is compiled. A timeout is looked at while the statement runs, every few thousand of its instructions.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from time import monotonic
from typing import Any
from urllib.parse import quote
from uuid import UUID

from twingraph.components.sql.asking import Answer, Ask
from twingraph.components.sql.binding import Manner
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target

_BUSY = 30.0
_INSTRUCTIONS = 4_000
_NEAR = re.compile(r'near "(.+?)"|no such (?:column|table|function): (\S+)')
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_TELLING = frozenset(
    {
        "application_id", "busy_timeout", "collation_list", "compile_options", "data_version", "database_list",
        "encoding", "foreign_key_check", "foreign_key_list", "freelist_count", "function_list", "index_info",
        "index_list", "index_xinfo", "integrity_check", "module_list", "page_count", "page_size", "pragma_list",
        "quick_check", "schema_version", "table_info", "table_list", "table_xinfo", "user_version",
    }
)  # fmt: skip
_SETTABLE = frozenset({"application_id", "encoding", "page_size", "schema_version", "user_version", "page_count"})


class Sqlite:
    """SQLite files, and databases in memory."""

    def manner(self, target: Target) -> Manner:
        """How it is told of values."""
        return _MANNER

    def opened(self, target: Target) -> sqlite3.Connection:
        """A new connection."""
        url = target.parsed
        (name,), told = url.get_dialect()().create_connect_args(url)
        options: dict[str, Any] = dict(told)
        if target.read_only and not target.in_memory:
            name, options["uri"] = _reading(name, options.get("uri", False)), True
        options |= {"check_same_thread": False, "isolation_level": None, "timeout": _BUSY}
        connection: sqlite3.Connection = sqlite3.connect(name, **options)
        if target.read_only:
            connection.execute("PRAGMA query_only = ON")
            connection.set_authorizer(_authorized)
        return connection

    def alive(self, connection: Any, long_idle: bool) -> bool:
        """Always: nothing is between us and the file."""
        return True

    @contextmanager
    def asked(self, connection: sqlite3.Connection, ask: Ask, target: Target) -> Iterator[Answer]:
        """The answer, as long as the block lasts."""
        cursor = connection.cursor()
        limit = _Limit(connection, ask.timeout)
        try:
            if ask.bound.many:
                cursor.execute("BEGIN IMMEDIATE")
                cursor.executemany(ask.bound.text, ask.bound.values)
            else:
                cursor.execute(ask.bound.text, ask.bound.values)
            names = tuple(each[0] for each in cursor.description or ())

            def fetch(count: int) -> list[tuple[Any, ...]]:
                if ask.stepwise:
                    limit.begin()
                return cursor.fetchmany(count)

            yield Answer(names, max(cursor.rowcount, 0), fetch)
        except BaseException:
            cursor.close()
            limit.end()
            connection.rollback()
            raise
        cursor.close()
        limit.end()
        connection.commit()

    def failure(self, error: BaseException, ask: Ask | None) -> Failure | None:
        """What an error of the driver says."""
        if not isinstance(error, sqlite3.Error | OverflowError):
            return None
        said, name = str(error), getattr(error, "sqlite_errorname", "")
        if ask is None:
            return Failure(said, unreached=True)
        busy = name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        if "authoriz" in said or "prohibited" in said:
            said += ": with read_only=True a statement may only read"
        near = _NEAR.search(said)
        stopped = name == "SQLITE_INTERRUPT" or (busy and ask.timeout is not None and ask.timeout < _BUSY)
        return Failure(said, near=(near[1] or near[2]) if near else "", transient=busy, timeout=stopped)


class _Limit:
    """The time that a statement has; the connection itself sees to it."""

    def __init__(self, connection: sqlite3.Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._end = 0.0
        if seconds is not None:
            self.begin()
            connection.execute(f"PRAGMA busy_timeout = {int(min(seconds, _BUSY) * 1000)}")
            connection.set_progress_handler(lambda: monotonic() > self._end, _INSTRUCTIONS)

    def begin(self) -> None:
        """All the time is there again."""
        if self._seconds is not None:
            self._end = monotonic() + self._seconds

    def end(self) -> None:
        """The statement is done."""
        if self._seconds is not None:
            self._connection.set_progress_handler(None, 0)
            self._connection.execute(f"PRAGMA busy_timeout = {int(_BUSY * 1000)}")


def _reading(name: str, is_uri: bool) -> str:
    """The address of a file that is only read."""
    if not is_uri:
        return f"file:{quote(name)}?mode=ro"
    return re.sub(r"([?&])mode=\w+&?", r"\1", name) + ("&" if "?" in name else "?") + "mode=ro"


def _authorized(action: int, one: str | None, two: str | None, *_: Any) -> int:
    """What a statement may do in a connection that only reads."""
    told = action == sqlite3.SQLITE_PRAGMA and one in _TELLING and (two is None or one not in _SETTABLE)
    return sqlite3.SQLITE_OK if told or action in _READING else sqlite3.SQLITE_DENY


def _adapted(value: Any) -> Any:
    """The value in one of the five types that SQLite has."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case Decimal():
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        case datetime():
            return value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case dict() | list() | tuple():
            return json.dumps(value)
        case _ if type(value).__module__ == "numpy" and hasattr(value, "item"):
            return _adapted(value.item())
        case _:
            return value


_MANNER = Manner("qmark", rows="VALUES ", adapt=_adapted)
