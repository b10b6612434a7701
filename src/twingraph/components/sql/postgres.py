"""PostgreSQL, through psycopg 3.

A plain statement is a transaction of its own, in one round trip. With read_only, a timeout or rows of values there is
a transaction around it, begun as read-only and with its own statement_timeout, which no statement in it can take back.
Rows that are wanted part by part come through a cursor of the server.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from twingraph.components.built_in import needed
from twingraph.components.sql.asking import Answer, Ask
from twingraph.components.sql.binding import Manner
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target

if TYPE_CHECKING:
    import psycopg

_CONNECT_SECONDS = 10
_CURSOR = "twingraph_rows"
_TRANSIENT = ("08", "40001", "40P01", "53", "55P03", "57P")
_CANCELED = "57014"


class Postgres:
    """PostgreSQL, and what speaks its protocol."""

    def manner(self, target: Target) -> Manner:
        """How it is told of values."""
        return _MANNER

    def opened(self, target: Target) -> psycopg.Connection[Any]:
        """A new connection."""
        with needed("postgres", "DatabaseQuery"):
            import psycopg
        url = target.parsed.set(drivername="postgresql+psycopg")
        _, options = url.get_dialect()().create_connect_args(url)
        options.setdefault("connect_timeout", _CONNECT_SECONDS)
        connection = psycopg.connect(**options, autocommit=True, cursor_factory=psycopg.RawCursor)
        connection.server_cursor_factory = psycopg.RawServerCursor
        return connection

    def alive(self, connection: psycopg.Connection[Any], long_idle: bool) -> bool:
        """Whether the server is still there: one that went away left a word, or does not answer."""
        if connection.closed or connection.info.transaction_status:
            return False
        if not long_idle:
            socket = select.poll()
            socket.register(connection.fileno(), select.POLLIN)
            if not socket.poll(0):
                return True
        try:
            connection.execute("SELECT 1", prepare=False)
        except connection.Error:
            return False
        return True

    @contextmanager
    def asked(self, connection: psycopg.Connection[Any], ask: Ask, target: Target) -> Iterator[Answer]:
        """The answer, as long as the block lasts."""
        by_server = (ask.stepwise or ask.framed) and ask.bound.statement.reads and not ask.bound.many
        with _transaction(connection, ask, by_server):
            cursor: Any = connection.cursor(_CURSOR) if by_server else connection.cursor()
            with cursor:
                if ask.framed:
                    _json_as_text(cursor)
                if ask.bound.many:
                    cursor.executemany(ask.bound.text, ask.bound.values)
                else:
                    cursor.execute(ask.bound.text, ask.bound.values)
                described = cursor.description or ()
                yield Answer(
                    tuple(each.name for each in described),
                    max(cursor.rowcount, 0),
                    cursor.fetchmany,
                    lambda: _types(described),
                )

    def failure(self, error: BaseException, ask: Ask | None) -> Failure | None:
        """What an error of the driver says."""
        import psycopg

        if not isinstance(error, psycopg.Error):
            return None
        diag, state = error.diag, error.sqlstate or ""
        if ask is None:
            return Failure(str(error), sqlstate=state, unreached=True)
        said = diag.message_primary or str(error)
        more = [each.rstrip(".") for each in (diag.message_detail, diag.message_hint) if each]
        position = diag.statement_position
        return Failure(
            ". ".join([said, *more]),
            sqlstate=state,
            offset=int(position) - 1 if position else None,
            transient=state.startswith(_TRANSIENT) or (not state and isinstance(error, psycopg.OperationalError)),
            timeout=state == _CANCELED and ask.timeout is not None,
        )


@contextmanager
def _transaction(connection: psycopg.Connection[Any], ask: Ask, by_server: bool) -> Iterator[None]:
    """Around a statement whatever it needs around it."""
    alone = ask.bound.statement.marks_session and not ask.read_only  # VACUUM and the like take no transaction
    needs = ask.read_only or ask.timeout is not None or by_server or ask.bound.many
    if alone or not needs:
        if ask.timeout is not None:
            connection.execute(f"SET statement_timeout = {_milliseconds(ask.timeout)}".encode(), prepare=False)
        yield
        return
    begin = beginning(ask)
    if by_server and ask.limit is None:
        begin += "; SET LOCAL cursor_tuple_fraction = 1"  # it is planned for all rows, not for the first
    connection.execute(begin.encode(), prepare=False)
    try:
        yield
    except BaseException:
        with suppress(connection.Error):  # the first error is the one that tells
            connection.rollback()
        raise
    connection.commit()


def beginning(ask: Ask) -> str:
    """What begins a transaction, in one message."""
    begin = "BEGIN READ ONLY" if ask.read_only else "BEGIN"
    return begin if ask.timeout is None else f"{begin}; SET LOCAL statement_timeout = {_milliseconds(ask.timeout)}"


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


def _json_as_text(cursor: Any) -> None:
    from psycopg.types.string import TextLoader

    for name in ("json", "jsonb"):
        cursor.adapters.register_loader(name, TextLoader)


def _types(described: Any) -> dict[int, Any]:
    from twingraph.components.sql.arrow import of_postgres

    found = {number: of_postgres(each.type_code, each.precision, each.scale) for number, each in enumerate(described)}
    return {number: each for number, each in found.items() if each is not None}


def _adapted(value: Any) -> Any:
    """The value as the driver takes it: a dict is JSON, and so is a list with dicts in it."""
    if isinstance(value, dict) or (isinstance(value, list | tuple) and any(isinstance(each, dict) for each in value)):
        from psycopg.types.json import Jsonb

        return Jsonb(value)
    return list(value) if isinstance(value, tuple | set | frozenset) else value


_MANNER = Manner("dollar", arrays=True, adapt=_adapted)
