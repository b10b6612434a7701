"""`DatabaseQuery` on the databases themselves: SQLite, DuckDB, and PostgreSQL under two drivers."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa
import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from tests.contracts.built_in import BuiltInContract
from tests.postgres_server import Postgres
from twingraph import Workflow, open_graph, pipeline
from twingraph.components import DatabaseQuery
from twingraph.components.database import QueryError, QueryTimeoutError, QueryTransientError
from twingraph.components.sql.pools import pools
from twingraph.errors import ComponentError, MissingLibraryError, TransientError

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
PEOPLE = [{"id": each, "name": name} for each, name in enumerate(["Ada", "Bob", "O'Hara"], 1)]
SQLITE = "sqlite:///base.db"
LOOSE: Any = DatabaseQuery  # as a caller without a type checker has it


@pytest.fixture(autouse=True)
def left() -> Iterator[None]:
    """No connection outlives its test."""
    yield
    pools.close()


@pytest.fixture(scope="module")
def server(postgres_server: Postgres) -> str:
    """The URL of a database that the tests of this file share."""
    return postgres_server.create()


@pytest.fixture(
    params=[
        "sqlite",
        "duckdb",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("postgresql+pg8000", marks=pytest.mark.postgres),
    ]
)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with people in it."""
    if request.param.startswith("postgresql"):
        made = request.getfixturevalue("server").replace("postgresql", request.param, 1)
    else:
        made = f"{request.param}:///base.db"
    query = DatabaseQuery(connection=made)
    query.run("DROP TABLE IF EXISTS people")
    query.run("CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(40), pay NUMERIC(8, 2))")
    query.run("INSERT INTO people (id, name) VALUES (:id, :name)", PEOPLE)
    return str(made)


def ids(outputs: Mapping[str, Any]) -> list[int]:
    return [each["id"] for each in outputs["rows"]]


class TestDatabaseQuery(BuiltInContract):
    name = "DatabaseQuery"
    libraries: ClassVar[tuple[str, ...]] = ("sqlalchemy", "psycopg", "polars", "pyarrow", "duckdb")

    @pytest.fixture
    def settings(self, folder: Path) -> dict[str, Any]:
        made = f"sqlite:///{folder}/base.db"
        DatabaseQuery(connection=made).run("CREATE TABLE IF NOT EXISTS people (id INTEGER PRIMARY KEY, name TEXT)")
        DatabaseQuery(connection=made).run("INSERT INTO people VALUES (:id, :name)", PEOPLE)
        return {"connection": made, "read_only": True}

    @pytest.fixture
    def inputs(self, folder: Path) -> dict[str, Any]:
        return {"sql": "SELECT name FROM people WHERE id IN (:ids)", "params": {"ids": [1, 3]}}

    def check(self, outputs: Mapping[str, Any]) -> None:
        assert outputs["rows"] == [{"name": "Ada"}, {"name": "O'Hara"}]
        assert (outputs["columns"], outputs["row_count"]) == (["name"], 2)


# ---- values


BOUND: list[tuple[str, Any, list[int]]] = [
    ("name = :name", {"name": "O'Hara"}, [3]),
    ("name = :x OR id = :y OR name = :x", {"x": "Bob", "y": 1}, [1, 2]),
    ("name = ? AND id < ?", ["Ada", 7], [1]),
    ("name = :name", {"name": "' OR 1 = 1 --"}, []),
    ("id IN (:ids)", {"ids": [1, 3]}, [1, 3]),
    ("id IN :ids AND NOT id IN (2, :more)", {"ids": {1, 2, 3}, "more": (3, 4)}, [1]),
    ("id IN ?", [[2]], [2]),
    ("id IN (:ids)", {"ids": []}, []),
    ("id NOT IN (:ids) AND name NOT IN :names", {"ids": [], "names": []}, [1, 2, 3]),
    ("(id, name) IN (:pairs)", {"pairs": [(1, "Ada"), (2, "Ada")]}, [1]),
    ("name <> ':no' AND name <> '100%' /* :no */ AND id = :id -- :no\n;", {"id": 2, "unused": 1}, [2]),
    ("id % :two = 1", {"two": 2}, [1, 3]),
    ("name LIKE '%a%' AND CAST(id AS VARCHAR(9)) = :text", {"text": "3"}, [3]),
    ("pay IS NULL AND coalesce(pay, id) = :pay", {"pay": Decimal("1.00")}, [1]),
]


