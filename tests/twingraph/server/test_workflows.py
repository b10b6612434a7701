"""/api/workflows: stored, read, listed, changed by who read the newest version, and removed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.twingraph.server.conftest import DEFINITION, WORKFLOW


def test_a_workflow_is_stored_and_read(client: TestClient) -> None:
    made = client.put("/api/workflows/workflow-123", json=WORKFLOW)
    assert made.status_code == 201
    found = client.get("/api/workflows/workflow-123")
    assert found.json() == made.json()
    told = found.json()
    assert told["definition"]["nodes"] == DEFINITION["nodes"]
    assert told["definition"]["metadata"] == WORKFLOW["metadata"]
    assert (told["executions"], told["success_rate"], told["version"], told["status"]) == (0, 0.0, 1, "active")
    assert told["created_at"].endswith("Z")
    assert found.headers["etag"] == '"v1"'
    assert client.post("/api/workflows/workflow-123", json=WORKFLOW).status_code == 200
    assert client.get("/api/workflows/workflow-123").json()["version"] == 2


def test_workflows_are_listed_newest_first_a_page_at_a_time(client: TestClient) -> None:
    for number in range(5):
        tags = ["even"] if number % 2 == 0 else []
        client.put(f"/api/workflows/w{number}", json={"name": f"W {number}", "metadata": {"tags": tags}})
    first = client.get("/api/workflows", params={"size": 2}).json()
    assert [each["id"] for each in first["workflows"]] == ["w4", "w3"]
    assert (first["total"], first["page"], first["size"]) == (5, 1, 2)
    assert [each["id"] for each in client.get("/api/workflows?page=3&size=2").json()["workflows"]] == ["w0"]
    assert client.get("/api/workflows?page=9").json()["workflows"] == []
    even = client.get("/api/workflows", params={"tag": "even"}).json()
    assert (even["total"], [each["id"] for each in even["workflows"]]) == (3, ["w4", "w2", "w0"])
    assert client.get("/api/workflows", params={"status": "draft"}).json()["total"] == 0
    assert client.get("/api/workflows?size=1000").json()["size"] == 100
    for wrong in ("page=0", "size=0", "page=x", "status=activ"):
        assert client.get(f"/api/workflows?{wrong}").status_code == 422


def test_only_who_read_the_newest_version_changes_it(client: TestClient) -> None:
    client.put("/api/workflows/w", json=WORKFLOW)
    etag = client.get("/api/workflows/w").headers["etag"]
    assert client.put("/api/workflows/w", json=WORKFLOW, headers={"If-Match": etag}).status_code == 200
    late = client.put("/api/workflows/w", json=WORKFLOW, headers={"If-Match": etag})
    assert (late.status_code, late.json()["code"]) == (412, "version_changed")
    assert client.delete("/api/workflows/w", headers={"If-Match": etag}).status_code == 412
    twice = client.put("/api/workflows/w", json=WORKFLOW, headers={"If-None-Match": "*"})
    assert (twice.status_code, twice.json()["code"]) == (409, "workflow_exists")
    assert client.put("/api/workflows/new", json=WORKFLOW, headers={"If-None-Match": "*"}).status_code == 201


def test_a_workflow_is_removed(client: TestClient) -> None:
    made = client.post("/api/workflows", json=WORKFLOW)
    assert made.status_code == 201
    where = made.headers["location"]
    assert client.delete(where).json() == {"id": made.json()["id"], "deleted": True}
    for answer in (client.get(where), client.delete(where)):
        assert answer.status_code == 404
        assert made.json()["id"] in answer.json()["detail"]


def test_a_draft_is_stored_with_warnings(client: TestClient) -> None:
    nodes = [{"id": "node-1", "component": "load_dat"}]
    edges = [{"source": "node-1", "target": "node-2"}]
    made = client.put("/api/workflows/w", json={"name": "Draft", "definition": {"nodes": nodes, "edges": edges}})
    assert made.status_code == 201
    assert made.json()["warnings"] == [
        "Node 'node-1' calls for component 'load_dat', which is not known here; did you mean 'load_data'?",
        "A connection names node 'node-2', which the workflow does not have.",
    ]


@pytest.mark.parametrize(
    ("path", "body", "where", "words"),
    [
        ("workflows", {"name": "W", "nodes": []}, "nodes", '\'definition\': {"definition": {"nodes": ...}}'),
        ("workflows/w", {"name": "W", "schedule": "@daily"}, "schedule", "belongs inside 'metadata'"),
        ("workflows/w", {"name": "W", "metdata": {}}, "metdata", "did you mean 'metadata'?"),
        ("executions", {"workflow_id": "w", "input": {}}, "input", "did you mean 'inputs'?"),
        ("executions", {"workflow_id": "w", "config": {"timeot": 2}}, "timeot", "did you mean 'timeout'?"),
        ("bulk/executions/stop", {"ids": ["x"], "why": ""}, "why", "there are ids."),
        ("executions/x/rerun?form=node-1", None, "form", "did you mean 'from'?"),
    ],
)
def test_a_field_that_there_is_not_is_refused(
    client: TestClient, path: str, body: dict[str, Any] | None, where: str, words: str
) -> None:
    client.put("/api/workflows/w", json=WORKFLOW)
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == 422
    [told] = answer.json()["detail"]
    assert told["loc"][-1] == where
    assert words in told["msg"]
    assert (client.get("/api/workflows").json()["total"], client.get("/api/executions").json()["total"]) == (1, 0)


def test_what_nothing_reads_is_kept_and_told_where_it_is_nearly_a_word(client: TestClient) -> None:
    nodes = [{"id": "a", "component": "load_data", "confg": {"n": 3}, "position": {"x": 1}}]
    metadata = {"shedule": "@daily", "owner": "ann"}
    made = client.put("/api/workflows/w", json={"name": "W", "definition": {"nodes": nodes}, "metadata": metadata})
    assert made.json()["warnings"] == [
        "metadata has 'shedule', which nothing reads; did you mean 'schedule'?",
        "Node 'a' has 'confg', which nothing reads; did you mean 'config'?",
    ]
    assert made.json()["definition"]["nodes"][0]["position"] == {"x": 1}


def test_what_was_read_may_be_stored_again(client: TestClient) -> None:
    client.put("/api/workflows/w", json={**WORKFLOW, "metadata": {**WORKFLOW["metadata"], "owner": "ann"}})
    read = client.get("/api/workflows/w").json()
    again = client.put("/api/workflows/w", json=read).json()
    for name in ("name", "definition", "tags", "status"):
        assert again[name] == read[name]
    assert client.put("/api/workflows/w", json={**read, "tags": ["new"]}).json()["tags"] == ["new"]
    for path in ("/api/workflows", "/api/workflows/v"):
        other = client.post(path, json=read)
        assert (other.status_code, other.json()["code"]) == (422, "id_differs")


def test_a_body_says_that_it_is_json(client: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/api/workflows", content=b'{"name": "W"}', headers=form)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_json")
    assert "application/json" in answer.json()["hint"]


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ({"nodes": [{"id": "a"}, {"id": "a"}]}, "duplicate_node"),
        (
            {
                "nodes": [{"id": "a"}, {"id": "b"}],
                "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "a"}],
            },
            "circle",
        ),
        ({"nodes": [{"id": "a"}], "edges": [{"source": "a", "target": "a"}]}, "circle"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(client: TestClient, definition: dict[str, Any], code: str) -> None:
    answer = client.put("/api/workflows/w", json={"name": "W", "definition": definition})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_the_version_of_the_api_is_negotiated(client: TestClient) -> None:
    plain = client.get("/api/workflows")
    assert (plain.headers["x-api-version"], plain.headers["content-type"]) == ("2.0.0", "application/json")
    asked = client.get("/api/workflows", headers={"Accept": "application/vnd.twingraph.v2+json"})
    assert asked.headers["content-type"] == "application/vnd.twingraph.v2+json"
    other = client.get("/api/workflows", headers={"Accept": "application/vnd.twingraph.v3+json"})
    assert (other.status_code, other.json()["code"]) == (406, "version_not_supported")
