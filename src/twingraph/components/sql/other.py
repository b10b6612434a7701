"""Every other database that SQLAlchemy knows, through its own driver.

Read-only and timeouts are there where the database can be told so in SQL, which is PostgreSQL under any driver;
elsewhere they are refused, because what is not enforced is not promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twingraph.components.sql.asking import Answer, Ask
from twingraph.components.sql.binding import Manner
from twingraph.components.sql.problems import Failure
from twingraph.components.sql.targets import Target
from twingraph.errors import ComponentError, MissingLibraryError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_STYLES = {
    "qmark": "qmark",
    "format": "format",
    "pyformat": "pyformat",
    "named": "named",
    "numeric": "numeric",
    "numeric_dollar": "dollar",
}


class Other:
    """What has no room of its own."""

    def manner(self, target: Target) -> Manner:
        """How it is told of values."""
        dialect = _engine(target).dialect
        return Manner(_STYLES[dialect.paramstyle], arrays=dialect.name == "postgresql")  # type: ignore[arg-type]

    def opened(self, target: Target) -> Connection:
        """A new connection."""
        return _engine(target).connect()

    def alive(self, connection: Connection, long_idle: bool) -> bool:
        """Whether it still works."""
        from sqlalchemy.exc import SQLAlchemyError

        driver: Any = connection.connection.dbapi_connection
        try:
            return not long_idle or connection.dialect.do_ping(driver)
        except (SQLAlchemyError, connection.dialect.loaded_dbapi.Error):
            return False

    @contextmanager
    def asked(self, connection: Connection, ask: Ask, target: Target) -> Iterator[Answer]:
        """The answer, as long as the block lasts."""
        with connection.begin():
            for each in _beginning(connection, ask):
                connection.exec_driver_sql(each)
            options = {"stream_results": ask.stepwise and ask.bound.statement.reads}
            values = ask.bound.values or None
            result = connection.exec_driver_sql(ask.bound.text, values, execution_options=options)
            if not result.returns_rows:
                yield Answer(affected=max(result.rowcount, 0))
                return
            try:
                yield Answer(
                    tuple(result.keys()), fetch=lambda count: [tuple(each) for each in result.fetchmany(count)]
                )
            finally:
                result.close()

    def failure(self, error: BaseException, ask: Ask | None) -> Failure | None:
        """What an error of the driver says."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            return None
        cause: Any = error.orig if isinstance(error, DBAPIError) else error
        told = cause.args[0] if cause is not None and cause.args else str(error)
        fields = told if isinstance(told, dict) else {}  # as pg8000 has it
        state = fields.get("C") or getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        stopped = ask is not None and ask.timeout is not None and state == "57014"
        said = str(fields.get("M") or cause)
        return Failure(said, sqlstate=str(state), transient=lost, timeout=stopped, unreached=ask is None)


def _engine(target: Target) -> Engine:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        return create_engine(target.url, poolclass=NullPool, hide_parameters=True)
    except NoSuchModuleError:
        raise MissingLibraryError(
            f"DatabaseQuery: SQLAlchemy knows no database {target.parsed.drivername!r} here: install what adds it, "
            "or look at how the URL begins."
        ) from None
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"DatabaseQuery: {target.name} needs its driver {error.name}, which is not installed: install it, "
            "or name another one in the URL, as mysql+pymysql:// does."
        ) from None
    except ArgumentError as error:
        raise ComponentError(f"DatabaseQuery: {target.veil(str(error))}") from None


def _beginning(connection: Connection, ask: Ask) -> list[str]:
    """What is said before the statement."""
    if not ask.read_only and ask.timeout is None:
        return []
    if connection.dialect.name != "postgresql":
        what = "read_only" if ask.read_only else "timeout"
        instead = "give a user who may only read" if ask.read_only else "set one in the URL, or in the database"
        raise ComponentError(
            f"DatabaseQuery: {what} cannot be enforced for {connection.dialect.name}: leave it out, and {instead}."
        )
    said = ["SET TRANSACTION READ ONLY"] if ask.read_only else []
    if ask.timeout is not None:
        said.append(f"SET LOCAL statement_timeout = {max(int(ask.timeout * 1000), 1)}")
    return said
