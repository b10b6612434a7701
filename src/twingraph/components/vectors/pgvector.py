"""An index in a table of a PostgreSQL with pgvector: columns id, embedding and metadata.

A table that others made with these columns is an index too. One that is made here says its metric in its comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lokki.frozen import frozen
from twingraph.components.built_in import needed
from twingraph.components.vectors.index import UnknownIndexError, same_metric
from twingraph.components.vectors.kept import Kept
from twingraph.components.vectors.values import Entries, Hit, Matrix, Metric, directed, hit, sized
from twingraph.components.vectors.where import Compared, Condition, Either, Empty, Every, Not, OneOf
from twingraph.errors import ComponentError, TransientError
from twingraph.executions.secrets import veiled

if TYPE_CHECKING:
    import sqlalchemy

SAYS = "twingraph vectors by "
_COLUMNS = ("id", "embedding", "metadata")
_SCORES: dict[Metric, tuple[str, str, str]] = {  # the operator, the score that it stands for, the class of an index
    "cosine": ("<=>", "1 - ({})", "vector_cosine_ops"),
    "dot": ("<#>", "-({})", "vector_ip_ops"),
    "l2": ("<->", "{}", "vector_l2_ops"),
}
_engines: Kept[sqlalchemy.Engine] = Kept(lambda engine: engine.dispose())
_FOUND = """
select a.attname, a.atttypmod, format_type(a.atttypid, null), obj_description(a.attrelid, 'pg_class')
from pg_attribute a where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""
_TABLES = """
select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_type t on t.oid = a.atttypid
where a.attname = 'embedding' and t.typname = 'vector' and c.relkind in ('r', 'p') and pg_table_is_visible(c.oid)
"""


@frozen
class Table:
    """What is known of a table: how long its vectors are, if that is fixed, and how they are compared."""

    dimension: int | None
    metric: Metric


