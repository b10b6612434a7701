"""`DatabaseQuery`: a statement for a database, and its rows.

    users = DatabaseQuery(connection="postgresql://reader@db/shop", read_only=True)
    users(sql="SELECT id, name FROM users WHERE active = :active", params={"active": True})["rows"]

What is the same for all databases is here; `twingraph.components.sql` has what differs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Literal, TypeAlias

from twingraph.components.built_in import BuiltIn, needed
from twingraph.components.sql.asking import Answer, Ask, Database
from twingraph.components.sql.binding import Params, bound
from twingraph.components.sql.pools import Lent, pools
from twingraph.components.sql.problems import Failure, QueryError, QueryTimeoutError, QueryTransientError, told
from twingraph.components.sql.targets import NO_URL, Target, target
from twingraph.errors import ComponentError, ComponentTypeError

__all__ = ["DatabaseQuery", "QueryError", "QueryTimeoutError", "QueryTransientError"]

Output: TypeAlias = Literal["records", "frame", "arrow"]

_PART = 10_000


class DatabaseQuery(BuiltIn):
    """Run a statement in a database.

    Values are bound, never written into the statement: `:name` takes one of a dict, `?` the next of a list, and a list
    after `IN` stands for all that is in it. Several rows, as a list of dicts, run the statement for each, all or none.

    A call is a transaction of its own, over a connection that later calls use again.
    """

    extra: ClassVar[str] = "database"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        connection: str,
        output: Output = "records",
        read_only: bool = False,
        timeout: float | None = None,
        statement: str | None = None,
        pool: int = 10,
    ) -> None:
        """Say which database, and how it is used.

        Args:
            connection: the URL of the database: sqlite:///file.db, postgresql://user:password@host/name,
                duckdb:///file.db, or any other that SQLAlchemy has a driver for; secret://NAME hides it.
            output: what the rows are: a list of records, a frame of Polars, or a table of Arrow.
            read_only: refuse whatever would write.
            timeout: seconds after which a statement is stopped.
            statement: the statement that is always run; who runs a workflow then chooses its values only.
            pool: how many connections this process may have to the database at once.
        """
        super().__init__(config)
        if "://" not in connection:
            raise ComponentError(NO_URL)
        if timeout is not None and timeout <= 0:
            raise ComponentError(f"DatabaseQuery: timeout takes seconds, more than 0, not {timeout!r}.")
        if pool < 1:
            raise ComponentError(f"DatabaseQuery: pool takes a number of connections, at least 1, not {pool!r}.")
        self.connection = connection
        self.output = output
        self.read_only = read_only
        self.timeout = timeout
        self.statement = statement
        self.pool = pool

    def execute(
        self, sql: str = "", params: dict[str, Any] | list[Any] | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """Run the statement.

        Args:
            sql: the statement, with :name or ? where values go.
            params: the values: a dict for :name, a list for ?, or a list of dicts to run it for each of them.
            limit: how many rows are wanted at most.

        Returns:
            `rows`, `columns`, and `row_count`: the number of rows, or of those that a statement without rows changed.
        """
        _check_count("limit", limit, 0)
        place, ask = self._ask(sql, params, limit)
        if ask.bound.many and not ask.bound.values:
            return {"rows": [], "columns": [], "row_count": 0}
        if ask.framed and (fast := _fast(place, ask)) is not None:
            return _outputs(*_named_table(fast), self.output)
        with _answered(place, ask) as answer:
            if not answer.names:
                return {"rows": [], "columns": [], "row_count": answer.affected}
            names = unique(answer.names)
            if ask.framed:
                return _outputs(names, _table(answer, names, ask), self.output)
            rows = [each for part in _records(answer, names, ask) for each in part]
        return {"rows": rows, "columns": names, "row_count": len(rows)}

    def batches(
        self,
        sql: str = "",
        params: dict[str, Any] | list[Any] | None = None,
        limit: int | None = None,
        size: int = _PART,
    ) -> Generator[Any, None, None]:
        """The rows part by part, for results that are larger than memory; a connection is in use until the last one.

        Args:
            sql: as in a call.
            params: as in a call.
            limit: as in a call.
            size: how many rows a part has.

        Yields:
            Lists of records, frames or tables, as `output` says.
        """
        _check_count("limit", limit, 0)
        _check_count("size", size, 1)
        place, ask = self._ask(sql, params, limit, size)
        if ask.framed and (fast := _fast_parts(place, ask)) is not None:
            yield from (_formed(_named_table(part)[1], self.output) for part in fast)
            return
        with _answered(place, ask, held=False) as answer:
            names = unique(answer.names)
            if not ask.framed:
                yield from _records(answer, names, ask)
                return
            for part in _tables(answer, names, ask):
                if part.num_rows:
                    yield _formed(part, self.output)

    def _ask(self, sql: str, params: Params, limit: int | None, part: int = 0) -> tuple[Target, Ask]:
        """The database, and what it is asked."""
        if self.statement is not None and sql and sql != self.statement:
            raise ComponentError("DatabaseQuery: its statement is a setting, and cannot be replaced by sql.")
        text = self.statement or sql
        if not text.strip():
            raise ComponentTypeError("DatabaseQuery: input 'sql' is missing: give the statement.")
        framed = self.output != "records"
        with needed(self.extra, "DatabaseQuery"):
            found = target(self.revealed(self.connection), self.read_only, self.pool)
            if framed:
                import_module("polars")  # before the database works for nothing
                import_module("pyarrow")
        manner = _database(found).manner(found)
        try:
            made = bound(text, params, manner)
        except ComponentTypeError as error:
            raise ComponentTypeError(f"DatabaseQuery: {error}") from None
        except ComponentError as error:
            raise type(error)(f"DatabaseQuery: {error}") from None
        return found, Ask(
            made,
            read_only=self.read_only,
            timeout=self.timeout,
            part=part or _PART,
            parted=bool(part),
            limit=limit,
            framed=framed,
        )


def unique(names: Sequence[str]) -> list[str]:
    """The names of columns; one that was there before gets a number."""
    found: dict[str, None] = {}
    for name in names:
        number, each = 2, name
        while each in found or (each != name and each in names):
            number, each = number + 1, f"{name}_{number}"
        found[each] = None
    return list(found)


def _database(place: Target) -> Database:
    """The room that talks to a database."""
    match place.kind:
        case "sqlite":
            from twingraph.components.sql.sqlite import Sqlite

            return Sqlite()
        case "postgres":
            from twingraph.components.sql.postgres import Postgres

            return Postgres()
        case "duckdb":
            from twingraph.components.sql.duck import Duck

            return Duck()
        case "other":
            from twingraph.components.sql.other import Other

            return Other()


@contextmanager
def _answered(place: Target, ask: Ask, held: bool = True) -> Iterator[Answer]:
    """The answer of a database; what goes wrong is told without what nobody may see."""
    database = _database(place)
    with (
        _telling(place, database, None),
        pools.lent(place, "", lambda: database.opened(place), database.alive, held) as lent,
        _telling(place, database, ask),
        _given_back(lent, database, ask),
        database.asked(lent.connection, ask, place) as answer,
    ):
        yield answer


@contextmanager
def _given_back(lent: Lent, database: Database, ask: Ask) -> Iterator[None]:
    """A connection that may not be as it was is not used again."""
    lent.keep = False
    clean = not ask.bound.statement.marks_session
    try:
        yield
    except (Exception, GeneratorExit):
        lent.keep = clean and database.alive(lent.connection, False)
        raise
    lent.keep = clean


@contextmanager
def _telling(place: Target, database: Database, ask: Ask | None) -> Iterator[None]:
    """Errors of the driver as ours."""
    try:
        yield
    except Failure as failure:
        raise _veiled(place, failure, ask) from None
    except (ComponentError, GeneratorExit, KeyboardInterrupt):
        raise
    except Exception as error:
        found = database.failure(error, ask)
        if found is None:
            raise
        raise _veiled(place, found, ask) from None


def _veiled(place: Target, failure: Failure, ask: Ask | None) -> QueryError:
    failure.reason = place.veil(failure.reason)
    return told(failure, f"DatabaseQuery on {place.name}", ask.bound if ask else None, ask.timeout if ask else None)


def _fast_parts(place: Target, ask: Ask) -> Iterator[Any] | None:
    """The tables, likewise."""
    if place.kind != "postgres":
        return None
    from twingraph.components.sql import adbc

    found = adbc.parts(place, ask)
    return None if found is None else _told(place, ask, found)


def _told(place: Target, ask: Ask, parts: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from parts
    except Failure as failure:
        raise _veiled(place, failure, ask) from None


def _fast(place: Target, ask: Ask) -> Any:
    """The table, if it can be had in a faster way than row by row."""
    if place.kind != "postgres":
        return None
    from twingraph.components.sql import adbc

    try:
        return adbc.table(place, ask)
    except Failure as failure:
        raise _veiled(place, failure, ask) from None


def _parts(answer: Answer, ask: Ask) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, as many as are wanted."""
    left = ask.limit
    while left is None or left > 0:
        rows = answer.fetch(ask.part if left is None else min(ask.part, left))
        if not rows:
            return
        yield rows
        left = None if left is None else left - len(rows)


