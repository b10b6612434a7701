"""A database of an earlier version becomes what a new one is, and keeps what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import create_engine, inspect, text

from twingraph.executions import schema
from twingraph.executions.database import alembic_config
from twingraph.executions.repository import Repository


def test_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    old, new = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "new.db"))
    engine = create_engine(old)
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        connection.execute(text("INSERT INTO executions (id, name, status) VALUES ('e', 'kept', 'completed')"))
        connection.execute(text("INSERT INTO nodes (execution_id, node_id, component) VALUES ('e', 'n', 'load')"))
    engine.dispose()
    migrated, fresh = Repository(old), Repository(new)
    assert migrated.find("e").name == "kept"
    assert migrated.node("e", "n").resources == ""
    assert shape(migrated) == shape(fresh)
    assert migrated.read(schema.version.select()) == [(schema.VERSION,)]
    migrated.close()
    fresh.close()


def shape(graph: Repository) -> dict[str, Any]:
    """The tables of a database: their columns, keys and indexes."""
    found = inspect(graph.engine)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)],
            found.get_pk_constraint(table)["constrained_columns"],
            sorted((str(index["name"]), tuple(index["column_names"])) for index in found.get_indexes(table)),
        )
        for table in found.get_table_names()
    }