def test_values_are_bound(url: str) -> None:
    query = DatabaseQuery(connection=url)
    for where, params, found in BOUND:
        tail = "" if where.endswith(";") else " ORDER BY id"
        assert ids(query.run(f"SELECT id FROM people WHERE {where}{tail}", params)) == found, where


def test_rows_of_values_are_written_all_or_none(url: str) -> None:
    query = DatabaseQuery(connection=url)
    insert = "INSERT INTO people (name, id, pay) VALUES (:name, :id, :pay)"
    rows = [{"id": each, "name": f"n{each}", "pay": Decimal("2.50")} for each in range(4, 9)]

    assert query.run(insert, rows) == {"rows": [], "columns": [], "row_count": 5}
    with pytest.raises(QueryError, match=r"(?i)unique|duplicate"):
        query.run(insert, [{"id": 20, "name": "x", "pay": None}, {"id": 1, "name": "y", "pay": None}])

    assert ids(query.run("SELECT id FROM people WHERE pay = :pay ORDER BY id", {"pay": 2.5})) == [4, 5, 6, 7, 8]
    assert query.run(insert, [])["row_count"] == 0
    assert query.run("SELECT count(*) AS n FROM people")["rows"] == [{"n": 8}]


@pytest.mark.parametrize(
    ("sql", "params", "why"),
    [
        (
            "SELECT 1;\n  DELETE FROM people",
            None,
            r"several statements; the second begins at line 2, column 3 \('DELETE",
        ),
        ("  -- nothing\n;", None, "holds no statement"),
        ("SELECT\n :nam", {"name": 1}, r"no value for :nam \(line 2, column 2\); did you mean 'name'\?"),
        ("SELECT :a", [1], "The SQL has :a, whose value goes by its name, and params is a list"),
        ("SELECT ?, ?", [1], r"has 2 places for values \(\?\), and params holds 1"),
        ("UPDATE people SET name = :a", [{"a": 1}, {"b": 1}], "no value for :a .* in row 1 of params"),
        ("SELECT 1 WHERE 1 IN (2, :ids)", {"ids": []}, "The list for :ids is empty, and stands beside others"),
        ("commit", None, "a call is a transaction of its own: leave COMMIT out"),
        ("", None, "input 'sql' is missing"),
    ],
)
def test_what_is_no_statement_with_its_values_is_told(sql: str, params: Any, why: str) -> None:
    with pytest.raises(ComponentError, match=f"^DatabaseQuery: .*{why}"):
        DatabaseQuery(connection=SQLITE).run(sql, params)


def test_the_body_of_a_trigger_is_one_statement() -> None:
    query = DatabaseQuery(connection=SQLITE)
    query.run("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    query.run(
        "CREATE TRIGGER named AFTER INSERT ON people BEGIN\n"
        "  UPDATE people SET name = CASE WHEN new.id = 1 THEN 'one' ELSE ';' END WHERE id = new.id;\n"
        "  DELETE FROM people WHERE id = 9;\n"
        "END;"
    )
    query.run("INSERT INTO people (id) VALUES (:id)", [{"id": 1}, {"id": 2}, {"id": 9}])
    assert query.run("SELECT name FROM people")["rows"] == [{"name": "one"}, {"name": ";"}]


# ---- outputs


def test_statements_without_rows_tell_how_many_they_changed(url: str) -> None:
    query = DatabaseQuery(connection=url)
    assert query.run("UPDATE people SET pay = 1 WHERE id > 1") == {"rows": [], "columns": [], "row_count": 2}
    assert query.run("CREATE TABLE IF NOT EXISTS people (id INTEGER)")["row_count"] == 0
    given = query.run("INSERT INTO people (id) VALUES (7), (8) RETURNING id, name", limit=1)
    assert given == {"rows": [{"id": 7, "name": None}], "columns": ["id", "name"], "row_count": 1}
    assert query.run("DELETE FROM people WHERE id >= 7")["row_count"] == 2