def _records(answer: Answer, names: list[str], ask: Ask) -> Iterator[list[dict[str, Any]]]:
    for rows in _parts(answer, ask):
        records = [dict(zip(names, row, strict=True)) for row in rows]
        for number, load in answer.loads.items():
            name = names[number]
            for each in records:
                each[name] = load(each[name])
        yield records


def _tables(answer: Answer, names: list[str], ask: Ask) -> Iterator[Any]:
    """The rows as tables of Arrow."""
    import pyarrow as pa

    from twingraph.components.sql.arrow import table

    if answer.batches is None:
        for rows in _parts(answer, ask):
            yield table(names, answer.types(), [rows])
        return
    left = ask.limit
    for batch in answer.batches(ask.part):
        if left is not None and left <= 0:
            return
        kept = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - kept.num_rows
        yield pa.Table.from_batches([kept]).rename_columns(names)


def _table(answer: Answer, names: list[str], ask: Ask) -> Any:
    from twingraph.components.sql.arrow import table

    if answer.batches is None:
        return table(names, answer.types(), _parts(answer, ask))
    import pyarrow as pa

    parts = list(_tables(answer, names, ask))
    return pa.concat_tables(parts)


def _named_table(table: Any) -> tuple[list[str], Any]:
    names = unique(table.column_names)
    return names, table.rename_columns(names)


def _outputs(names: list[str], table: Any, output: Output) -> dict[str, Any]:
    return {"rows": _formed(table, output), "columns": names, "row_count": table.num_rows}


def _formed(table: Any, output: Output) -> Any:
    """The table as the caller wants it."""
    if output == "arrow":
        return table
    import polars as pl

    return pl.from_arrow(table)


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ComponentError(f"DatabaseQuery: {name} takes a number of rows, at least {least}, not {value!r}.")
