"""The statements of a server that take the short way to a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from twingraph.errors import GraphError
from twingraph.executions import definitions, requests
from twingraph.executions.near import Near
from twingraph.executions.repository import Repository
from twingraph.executions.requests import Asked


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(f"sqlite:///{tmp_path}/graph.db")
    yield made
    made.close()


@pytest.fixture
def near(graph: Repository) -> Near:
    found = Near.of(graph)
    assert found is not None
    return found


def asked(number: int, **inputs: str) -> Asked:
    return Asked(f"exec-{number}", "w", "W", inputs, {"max_parallel": 2}, "me")


def test_it_keeps_and_tells_what_the_usual_way_does(graph: Repository, near: Near) -> None:
    definitions.put(graph, "w", name="W", definition={}, metadata={}, tags=[], status="active")
    odd = {"a": "ü", "b": "\x00", "c": "\ud800"}
    assert (near.name_of("w"), near.name_of("x\x00"), near.glance("exec-1")) == ("W", None, None)
    assert near.ask([asked(1, **odd), asked(2)])
    requests.ask(graph, [asked(3, **odd)])
    one, three = requests.with_id(graph, "exec-1"), requests.with_id(graph, "exec-3")
    assert None not in (*one, *three)
    for mine, usual in zip(one, three, strict=True):
        assert mine is not None
        assert usual is not None
        told = {key: value for key, value in mine._asdict().items() if not key.endswith("_at") and "id" not in key}
        assert told.items() <= usual._asdict().items()
    for each in ("exec-1", "exec-3"):
        assert near.glance(each) == ("W", "pending", near.glance(each).started_at, "", "w", "")  # type: ignore[union-attr]
        assert near.progress(each) == {}


def test_while_somebody_else_writes_nothing_is_kept(graph: Repository, near: Near) -> None:
    with closing(sqlite3.connect(str(graph.engine.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not near.ask([asked(1)])
        other.rollback()
    assert requests.found(graph, "exec-1") is None
    assert near.ask([asked(1)])
    with pytest.raises(GraphError, match="cannot be written"):
        near.ask([asked(2), asked(1)])
    assert requests.found(graph, "exec-2") is None


def test_the_log_does_not_grow_for_ever(graph: Repository, near: Near, tmp_path: Path) -> None:
    for number in range(4_000):
        assert near.ask([asked(number)])
        if near.due():
            near.checkpoint()
    assert (tmp_path / "graph.db-wal").stat().st_size < 24 << 20
    assert requests.counted(graph) == {"pending": 4_000}


def test_a_graph_that_is_not_in_a_file_goes_the_usual_way() -> None:
    graph = Repository("sqlite://")
    assert Near.of(graph) is None
    graph.close()