class PgVector:
    """A table of a PostgreSQL server."""

    def __init__(self, url: str, name: str, metric: Metric | None, approximate: bool | None) -> None:
        self.name = name
        self._url = url
        self._metric: Metric | None = metric
        self._approximate = approximate
        self._table = f'"{name}"'

    def add(self, entries: Entries) -> None:
        """Keep these in one transaction; the first ones make the table."""
        with self._transaction() as connection:
            table = self._found(connection) or self._made(connection, entries.vectors.shape[1])
            sized(entries.vectors, table.dimension or entries.vectors.shape[1], self.name)
            directed(entries.vectors, table.metric)  # refuses what has no direction
            connection.exec_driver_sql(
                "create temp table added (id text, embedding vector, metadata jsonb) on commit drop"
            )
            cursor = connection.connection.cursor()
            with cursor.copy("copy added from stdin (format binary)") as copy:
                for row in _binary(entries):
                    copy.write_row(row)
            connection.exec_driver_sql(
                f"insert into {self._table} (id, embedding, metadata) select * from added order by id "  # noqa: S608
                "on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata"
            )

    def delete(self, ids: tuple[str, ...] | None, where: Condition | None) -> int:
        """Forget those with one of these ids (all, if None) that fit the filter; how many there were."""
        with self._transaction() as connection:
            self._known(connection)
            clause, parameters = _clause(where)
            if ids is not None:
                clause, parameters = f"{clause} and id::text = any(%s)", [*parameters, list(ids)]
            done = connection.exec_driver_sql(f"delete from {self._table} where {clause}", tuple(parameters))  # noqa: S608
            return int(done.rowcount)

    def search(self, vectors: Matrix, top_k: int, where: Condition | None) -> list[list[Hit]]:
        """For each vector the nearest that fit, best first."""
        with self._transaction() as connection:
            table = self._known(connection)
            sized(vectors, table.dimension or vectors.shape[1], self.name)
            directed(vectors, table.metric)
            self._tuned(connection, top_k)
            operator, score, _ = _SCORES[table.metric]
            clause, parameters = _clause(where)
            away = f"t.embedding {operator} q.vector::vector"
            found = connection.exec_driver_sql(
                f"select q.number, r.id::text, {score.format('r.away')}, r.metadata "  # noqa: S608
                "from unnest(%s::text[]) with ordinality as q (vector, number) cross join lateral ("
                f"select id, metadata, {away} as away from {self._table} t where {clause} order by {away} limit %s"
                ") r order by q.number, r.away",
                ([_text(each) for each in vectors], *parameters, top_k),
            )
            hits: list[list[Hit]] = [[] for _ in vectors]
            for number, identity, scored, metadata in found:
                hits[number - 1].append(hit(identity, scored, metadata or {}))
        return hits

    def count(self, where: Condition | None) -> int:
        """How many fit."""
        with self._transaction() as connection:
            self._known(connection)
            clause, parameters = _clause(where)
            statement = f"select count(*) from {self._table} where {clause}"  # noqa: S608
            return int(connection.exec_driver_sql(statement, tuple(parameters)).scalar_one())

    @contextmanager
    def _transaction(self) -> Iterator[sqlalchemy.Connection]:
        """A connection whose work stays if all of it goes well."""
        from sqlalchemy.exc import DBAPIError, OperationalError

        try:
            with _engines.get(self._url, lambda: _engine(self._url)).begin() as connection:
                yield connection
        except OperationalError as problem:
            raise TransientError(f"{self._place()}: {_sentence(problem)}") from problem
        except DBAPIError as problem:
            raise ComponentError(f"{self._place()}: index {self.name!r}: {_sentence(problem)}") from problem

    def _found(self, connection: sqlalchemy.Connection) -> Table | None:
        rows = connection.exec_driver_sql(_FOUND, (self._table,)).all()
        if not rows:
            return None
        columns = {name: (size, kind) for name, size, kind, _ in rows}
        missing = [each for each in _COLUMNS if each not in columns]
        if missing or columns["embedding"][1] != "vector":
            what = f"has no column {missing[0]!r}" if missing else "has a column 'embedding' that holds no vectors"
            raise ComponentError(f"Table {self.name!r} is no index: it {what}.")
        comment = str(rows[0][3] or "")
        kept = comment.removeprefix(SAYS) if comment.startswith(SAYS) else None
        size = columns["embedding"][0]
        for metric in _SCORES:
            if kept == metric:
                return Table(size if size > 0 else None, same_metric(self.name, metric, self._metric))
        return Table(size if size > 0 else None, self._metric or "cosine")

    def _known(self, connection: sqlalchemy.Connection) -> Table:
        found = self._found(connection)
        if found is None:
            names = [name for (name,) in connection.exec_driver_sql(_TABLES)]
            raise UnknownIndexError(self.name, self._place(), names)
        return found

    def _made(self, connection: sqlalchemy.Connection, dimension: int) -> Table:
        """Make the table, unless somebody does at the same moment."""
        connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('twingraph vectors'))")
        found = self._found(connection)
        if found is not None:
            return found
        metric: Metric = self._metric or "cosine"
        self._extension(connection)
        connection.exec_driver_sql(
            f"create table {self._table} "
            f"(id text primary key, embedding vector({dimension}) not null, metadata jsonb not null default '{{}}')"
        )
        connection.exec_driver_sql(f"comment on table {self._table} is '{SAYS}{metric}'")
        connection.exec_driver_sql(f"create index on {self._table} using gin (metadata jsonb_path_ops)")
        if self._approximate:
            connection.exec_driver_sql(f"create index on {self._table} using hnsw (embedding {_SCORES[metric][2]})")
        return Table(dimension, metric)

    def _extension(self, connection: sqlalchemy.Connection) -> None:
        offered = connection.exec_driver_sql(
            "select installed_version from pg_available_extensions where name = 'vector'"
        ).first()
        if offered is None:
            raise ComponentError(f"{self._place()} has no pgvector: install the extension 'vector' on that server.")
        if offered[0] is None:
            connection.exec_driver_sql("create extension if not exists vector")

    def _tuned(self, connection: sqlalchemy.Connection, top_k: int) -> None:
        """Look at every row, or at as many of an approximate index as it takes to find enough that fit."""
        if self._approximate is False:
            connection.exec_driver_sql("set local enable_indexscan = off")
            return
        version = connection.exec_driver_sql("select extversion from pg_extension where extname = 'vector'").scalar()
        known = tuple(int(each) for each in str(version or "0").split(".")[:2])
        if known >= (0, 5):
            connection.exec_driver_sql(f"set local hnsw.ef_search = {min(max(4 * top_k, 100), 1000)}")
        if known >= (0, 8):
            connection.exec_driver_sql("set local hnsw.iterative_scan = strict_order")

    def _place(self) -> str:
        from sqlalchemy import make_url

        url = make_url(self._url)
        return f"PostgreSQL at {url.host or 'this machine'}, database {url.database!r}"