def test_equal_names_of_columns_get_a_number(url: str) -> None:
    sql = "SELECT a.id, b.id, a.name AS id_2, b.id FROM people a JOIN people b ON a.id = b.id WHERE a.id = 1"
    outputs = DatabaseQuery(connection=url).run(sql)
    assert outputs["rows"] == [{"id": 1, "id_3": 1, "id_2": "Ada", "id_4": 1}]
    assert outputs["columns"] == ["id", "id_3", "id_2", "id_4"]
    assert DatabaseQuery(connection=url, output="frame").run(sql)["rows"].columns == outputs["columns"]


def test_rows_come_as_records_a_frame_or_a_table(url: str) -> None:
    sql = "SELECT id, name, pay FROM people WHERE id > :id ORDER BY id"
    DatabaseQuery(connection=url).run("UPDATE people SET pay = id + 0.25 WHERE id < 3")
    frame = DatabaseQuery(connection=url, output="frame").run(sql, {"id": 1})
    table = DatabaseQuery(connection=url, output="arrow").run(sql, {"id": 1}, limit=1)
    none = DatabaseQuery(connection=url, output="frame").run(sql, {"id": 9})["rows"]

    assert isinstance(frame["rows"], pl.DataFrame)
    assert isinstance(table["rows"], pa.Table)
    assert frame["rows"].select("id", "name", pl.col("pay").cast(pl.Float64)).rows() == [
        (2, "Bob", 2.25),
        (3, "O'Hara", None),
    ]
    assert (frame["columns"], frame["row_count"], table["row_count"]) == (["id", "name", "pay"], 2, 1)
    assert none.is_empty()
    assert none.columns == ["id", "name", "pay"]


def test_large_results_come_part_by_part(url: str) -> None:
    query = DatabaseQuery(connection=url)
    endless = ENDLESS.format("x AS id")
    if "postgresql" in url:
        endless = "SELECT generate_series(1, 1000000000) AS id"
    elif "duckdb" in url:
        endless = "SELECT range + 1 AS id FROM range(1000000000000)"

    parts = query.batches(endless, size=2)
    assert [next(parts), next(parts)] == [[{"id": 1}, {"id": 2}], [{"id": 3}, {"id": 4}]]
    parts.close()
    frames = DatabaseQuery(connection=url, output="frame").batches(endless, limit=5, size=2)
    assert [each["id"].to_list() for each in frames] == [[1, 2], [3, 4], [5]]
    assert ids(query.run(endless, limit=3)) == [1, 2, 3]
    assert query.run(endless, limit=0) == {"rows": [], "columns": ["id"], "row_count": 0}


def test_a_column_of_several_types_makes_records_and_no_frame() -> None:
    sql = "SELECT 1 AS a UNION ALL SELECT 'x'"
    assert DatabaseQuery(connection=SQLITE).run(sql)["rows"] == [{"a": 1}, {"a": "x"}]
    with pytest.raises(ComponentError, match=r"column 'a' makes no column of a table: it holds int and str; cast"):
        DatabaseQuery(connection=SQLITE, output="frame").run(sql)
    numbers = DatabaseQuery(connection=SQLITE, output="frame").run("SELECT 1 AS a UNION ALL SELECT 2.5")["rows"]
    assert numbers["a"].to_list() == [1.0, 2.5]


# ---- types


def test_values_of_every_type_reach_sqlite() -> None:
    values = {
        "number": Decimal("0.1"),
        "long": Decimal("0.12345678901234567890"),
        "moment": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "id": uuid.UUID(int=5),
        "bytes": b"\0\xff",
        "json": {"a": [1, None]},
        "yes": True,
        "none": None,
    }
    sql = f"SELECT {', '.join(f':{name} AS {name}' for name in values)}"
    assert DatabaseQuery(connection=SQLITE).run(sql, values)["rows"] == [
        {
            "number": 0.1,
            "long": "0.12345678901234567890",
            "moment": "2026-01-02 03:04:05+00:00",
            "day": "2026-01-02",
            "id": "00000000-0000-0000-0000-000000000005",
            "bytes": b"\0\xff",
            "json": '{"a": [1, null]}',
            "yes": 1,
            "none": None,
        }
    ]


