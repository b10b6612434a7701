"""/api/executions and what is known of them: asked for, followed, stopped, asked for again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing

import pytest
from fastapi.testclient import TestClient

from tests.twingraph.server.conftest import WORKFLOW, Waiting, now
from twingraph.events import (
    ExecutionFinished,
    ExecutionStarted,
    NodeFailed,
    NodeFinished,
    NodeLogged,
    NodeStarted,
)
from twingraph.executions.recorder import Recorder
from twingraph.executions.records import progress
from twingraph.executions.repository import Repository


@pytest.fixture
def workflow(client: TestClient) -> str:
    client.put("/api/workflows/workflow-123", json=WORKFLOW)
    return "workflow-123"


@pytest.fixture
def asked(client: TestClient, workflow: str) -> str:
    made = client.post("/api/executions", json={"workflow_id": workflow, "inputs": {"source": "s3://b/in.csv"}})
    assert made.status_code == 201
    return str(made.json()["execution_id"])


@pytest.fixture
def play(recorder: Recorder) -> Callable[..., None]:
    """Run an execution as far as the API can tell."""

    def played(execution: str, *, fails: bool = False) -> None:
        at = now()
        recorder(ExecutionStarted(execution, "Data Processing Pipeline", kind="workflow", at=at))
        recorder(NodeStarted(execution, "node-1", hash="a" * 64, component="load_data", at=at, inputs={"n": 3}))
        recorder(NodeLogged(execution, "node-1", 0, "info", "loading", at + 0.1))
        recorder(NodeLogged(execution, "node-1", 0, "error", "odd row", at + 0.2))
        recorder(NodeFinished(execution, "node-1", 0, 0.5, hash="a" * 64, outputs={"rows": [1]}, at=at + 0.5))
        started = NodeStarted(
            execution, "node-2", hash="b" * 64, component="process", platform="docker", parents=("a" * 64,), at=at
        )
        recorder(started)
        if fails:
            failed = NodeFailed(
                execution, "node-2", 0, 0.1, "ValueError: boo", "the trace", hash="b" * 64, kind="ValueError"
            )
            recorder(failed)
            recorder(NodeFailed(execution, "node-3", 0, 0.0, "It follows", "", hash="c" * 64, status="skipped"))
            recorder(
                ExecutionFinished(
                    execution, "x", "failed", 1.0, "ValueError: boo", failed_nodes=1, kind="ValueError", at=at + 1
                )
            )
        else:
            recorder(NodeFinished(execution, "node-2", 0, 0.5, hash="b" * 64, outputs={"kept": 1}, at=at + 1))
            recorder(ExecutionFinished(execution, "x", "completed", 1.0, outputs={"kept": 1}, at=at + 1))

    return played


def test_an_execution_is_asked_for_and_followed(
    client: TestClient, launcher: Waiting, asked: str, play: Callable[..., None]
) -> None:
    assert launcher.woken == 1
    before = client.get(f"/api/executions/{asked}").json()
    assert (before["status"], before["workflow_id"], before["outputs"]) == ("pending", "workflow-123", None)
    play(asked)
    after = client.get(f"/api/executions/{asked}").json()
    assert (after["status"], after["outputs"], after["success"]) == ("completed", {"kept": 1}, True)
    assert after["progress"] == progress({"completed": 2})
    assert after["node_outputs"] == {"node-1": {"rows": [1]}, "node-2": {"kept": 1}}
    workflow = client.get("/api/workflows/workflow-123").json()
    assert (workflow["executions"], workflow["success_rate"]) == (1, 1.0)


def test_a_failure_says_where_and_why(client: TestClient, asked: str, play: Callable[..., None]) -> None:
    play(asked, fails=True)
    told = client.get(f"/api/executions/{asked}").json()
    assert (told["status"], told["success"], told["progress"]["failed_nodes"]) == ("failed", False, 1)
    assert (told["progress"]["total_nodes"], told["progress"]["skipped_nodes"]) == (3, 1)
    assert told["error"] == {
        "message": "ValueError: boo",
        "type": "ValueError",
        "node_id": "node-2",
        "traceback": "the trace",
    }


def test_what_is_not_there_is_named(client: TestClient, workflow: str) -> None:
    missing = client.post("/api/executions", json={"workflow_id": "nowhere"})
    assert (missing.status_code, missing.json()["code"]) == (404, "workflow_not_found")
    assert client.post("/api/executions", json={"inputs": {}}).status_code == 422
    assert "'running'" in client.get("/api/executions?status=runing").json()["detail"][0]["msg"]
    for path in ("", "/logs", "/stop", "/rerun"):
        call = client.post if path in ("/stop", "/rerun") else client.get
        answer = call(f"/api/executions/exec-none{path}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "There is no execution 'exec-none'.")
    assert client.get("/api/graph/execution/exec-none").status_code == 404
    assert client.get("/api/metrics/components/never").status_code == 404


def test_a_request_that_comes_twice_is_done_once(client: TestClient, workflow: str) -> None:
    body = {"workflow_id": workflow, "inputs": {"x": 1}}
    first = client.post("/api/executions", json=body, headers={"Idempotency-Key": "k"})
    again = client.post("/api/executions", json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["execution_id"] == again.json()["execution_id"]
    other = client.post("/api/executions", json={**body, "inputs": {"x": 2}}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_an_execution_is_stopped(client: TestClient, launcher: Waiting, asked: str, play: Callable[..., None]) -> None:
    for _ in range(2):
        stopped = client.post(f"/api/executions/{asked}/stop")
        assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    assert launcher.stopped == [asked]
    other = client.post("/api/executions", json={"workflow_id": "workflow-123"}).json()["execution_id"]
    play(other)
    late = client.post(f"/api/executions/{other}/stop")
    assert (late.status_code, late.json()["code"]) == (409, "execution_over")


def test_an_execution_can_be_waited_for(client: TestClient, asked: str, play: Callable[..., None]) -> None:
    later = threading.Timer(0.2, play, (asked,))
    later.start()
    assert client.get(f"/api/executions/{asked}?wait=30").json()["status"] == "completed"
    later.join()


def test_the_log_is_filtered(client: TestClient, asked: str, play: Callable[..., None]) -> None:
    play(asked)

    def lines(**params: str | int) -> list[str]:
        answer = client.get(f"/api/executions/{asked}/logs", params=params)
        assert answer.status_code == 200
        return [each["message"] for each in answer.json()["logs"]]

    assert lines() == ["loading", "odd row"]
    assert lines(level="warning") == ["odd row"]
    assert lines(level="info", exact="true") == ["loading"]
    assert lines(component_id="node-2") == []
    assert lines(component_id="load_data", start_time="2000-01-01T00:00:00Z") == ["loading", "odd row"]
    assert lines(end_time="2000-01-01T00:00:00") == []
    first = client.get(f"/api/executions/{asked}/logs?limit=1").json()
    assert [each["message"] for each in first["logs"]] == ["loading"]
    assert lines(after=first["next"]) == ["odd row"]
    for wrong in ("level=loud", "start_time=yesterday"):
        assert client.get(f"/api/executions/{asked}/logs?{wrong}").status_code == 422


def test_the_graph_and_the_metrics_of_what_ran(client: TestClient, asked: str, play: Callable[..., None]) -> None:
    play(asked)
    graph = client.get(f"/api/graph/execution/{asked}").json()
    assert [(each["id"], each["label"], each["platform"]) for each in graph["nodes"]] == [
        ("node-1", "load_data", "local"),
        ("node-2", "process", "docker"),
    ]
    assert graph["edges"] == [{"from": "node-1", "to": "node-2", "label": "data_flow"}]
    for named in ("process", "node-2"):
        metrics = client.get(f"/api/metrics/components/{named}").json()
        assert (metrics["component_id"], metrics["executions"], metrics["success_rate"]) == (named, 1, 1.0)
    known = client.get("/api/components").json()["components"]
    assert [each["name"] for each in known] == ["load_data", "process"]


def test_an_execution_is_run_again(client: TestClient, asked: str, play: Callable[..., None]) -> None:
    early = client.post(f"/api/executions/{asked}/rerun")
    assert (early.status_code, early.json()["code"]) == (409, "execution_running")
    play(asked, fails=True)
    again = client.post(f"/api/executions/{asked}/rerun", params={"from": "node-2"})
    assert (again.status_code, again.json()["rerun_of"]) == (201, asked)
    assert client.post(f"/api/executions/{asked}/rerun?from=node-9").json()["code"] == "node_not_found"


def test_many_at_once(client: TestClient, workflow: str, launcher: Waiting) -> None:
    bodies = [{"workflow_id": workflow}, {"workflow_id": "nowhere"}, {"workflow_id": workflow}]
    answer = client.post("/api/bulk/executions", json={"executions": bodies})
    assert answer.status_code == 201
    first, second, third = answer.json()["results"]
    assert (first["status"], second["code"], third["status"]) == ("pending", "workflow_not_found", "pending")
    assert launcher.woken == 1
    ids = [first["execution_id"], "nowhere", third["execution_id"]]
    stopped = client.post("/api/bulk/executions/stop", json={"ids": ids}).json()["results"]
    assert [each.get("status", each.get("code")) for each in stopped] == ["stopped", "execution_not_found", "stopped"]
    listed = client.get("/api/executions", params={"workflow_id": workflow, "status": "stopped"}).json()
    assert (listed["total"], {each["execution_id"] for each in listed["executions"]}) == (2, {ids[0], ids[2]})


def test_who_asks_while_somebody_else_writes_is_answered_when_it_is_kept(
    client: TestClient, workflow: str, graph: Repository, launcher: Waiting
) -> None:
    body = {"workflow_id": workflow}
    with ThreadPoolExecutor(8) as several, closing(sqlite3.connect(str(graph.engine.url.database))) as writer:
        writer.execute("BEGIN IMMEDIATE")
        asked = [several.submit(client.post, "/api/executions", json=body) for _ in range(8)]
        assert not wait(asked, 0.1, FIRST_COMPLETED).done
        assert client.get("/api/executions").json()["total"] == 0
        writer.rollback()
        answers = [each.result() for each in asked]
    assert {each.status_code for each in answers} == {201}
    made = {each.json()["execution_id"] for each in answers}
    assert len(made) == 8
    assert {each["execution_id"] for each in client.get("/api/executions").json()["executions"]} == made
    assert launcher.woken


def test_many_who_ask_together_are_all_kept(client: TestClient, workflow: str) -> None:
    texts = ["ü", "a\x00b", "", "\u2028"] * 20
    with ThreadPoolExecutor(8) as several:
        bodies = [{"workflow_id": workflow, "inputs": {"text": each}, "config": {"max_parallel": 2}} for each in texts]
        answers = list(several.map(lambda body: client.post("/api/executions", json=body).json(), bodies))
    for each in (answers[0], answers[-1]):
        found = client.get(f"/api/executions/{each['execution_id']}").json()
        assert found | {"started_at": ""} == each | {"started_at": ""}
    assert client.get("/api/executions").json()["total"] == len(texts)


def test_the_server_says_how_it_is(client: TestClient, asked: str) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["pending"], health["running"]) == ("ok", 1, 0)
