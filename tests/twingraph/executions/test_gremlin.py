"""Executions mirrored to a Gremlin endpoint."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gremlin_server import GremlinServer, gremlin_server
from tests.twingraph.executions.story import NOON, Story
from twingraph.errors import GraphError
from twingraph.executions.gremlin import Mirror, open_mirror


@pytest.fixture
def server() -> Iterator[GremlinServer]:
    with gremlin_server() as made:
        yield made


@pytest.fixture
def mirror(server: GremlinServer) -> Iterator[Mirror]:
    made = Mirror(server.url)
    yield made
    made.close()


def test_executions_nodes_and_edges_are_mirrored(server: GremlinServer, mirror: Mirror) -> None:
    first = Story(mirror, "run-1").begin().submit("load", labels={"team": "sky"}).start("load", labels={"team": "sky"})
    first.log("load", "a line is nothing of the graph").retry("load").finish("load", 0.5, attempt=1)
    assert mirror.flush(60)
    first.start("count", ["load"]).finish("count", reused=True).start("sing", ["load", "count"]).fail("sing")
    first.end(failed_nodes=1)
    Story(mirror, "run-2").begin().start("use", parents=(first.hash("count"), "e" * 64)).end("stopped")
    assert mirror.flush(60)

    (run,) = server.found("execution", execution_id="run-1")
    assert run == {
        "execution_id": "run-1", "name": "birds", "kind": "pipeline", "status": "completed", "started_at": NOON,
        "finished_at": run["finished_at"], "duration": 9.0, "failed_nodes": 1, "error": "",
    }  # fmt: skip
    (load,) = server.found("node", node_id="load")
    assert (load["hash"], load["status"], load["attempts"]) == (first.hash("load"), "completed", 2)
    assert (load["component"], load["platform"], load["label:team"]) == ("load", "local", "sky")
    statuses = {each.get("node_id"): each.get("status") for each in server.found("node")}
    assert statuses == {"load": "completed", "count": "cached", "sing": "failed", "use": "running", None: None}
    assert server.links("data_flow") == {
        ("load", "count"), ("load", "sing"), ("count", "sing"), ("count", "use"), (None, "use"),
    }  # fmt: skip
    assert server.links("part_of", "execution_id") == {("run-1", "run-1"), ("run-2", "run-2")}
    assert (len(server.edges), len(server.vertices)) == (9, 7)  # whatever was told twice is there once


def test_many_nodes_are_sent_together(server: GremlinServer, mirror: Mirror) -> None:
    story = Story(mirror, "run-1").begin()
    for at in range(100):
        story.whole(f"flap#{at}", [f"flap#{at - 1}"] if at else [])
    story.end()
    assert mirror.flush(60)
    assert (len(server.found("node", status="completed")), len(server.links("data_flow"))) == (100, 99)


def test_an_endpoint_that_fails_is_told_once_and_tried_again(
    server: GremlinServer, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    server.refusing = 2
    Story(mirror, "run-1").begin().whole("load").end()
    assert mirror.flush(60)
    assert [each["status"] for each in server.found("execution")] == ["completed"]
    (told,) = caplog.messages
    assert told == (
        f"Executions are not mirrored to {server.url}/gremlin: it answered 500: The graph is out of order. "
        "Runs go on without."
    )


def test_what_happened_while_nobody_answered_is_sent_later(caplog: pytest.LogCaptureFixture) -> None:
    with gremlin_server() as graph:
        port = int(graph.url.rpartition(":")[2])
        mirror = Mirror(graph.url)
        story = Story(mirror, "run-1").begin().start("load")
        assert mirror.flush(60)
    with caplog.at_level(logging.WARNING, "twingraph"):
        story.finish("load").end()
        assert not mirror.flush(0.5)
    with gremlin_server(port, graph):
        assert mirror.flush(60)
    mirror.close()
    assert [each["status"] for each in graph.found("node")] == ["completed"]
    assert len(caplog.messages) == 1


def test_a_password_is_used_and_not_shown(server: GremlinServer, caplog: pytest.LogCaptureFixture) -> None:
    server.login = ("ada", "hunter2")
    right = Mirror(server.url.replace("ws://", "ws://ada:hunter2@"))
    Story(right, "run-1").begin().whole("load").end()
    assert right.flush(60)
    assert len(server.found("node")) == 1
    right.close()
    wrong = Mirror(server.url.replace("ws://", "ws://ada:guessed-it@"))
    with caplog.at_level(logging.WARNING, "twingraph"):
        Story(wrong, "run-2").begin().end()
        assert not wrong.flush(0.5)
    assert "401" in caplog.text
    assert "guessed-it" not in caplog.text


def test_the_end_of_a_process_waits_for_the_mirror(server: GremlinServer, repository_root: Path) -> None:
    code = """
import sys
from tests.twingraph.executions.story import Story
from twingraph.executions.gremlin import open_mirror
Story(open_mirror(sys.argv[1]), "run-1").begin().whole("load").end()
"""
    command = [sys.executable, "-c", code, server.url]
    done = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [each["status"] for each in server.found("node")] == ["completed"]


@pytest.mark.parametrize("url", ["http://host:8182", "host:8182", "ws://", "http://ada:hunter2@host"])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(GraphError, match="A Gremlin endpoint is as ws://host:8182") as refused:
        open_mirror(url)
    assert "hunter2" not in str(refused.value)