def test_values_of_every_type_come_from_duckdb() -> None:
    query = DatabaseQuery(connection="duckdb://")
    query.run("CREATE TABLE held (j JSON, l INTEGER[], s STRUCT(x INTEGER), d DECIMAL(9, 2), u UUID, b BLOB, t DATE)")
    row = {
        "j": {"a": [1, None]},
        "l": [1, None],
        "s": {"x": 1},
        "d": Decimal("1.50"),
        "u": uuid.UUID(int=5),
        "b": b"\0\xff",
        "t": date(2026, 1, 2),
    }
    query.run("INSERT INTO held VALUES (:j, :l, :s, :d, :u, :b, :t)", [row, dict.fromkeys(row)])
    assert query.run("FROM held")["rows"] == [row, dict.fromkeys(row)]
    assert query.run("FROM held WHERE list_contains(l, :x)", {"x": 1})["row_count"] == 1


COLUMNS = {
    "bo": ("boolean", True), "i2": ("int2", 1), "i4": ("int4", 2), "i8": ("int8", 2**40), "f4": ("float4", 1.5),
    "f8": ("float8", 0.1), "tx": ("text", "é\n"), "vc": ("varchar(9)", "v"), "ch": ("char(3)", "c  "),
    "n2": ("numeric(10, 2)", Decimal("-1.25")), "nn": ("numeric", Decimal("3.14159")), "da": ("date", date(2026, 1, 2)),
    "ts": ("timestamp", datetime(2026, 1, 2, 3, 4, 5, 678)), "tz": ("timestamptz", datetime(2026, 1, 2, 3, tzinfo=UTC)),
    "tm": ("time", time(12, 30)), "by": ("bytea", b"\0\xff"), "js": ("json", {"a": [1, None]}),
    "jb": ("jsonb", [{"b": "x"}]), "uu": ("uuid", uuid.UUID(int=5)), "ia": ("int4[]", [1, None]),
    "ta": ("text[]", ["a", "b,"]),
}  # fmt: skip


@pytest.fixture
def held(server: str) -> str:
    """A database with a table of many types."""
    query = DatabaseQuery(connection=server)
    query.run("DROP TABLE IF EXISTS held")
    query.run(f"CREATE TABLE held ({', '.join(f'{name} {kind}' for name, (kind, _) in COLUMNS.items())})")
    row = {name: value for name, (_, value) in COLUMNS.items()}
    names = ", ".join(f":{name}" for name in COLUMNS)
    query.run(f"INSERT INTO held VALUES ({names})", [row, dict.fromkeys(row), {**row, "nn": Decimal("1E+3")}])
    return server


@pytest.mark.postgres
def test_values_of_every_type_come_from_postgres(held: str) -> None:
    first, second, _ = DatabaseQuery(connection=held).run("SELECT * FROM held")["rows"]
    assert first == {name: value for name, (_, value) in COLUMNS.items()}
    assert set(second.values()) == {None}


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("sql", "params", "fast"),
    [
        ("SELECT {pid}, * FROM held", {}, True),
        ("SELECT {pid}, * FROM held WHERE false", {}, True),
        ("SELECT {pid}, i4 FROM held WHERE i4 IN (:ids) AND tx = :tx AND ts > :ts -- all\n;",
         {"ids": [1, 2], "tx": "é\n", "ts": datetime(2020, 1, 1)}, True),
        ("SELECT {pid}, :n AS n, i4 + :n AS more, sum(nn) AS s FROM held GROUP BY i4", {"n": 1}, True),
        ("SELECT {pid}, 1 AS a, 2 AS a, n::numeric AS large FROM unnest('{{1e60, 0.5}}'::numeric[]) n", {}, True),
        ("SELECT {pid}, i4 FROM held WHERE uu = :id", {"id": str(uuid.UUID(int=5))}, False),
        ("SELECT {pid}, i4 FROM held WHERE ch = :ch", {"ch": "c "}, False),
        ("SELECT {pid}, interval '1 day' AS i, '{{}}'::jsonb AS j", {}, False),
        ("SELECT {pid}, 'NaN'::numeric AS n, nn FROM held WHERE nn = :nn", {"nn": Decimal("3.14159")}, False),
        ("SELECT {pid}, i4 FROM held WHERE i4 = :i", {"i": "2"}, False),
    ],
)  # fmt: skip
def test_a_table_is_the_same_in_the_fast_way_and_in_the_common_one(
    held: str, sql: str, params: dict[str, Any], fast: bool
) -> None:
    query = DatabaseQuery(connection=held, output="arrow", pool=1)  # with one connection for each way
    common = DatabaseQuery(connection=held, pool=1).run("SELECT pg_backend_pid() AS pid")["rows"][0]["pid"]
    told = query.run(sql.format(pid=f"pg_backend_pid() <> {common} AS fast"), params)["rows"]
    slow = params | {"slow": Decimal(1)}  # of a type that only the common way takes
    expected = query.run(sql.format(pid=f"{str(fast).lower()} AND :slow = 1 AS fast"), slow)["rows"]

    assert told.equals(expected)
    assert told.schema.equals(expected.schema)