def _engine(url: str) -> sqlalchemy.Engine:
    from sqlalchemy import create_engine

    with needed("postgres", "An index in PostgreSQL"):
        import psycopg  # noqa: F401 - the driver that the engine looks for
    return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=20)


def _clause(where: Condition | None) -> tuple[str, list[Any]]:
    """A filter as SQL, with what stands in it as parameters."""
    if where is None:
        return "true", []
    match where:
        case Every(parts):
            return _joined(" and ", "true", parts)
        case Either(parts):
            return _joined(" or ", "false", parts)
        case Not(part):
            clause, parameters = _clause(part)
            return f"not {clause}", parameters
        case Empty(field):
            value, names = _value(field)
            return f"(coalesce({value}, 'null') in ('null', '[]'))", names
        case OneOf(field, values):
            found = [json.dumps(_nested(field, each)) for value in values for each in (value, [value])]
            clauses = " or ".join(["metadata @> %s::jsonb"] * len(found))
            return f"({clauses or 'false'})", found
        case Compared(field, order, number):
            value, names = _value(field)
            listed = f"case jsonb_typeof({value}) when 'array' then {value} else jsonb_build_array({value}) end"
            numeric = f"case jsonb_typeof(e) when 'number' then e {order} %s::jsonb else false end"
            return f"exists (select from jsonb_array_elements({listed}) e where {numeric})", [
                *names, *names, *names, json.dumps(number),
            ]  # fmt: skip


def _joined(word: str, of_none: str, parts: Sequence[Condition]) -> tuple[str, list[Any]]:
    found = [_clause(each) for each in parts]
    return f"({word.join(clause for clause, _ in found) or of_none})", [each for _, own in found for each in own]


def _value(field: str) -> tuple[str, list[Any]]:
    """The value of a field, of what is nested in an object too."""
    names = field.split(".")
    return f"(metadata{' -> %s::text' * len(names)})", [*names]


def _nested(field: str, value: Any) -> Any:
    for name in reversed(field.split(".")):
        value = {name: value}
    return value


def _binary(entries: Entries) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Rows as PostgreSQL sends them: a vector is its length and big-endian numbers, a jsonb a version and its text."""
    head = entries.vectors.shape[1].to_bytes(2, "big") + b"\0\0"
    numbers = entries.vectors.astype(">f4")
    for identity, row, metadata in zip(entries.ids, numbers, entries.metadata, strict=True):
        yield identity.encode(), head + row.tobytes(), b"\1" + json.dumps(metadata, ensure_ascii=False).encode()


def _text(vector: Any) -> str:
    return json.dumps(vector.tolist(), separators=(",", ":"))


def _sentence(problem: Exception) -> str:
    text = veiled(" ".join(str(getattr(problem, "orig", problem)).split())[:300])
    return text if text.endswith((".", "?", "!")) else f"{text}."
