"""What `DatabaseQuery` is measured with: a row by its key, over and over, and many rows at once.

Programs that need a PostgreSQL find its URL in POSTGRES.
"""

from __future__ import annotations

MILLI, MICRO = ("ms", 1e3), ("µs", 1e6)

_TIMED = """
import os, time
{setup}
{made}
def ask():
    {ask}
ask()
best = 1e9
for _ in range({rounds}):
    began = time.perf_counter()
    for _ in range({count}):
        ask()
    best = min(best, (time.perf_counter() - began) / {count})
print(best)
"""
_FILLED = """
import sqlite3
filling = sqlite3.connect("bench.db")
filling.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT, v REAL)")
filling.executemany("INSERT OR IGNORE INTO t VALUES (?, ?, ?)", ((n, f"name {n}", n / 2) for n in range(200_000)))
filling.commit()
"""
_OURS = """
from twingraph.components import DatabaseQuery
query = DatabaseQuery(connection={url}, output={output!r})
"""
_SQLITE3 = """
bare = sqlite3.connect("bench.db")
def records(sql):
    cursor = bare.execute(sql)
    names = [each[0] for each in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]
"""
_SQLALCHEMY = """
from sqlalchemy import create_engine, text
engine = create_engine("sqlite:///bench.db")
def records(sql, params):
    with engine.connect() as connection:
        return [dict(each) for each in connection.execute(text(sql), params).mappings()]
"""
_PSYCOPG = """
import psycopg, polars as pl
from psycopg.rows import dict_row
bare = psycopg.connect(os.environ["POSTGRES"], row_factory=dict_row)
def records(sql, params=None):
    with bare.transaction():
        return bare.execute(sql, params).fetchall()
"""
_ADBC = """
import polars as pl
from adbc_driver_postgresql import dbapi
bare = dbapi.connect(os.environ["POSTGRES"], autocommit=True)
def frame(sql):
    with bare.cursor() as cursor:
        cursor.execute(sql)
        return pl.from_arrow(cursor.fetch_arrow_table())
"""
_BY_KEY = "SELECT id, name, v FROM t WHERE id = :id"
_MADE = "SELECT n AS id, 'name ' || n AS name, n * 0.5::float8 AS v, now() AS t FROM generate_series(1, {}) n"


def rows(quick: bool) -> list[tuple[object, ...]]:
    """The figures, as `components.Row` takes them."""
    once = {"rounds": 1 if quick else 3, "count": 1}
    often = {"rounds": 1 if quick else 5, "count": 50 if quick else 1_000}
    size = 30_000 if quick else 300_000
    many = _MADE.format(size)

    def ours(url: str, ask: str, turns: dict[str, int], output: str = "records", setup: str = "") -> str:
        return _TIMED.format(setup=setup, made=_OURS.format(url=url, output=output), ask=ask, **turns)

    def bare(made: str, ask: str, turns: dict[str, int], setup: str = "") -> str:
        return _TIMED.format(setup=setup, made=made, ask=ask, **turns)

    file, server, memory = '"sqlite:///bench.db"', 'os.environ["POSTGRES"]', '"duckdb://"'
    key = f'records("{_BY_KEY}", {{"id": 7}})'
    by_key = "SELECT n FROM generate_series(1, 1) n WHERE n = "
    ducks = f"SELECT range AS id, 'name ' || range AS name, range / 2 AS v FROM range({size * 4})"
    return [
        ("database", "DatabaseQuery: a row of SQLite by its key", ours(file, f'query.run("{_BY_KEY}", {{"id": 7}})',
            often, setup=_FILLED), bare(_SQLALCHEMY, key, often, _FILLED), "SQLAlchemy", MICRO),
        ("database-call", "the same as a call of a component", ours(file, f'query("{_BY_KEY}", {{"id": 7}})',
            often, setup=_FILLED), bare(_SQLALCHEMY, key, often, _FILLED), "SQLAlchemy", MICRO),
        ("database-rows", "200,000 rows of SQLite as records", ours(file, 'query.run("SELECT * FROM t")', once,
            setup=_FILLED), bare(_SQLITE3, 'records("SELECT * FROM t")', once, _FILLED), "sqlite3", MILLI),
        ("database-postgres", "a row of PostgreSQL by its key", ours(server, f'query.run("{by_key}:n", {{"n": 1}})',
            often), bare(_PSYCOPG, f'records("{by_key}%s", [1])', often), "psycopg", MICRO, True),
        ("database-postgres-rows", f"{size:,} rows of PostgreSQL as records", ours(server, f'query.run("{many}")',
            once), bare(_PSYCOPG, f'records("{many}")', once), "psycopg", MILLI, True),
        ("database-postgres-frame", "the same as a frame", ours(server, f'query.run("{many}")', once, "frame"),
            bare(_ADBC, f'frame("{many}")', once), "ADBC", MILLI, True),
        ("database-postgres-common", "the same", ours(server, f'query.run("{many}")', once, "frame"),
            bare(_PSYCOPG, f'pl.DataFrame(records("{many}"))', once), "psycopg and Polars", MILLI, True),
        ("database-duckdb", f"{size * 4:,} rows of DuckDB as a frame", ours(memory, f'query.run("{ducks}")', once,
            "frame"), bare("import duckdb", f'duckdb.sql("{ducks}").pl()', once), "DuckDB", MILLI),
    ]  # fmt: skip