@pytest.mark.postgres
def test_parts_of_a_table_come_in_the_fast_way_too(held: str) -> None:
    query, sql = DatabaseQuery(connection=held, output="arrow", pool=1), "SELECT i4, tx, n2, ia FROM held -- all"
    whole = query.run(sql)["rows"]
    parts = list(query.batches(sql, size=2))

    assert [each.num_rows for each in parts] == [2, 1]
    assert pa.concat_tables(parts).equals(whole)
    assert query.run(sql, limit=2)["rows"].equals(whole.slice(0, 2))
    assert query.run(sql, limit=0)["rows"].schema.equals(whole.schema)
    assert next(iter(query.batches(f"SELECT i4 FROM ({sql}\n) a", limit=1))).num_rows == 1
    failing = query.batches("SELECT 1 / (200000 - n) AS x FROM generate_series(1, 300000) n", size=10)
    with pytest.raises(QueryError, match="division by zero"):
        list(failing)
    assert query.run(sql)["rows"].equals(whole)


@pytest.mark.postgres
def test_a_statement_that_changes_its_way_does_its_work_once(server: str) -> None:
    query, framed = DatabaseQuery(connection=server), DatabaseQuery(connection=server, output="frame")
    query.run("DROP TABLE IF EXISTS notes")
    query.run("CREATE TABLE notes (id INTEGER)")
    query.run(
        "CREATE OR REPLACE FUNCTION note(n INTEGER) RETURNS INTEGER LANGUAGE sql VOLATILE AS "
        "'INSERT INTO notes VALUES (n) RETURNING id'"
    )
    assert framed.run("SELECT note(1) AS n")["rows"].rows() == [(1,)]
    assert framed.run("SELECT note(2) AS n, int4range(1, 2)::text AS r, '1 day'::interval AS i")["row_count"] == 1
    assert query.run("SELECT id FROM notes ORDER BY id")["rows"] == [{"id": 1}, {"id": 2}]


@pytest.mark.postgres
def test_times_that_python_does_not_know_are_told(server: str) -> None:
    with pytest.raises(QueryError, match="infinity"):
        DatabaseQuery(connection=server, output="frame").run("SELECT 'infinity'::timestamp AS t")
    assert DatabaseQuery(connection=server, output="frame").run("SELECT interval '1 day' AS i")["rows"].rows() == [
        (timedelta(days=1),)
    ]


# ---- read-only


WRITING = (
    "INSERT INTO people (id) VALUES (50)",
    "WITH given AS (SELECT 50 AS id) INSERT INTO people (id) SELECT id FROM given",
    "UPDATE people SET id = id + 50",
    "DROP TABLE people",
    "CREATE TABLE more (id INTEGER)",
)


def test_nothing_is_written_with_read_only(url: str) -> None:
    reader = DatabaseQuery(connection=url, read_only=True)
    for sql in WRITING:
        with pytest.raises(QueryError, match=r"(?i)read.only"):
            reader.run(sql)
    with pytest.raises(QueryError, match=r"(?i)read.only"):
        reader.run("INSERT INTO people (id) VALUES (:id)", [{"id": 50}])
    assert ids(reader.run("SELECT id FROM people ORDER BY id")) == [1, 2, 3]


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 3",
        "PRAGMA journal_mode = WAL",
    ],
)
def test_a_reader_of_sqlite_has_no_way_out(tmp_path: Path, sql: str) -> None:
    DatabaseQuery(connection=SQLITE).run("CREATE TABLE people (id INTEGER)")
    reader = DatabaseQuery(connection=SQLITE, read_only=True)
    with pytest.raises(QueryError, match="with read_only=True a statement may only read"):
        reader.run(sql)
    assert reader.run("PRAGMA table_info(people)")["row_count"] == 1
    assert not (tmp_path / "other.db").exists()
    with pytest.raises(QueryError, match=r"sqlite:///none\.db cannot be reached: unable to open"):
        DatabaseQuery(connection="sqlite:///none.db", read_only=True).run("SELECT 1")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY people TO 'out.csv'",
        "EXPLAIN ANALYZE COPY people TO 'out.csv'",
        "ATTACH 'other.db'",
        "EXPORT DATABASE 'out'",
        "SET threads = 1",
        "CREATE TEMP TABLE t (id INTEGER)",
    ],
)
def test_a_reader_of_duckdb_has_no_way_out(tmp_path: Path, sql: str) -> None:
    DatabaseQuery(connection="duckdb:///base.db").run("CREATE TABLE people (id INTEGER)")
    reader = DatabaseQuery(connection="duckdb:///base.db", read_only=True)
    with pytest.raises(QueryError, match="with read_only=True a statement may only read"):
        reader.run(sql)
    assert reader.run("DESCRIBE people")["row_count"] == 1
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(("out", "other"))]


