"""Opening the database of the execution graph: how each kind is told to behave, and that its tables are there.

A new database gets the tables as they are now. An older one is migrated by Alembic, which nothing else needs.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from twingraph.errors import GraphError
from twingraph.executions import schema
from twingraph.executions.telling import named, reason

BUSY_SECONDS = 30
"""How long a writer waits for others that write to the same SQLite file."""

_LOCK = 0x7477696E  # of PostgreSQL: one process at a time makes or migrates the tables


def opened(url: str) -> Engine:
    """The engine of a database whose tables are as `schema` says."""
    try:
        engine = _engine(url)
        try:
            with engine.begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                _prepared(connection)
        except BaseException:
            engine.dispose()
            raise
    except (SQLAlchemyError, OSError) as error:
        raise GraphError(f"The execution graph at {named(url)} cannot be opened: {reason(error)}.") from error
    return engine


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        return _sqlite(url)
    try:
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    except ImportError as error:
        raise GraphError(
            "An execution graph in PostgreSQL needs its client: pip install 'lokki-twingraph[postgres]'."
        ) from error


def _sqlite(url: str) -> Engine:
    folder = os.path.dirname(url.removeprefix("sqlite:///"))
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver thinks
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16000")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("reads") is None
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: Any) -> None:
    """Have the file written in the way that lets others read meanwhile; SQLite itself does not wait for that."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _prepared(connection: Connection) -> None:
    """See to it that the tables are there, and are those of now."""
    if not inspect(connection).has_table(schema.version.name):
        schema.metadata.create_all(connection)
        connection.execute(schema.version.insert().values(version_num=schema.VERSION))
        return
    found = connection.execute(select(schema.version.c.version_num)).scalar()
    if found != schema.VERSION:
        _migrate(connection, str(found))


def _migrate(connection: Connection, found: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = alembic_config(connection)
    try:
        ScriptDirectory.from_config(config).get_revision(found)
    except CommandError as error:
        raise GraphError(
            f"The execution graph was written by a newer TwinGraph (its version is {found}): install that one."
        ) from error
    command.upgrade(config, schema.VERSION)


def alembic_config(connection: Connection) -> Any:
    """How Alembic is told to work in this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations"))
    config.attributes["connection"] = connection
    return config
