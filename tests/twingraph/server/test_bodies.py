"""What is no JSON, or cannot be told again, is refused before it is kept; odd texts of components are told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.twingraph.server.conftest import WORKFLOW, now
from twingraph.events import ExecutionFinished, ExecutionStarted, NodeFinished, NodeLogged, NodeStarted
from twingraph.executions.recorder import Recorder

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=KINDS)
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorder]:
    url = request.getfixturevalue("postgres") if request.param == "postgres" else f"sqlite:///{tmp_path}/graph.db"
    made = Recorder(url)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (rb'"\ud800"', "half of a character"),
        (rb'{"\uDFFF": 1}', "half of a character"),
        (b"NaN", "NaN is no JSON"),
        (b"1e999", "Out of range float"),
        (b"9" * 5000, "4300 digits"),
        (b"[" * 200 + b"]" * 200, "nested more than 100 deep"),
        (b"[" * 100_000, "nested more than 100 deep"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_what_cannot_be_told_again_is_not_kept(client: TestClient, inputs: bytes, why: str) -> None:
    client.put("/api/workflows/w", json=WORKFLOW)
    body = b'{"workflow_id": "w", "inputs": {"a": ' + inputs + b"}}"
    answer = client.post("/api/executions", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")
    assert why in answer.json()["detail"][0]["ctx"]["error"]
    assert client.get("/api/executions").json()["total"] == 0


def test_what_is_refused_is_not_sent_back_where_it_is_long(client: TestClient) -> None:
    many = client.post("/api/bulk/executions", json={"executions": [{"workflow_id": "w"}] * 1_001})
    assert (many.status_code, many.json()["detail"][0]["type"]) == (422, "too_long")
    assert len(many.content) < 1_000
    assert client.get("/api/workflows?page=x").json()["detail"][0]["input"] == "x"


def test_what_can_is_kept_as_it_is(client: TestClient) -> None:
    nodes = [{"id": "a", "component": "load_data", "config": {"smile": "\U0001f642", "nul": "\0", "deep": [[[1e99]]]}}]
    client.put("/api/workflows/w%00x", json={"name": "W", "definition": {"nodes": nodes}})
    assert client.get("/api/workflows/w%00x").json()["definition"]["nodes"][0]["config"] == nodes[0]["config"]


def test_odd_texts_of_components_are_told(client: TestClient, recorder: Recorder) -> None:
    client.put("/api/workflows/w", json=WORKFLOW)
    ran = client.post("/api/executions", json={"workflow_id": "w"}).json()["execution_id"]
    at = now()
    recorder(ExecutionStarted(ran, "W", kind="workflow", at=at))
    recorder(NodeStarted(ran, "n", hash="a" * 64, component="c", at=at))
    recorder(NodeLogged(ran, "n", 0, "info", "half \ud800 and \0", at))
    recorder(NodeFinished(ran, "n", 0, 0.5, hash="a" * 64, outputs={"half\udfff": "\ud800", "no": float("nan")}, at=at))
    recorder(ExecutionFinished(ran, "W", "failed", 1.0, "half \ud800", outputs={"half": "\ud800"}, at=at))
    told = client.get(f"/api/executions/{ran}").json()
    assert (told["status"], told["outputs"], told["error"]["message"]) == ("failed", {"half": "?"}, "half ?")
    assert client.get(f"/api/graph/execution/{ran}").json()["nodes"][0]["properties"]["outputs"] == {
        "half?": "?",
        "no": "nan",
    }
    assert client.get(f"/api/executions/{ran}/logs").json()["total"] == 1
    with client.websocket_connect("/ws") as socket:
        socket.send_json({"action": "subscribe", "execution_id": ran})
        assert socket.receive_json()["data"]["status"] == "failed"


def test_of_requests_with_one_key_at_the_same_time_one_counts(client: TestClient) -> None:
    client.put("/api/workflows/w", json=WORKFLOW)
    together = threading.Barrier(8)
    made: list[tuple[int, str]] = []

    def ask() -> None:
        together.wait()
        answer = client.post("/api/executions", json={"workflow_id": "w"}, headers={"Idempotency-Key": "k"})
        made.append((answer.status_code, answer.json()["execution_id"]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({execution for _, execution in made}) == 1
    assert sorted(status for status, _ in made) == [200] * 7 + [201]


def test_functions_that_were_sent_stay_when_who_changes_the_graph_has_none(client: TestClient) -> None:
    sent = {"python": "3.11", "components": {"own": {"kind": "value"}}}
    definition = {"nodes": [{"id": "a", "component": "own"}]}
    client.put("/api/workflows/w", json={"name": "W", "definition": definition, "code": sent})
    changed = client.put("/api/workflows/w", json={"name": "Better", "definition": definition})
    assert changed.json()["warnings"] == []