def test_a_file_of_duckdb_can_be_read_while_it_is_written() -> None:
    writer = DatabaseQuery(connection="duckdb:///base.db")
    reader = DatabaseQuery(connection="duckdb:///base.db", read_only=True)
    writer.run("CREATE TABLE people (id INTEGER)")
    assert reader.run("SELECT count(*) AS n FROM people")["rows"] == [{"n": 0}]
    parts = writer.batches("SELECT range FROM range(1000000)", size=10)  # the file stays open for writing
    next(parts)
    assert reader.run("SELECT count(*) AS n FROM people")["rows"] == [{"n": 0}]
    with pytest.raises(QueryError, match="may only read"):
        reader.run("INSERT INTO people VALUES (1)")
    parts.close()
    writer.run("INSERT INTO people VALUES (1)")
    assert reader.run("SELECT count(*) AS n FROM people")["rows"] == [{"n": 1}]


@pytest.mark.postgres
@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN EXECUTE 'SET TRANSACTION READ WRITE'; CREATE TABLE out (id int); END $$",
        "DO $$ BEGIN COMMIT; CREATE TABLE out (id int); END $$",
        "SELECT set_config('transaction_read_only', 'off', false)",
    ],
)
def test_a_reader_of_postgres_has_no_way_out(server: str, sql: str) -> None:
    reader = DatabaseQuery(connection=server, read_only=True, pool=1)
    with pytest.raises(QueryError):
        reader.run(sql)
    for each in ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET default_transaction_read_only = off"):
        reader.run(each)  # means nothing: the next call says again that it reads
    with pytest.raises(QueryError, match="read-only transaction"):
        reader.run("CREATE TABLE out (id int)")


# ---- timeouts


@pytest.mark.parametrize("output", ["records", "arrow"])
def test_a_statement_that_takes_too_long_is_stopped(url: str, output: Any) -> None:
    impatient = DatabaseQuery(connection=url, timeout=0.05, output=output, read_only=True, pool=1)
    endless = ENDLESS.format("count(*) AS n")
    with pytest.raises(QueryTimeoutError, match=r"took longer than 0\.05 s and was stopped\.$") as caught:
        impatient.run(endless)
    assert isinstance(caught.value, TimeoutError)
    assert impatient.run("SELECT id FROM people ORDER BY id")["row_count"] == 3


@pytest.mark.postgres
def test_a_statement_that_takes_no_transaction_has_a_timeout_too(server: str) -> None:
    query = DatabaseQuery(connection=server, timeout=5, pool=1)
    assert query.run("VACUUM")["row_count"] == 0
    assert DatabaseQuery(connection=server, pool=1).run("SHOW statement_timeout")["rows"] == [
        {"statement_timeout": "0"}
    ]


def test_a_locked_file_is_waited_for_as_long_as_the_timeout() -> None:
    writer = DatabaseQuery(connection=SQLITE)
    writer.run("CREATE TABLE people (id INTEGER)")
    parts = writer.batches("INSERT INTO people VALUES (1), (2) RETURNING id", size=1)
    next(parts)
    with pytest.raises(QueryTimeoutError, match=r"took longer than 0\.01 s"):
        DatabaseQuery(connection=SQLITE, timeout=0.01).run("INSERT INTO people VALUES (3)")
    parts.close()
    DatabaseQuery(connection=SQLITE, timeout=0.01).run("INSERT INTO people VALUES (3)")


# ---- connections


