"""Older databases become those of now: the tests that the tests of each database inherit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from tests.twingraph.executions.story import Story
from twingraph.errors import GraphError
from twingraph.executions import schema
from twingraph.executions.database import alembic_config
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.settings import load_settings

FIRST = "0001"
RUN = "INSERT INTO executions (id, name, status, started_at) VALUES ('old', 'birds', 'completed', 1)"
NODE = (
    "INSERT INTO nodes (execution_id, node_id, hash, component, status, duration)"
    " VALUES ('old', 'flap', 'abc', 'flap', 'completed', 2)"
)


class MigrationsContract:
    """The tests of a database inherit this and say where one with nothing in it is."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def old(self, url: str) -> str:
        """A database as the first version left it, with a run in it."""
        engine = create_engine(load_settings(database=url).database)
        with engine.begin() as connection:
            command.upgrade(alembic_config(connection), FIRST)
            connection.execute(text(RUN))
            connection.execute(text(NODE))
        engine.dispose()
        return url

    def test_an_old_database_is_migrated_when_it_is_opened(self, old: str, tmp_path: Path) -> None:
        recorder = Recorder(old, home=str(tmp_path / "home"))
        Story(recorder, "new").begin().whole("flap").end()
        graph = recorder.repository()
        assert [graph.find(run).status for run in ("old", "new")] == ["completed", "completed"]
        assert [node.node_id for node in graph.nodes("old")] == ["flap"]
        assert self.differences(graph) == []
        recorder.close()

    def test_a_new_database_is_what_migrations_lead_to(self, url: str) -> None:
        graph = Repository(load_settings(database=url).database)
        assert self.differences(graph) == []
        with graph.engine.begin() as connection:
            heads = ScriptDirectory.from_config(alembic_config(connection)).get_heads()
        assert heads == [schema.VERSION]
        graph.close()

    def test_a_newer_database_is_left_alone(self, url: str) -> None:
        database = load_settings(database=url).database
        graph = Repository(database)
        with graph.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        graph.close()
        with pytest.raises(GraphError, match=r"by a newer TwinGraph \(its version is 9999\): install that one"):
            Repository(database)

    def differences(self, graph: Repository) -> list[Any]:
        """What Alembic would have to change to make a database what `schema` says."""
        with graph.engine.connect() as connection:
            found: list[Any] = compare_metadata(MigrationContext.configure(connection), schema.metadata)
        return found