def backend(query: DatabaseQuery) -> int:
    return int(query.run("SELECT pg_backend_pid() AS pid")["rows"][0]["pid"])


@pytest.mark.postgres
def test_connections_are_used_again_and_bounded(server: str) -> None:
    query = DatabaseQuery(connection=server, pool=2)
    assert backend(query) == backend(DatabaseQuery(connection=server, pool=2))

    found: list[int] = []
    sql = "SELECT pg_backend_pid() AS pid, pg_sleep(0.02)::text AS slept"
    threads = [threading.Thread(target=lambda: found.append(query.run(sql)["rows"][0]["pid"])) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 8
    assert len(set(found)) == 2


@pytest.mark.postgres
def test_a_connection_that_was_lost_is_replaced(server: str) -> None:
    query, other = DatabaseQuery(connection=server, pool=1), DatabaseQuery(connection=server, pool=2)
    lost = backend(query)
    other.run("SELECT pg_terminate_backend(:pid, 5000)", {"pid": lost})
    assert backend(query) != lost
    with pytest.raises(QueryTransientError, match="terminating connection"):
        query.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert backend(query) != lost


@pytest.mark.postgres
def test_what_a_statement_sets_is_not_met_by_the_next(server: str) -> None:
    query = DatabaseQuery(connection=server, pool=1)
    first = backend(query)
    query.run("SET search_path = nowhere")
    query.run("CREATE TEMP TABLE passing (id int)")
    assert backend(query) != first
    with pytest.raises(QueryError, match='relation "passing" does not exist'):
        query.run("SELECT * FROM passing")


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(server: str) -> None:
    queries = [DatabaseQuery(connection=each) for each in (SQLITE, "duckdb:///other.db")]
    for each in queries:
        each.run("CREATE TABLE t (id INTEGER)")
    query = DatabaseQuery(connection=server)
    mine = backend(query)
    context = multiprocessing.get_context("fork")
    told = context.Queue()

    def child() -> None:
        told.put([backend(query) != mine, *(each.run("SELECT id FROM t")["row_count"] for each in queries)])

    process = context.Process(target=child)
    process.start()
    assert told.get(timeout=30) == [True, 0, 0]
    process.join(30)
    assert process.exitcode == 0
    assert query.run("SELECT 1 AS one")["rows"] == [{"one": 1}]


def test_a_database_in_memory_lives_as_long_as_its_process() -> None:
    for url in ("sqlite://", "duckdb://"):
        DatabaseQuery(connection=url).run("CREATE TABLE kept (id INTEGER)")
        pools.dispose()
        assert DatabaseQuery(connection=url).run("SELECT * FROM kept")["columns"] == ["id"]


# ---- errors


@pytest.mark.parametrize(
    ("sql", "params", "place"),
    [
        ("SELECT name,\n  nothing FROM people WHERE id IN :ids AND name = :n", {"ids": [1, 2], "n": "é"}, (2, 3)),
        ("SELECT *\n FROM people WHERE id = :id AND name = 'é' ORDER\n BX id", {"id": 1}, (3, 2)),
        ("SELECT * FROM nowhere", None, (1, 15)),
    ],
)
def test_an_error_says_where_it_is(url: str, sql: str, params: Any, place: tuple[int, int]) -> None:
    with pytest.raises(QueryError) as caught:
        DatabaseQuery(connection=url).run(sql, params)
    assert str(caught.value).startswith(f"DatabaseQuery on {url.partition('://')[0]}://")
    if "pg8000" not in url:  # it does not tell
        assert (caught.value.line, caught.value.column) == place
        assert f"line {place[0]}, column {place[1]} (" in str(caught.value)


@pytest.mark.postgres
def test_an_error_has_the_code_of_the_database(server: str) -> None:
    with pytest.raises(QueryError, match=r"'SELECT 1 / :zero' failed: division by zero\.$") as caught:
        DatabaseQuery(connection=server).run("SELECT 1 / :zero", {"zero": 0})
    assert caught.value.sqlstate == "22012"
    assert not isinstance(caught.value, TransientError)


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://reader:{SECRET}@127.0.0.1:1/shop",
        f"postgresql://reader:{SECRET}%2F%40@127.0.0.1:1/shop",
        f"postgresql://reader:/{SECRET}@127.0.0.1:1/shop",
        f"postgresql://reader@127.0.0.1:1/shop?password={SECRET}",
        f"postgresql://reader:{SECRET}@127.0.0.1:1/shop?no_such_option={SECRET}",
        f"postgresql+pg8000://reader:{SECRET}@127.0.0.1:1/shop",
        f"postgresql://reader:x@127.0.0.1:{SECRET}/shop",
        f"nosuch://reader:{SECRET}@127.0.0.1/shop",
        f"mysql://reader:{SECRET}@127.0.0.1/shop",
        f"postgresql://reader:2@{SECRET}@127.0.0.1:1/shop",
        f"sqlite://reader:{SECRET}@there/base.db",
        f"host=127.0.0.1 password={SECRET}",
        SECRET,
    ],
)
@pytest.mark.parametrize("output", ["records", "frame"])
def test_a_password_is_shown_nowhere(url: str, output: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made: list[str] = []

    def ask() -> None:
        query = DatabaseQuery(connection=url, output=output)
        made.append(repr(query))
        query(sql="SELECT 1")

    with pytest.raises(ComponentError) as caught:
        ask()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    if f":{SECRET}/" not in url and "no_such" not in url:
        shown += "".join(made)
    assert SECRET not in shown.replace("SECRET", "")
    assert isinstance(caught.value, QueryTransientError | MissingLibraryError) or "is no URL" in str(caught.value)


def test_the_connection_is_in_no_graph_and_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWINGRAPH_RECORD")
    monkeypatch.setenv("TWINGRAPH_SECRET_BASE", f"{SQLITE}?timeout=5")
    query = DatabaseQuery(connection="secret://BASE")

    @pipeline
    def asked() -> Any:
        return query(sql="SELECT :x AS x", params={"x": 1})["rows"]

    assert asked() == [{"x": 1}]
    with open_graph() as graph:
        (node,) = graph.run(graph.executions()[0][0].id).nodes
    assert "rows" in node.outputs
    assert "base.db" not in repr(node)
    assert "base.db" not in repr(query)


def test_who_runs_a_workflow_does_not_replace_a_statement_that_is_a_setting() -> None:
    config = {"connection": "sqlite://", "statement": "SELECT :x AS x"}
    nodes = [{"id": "one", "type": "component", "component": "DatabaseQuery", "config": config}]
    workflow = Workflow.from_dict({"name": "fixed", "definition": {"nodes": nodes, "edges": []}})

    assert workflow.run(params={"x": 2}).outputs["rows"] == [{"x": 2}]
    replaced = workflow.run(params={"x": 2}, sql="SELECT 3")
    assert replaced.status == "failed"
    assert "its statement is a setting, and cannot be replaced by sql" in str(replaced.error)


class Elsewhere(SQLiteDialect_pysqlite):
    """A database that this library knows nothing of."""

    supports_statement_cache = True


def test_what_cannot_be_enforced_is_refused() -> None:
    registry.register("sqlite.elsewhere", __name__, "Elsewhere")
    there = "sqlite+elsewhere:///base.db"
    DatabaseQuery(connection=there).run("CREATE TABLE t (id INTEGER)")
    assert DatabaseQuery(connection=there).run("INSERT INTO t VALUES (:id)", [{"id": 1}, {"id": 2}])["row_count"] == 2
    assert DatabaseQuery(connection=there, output="frame").run("SELECT id FROM t")["rows"].rows() == [(1,), (2,)]
    for settings, what in (({"read_only": True}, "read_only"), ({"timeout": 3}, "timeout")):
        with pytest.raises(ComponentError, match=f"^DatabaseQuery: {what} cannot be enforced for sqlite: leave it out"):
            LOOSE({"connection": there, **settings}).run("DELETE FROM t")
    assert DatabaseQuery(connection=there).run("SELECT id FROM t")["row_count"] == 2


def test_numbers_that_make_no_sense_are_refused() -> None:
    for wrong, why in (({"timeout": 0}, "timeout takes seconds"), ({"pool": 0}, "pool takes a number")):
        with pytest.raises(ComponentError, match=f"^DatabaseQuery: {why}"):
            LOOSE({"connection": SQLITE, **wrong})
    with pytest.raises(ComponentError, match="limit takes a number of rows, at least 0, not -1"):
        DatabaseQuery(connection=SQLITE).run("SELECT 1", limit=-1)
