"""/metrics: what Prometheus reads there."""

from __future__ import annotations

import re
import time

import pytest
from fastapi.testclient import TestClient

from tests.twingraph.server.conftest import WORKFLOW, Waiting
from twingraph.events import ExecutionFinished, ExecutionStarted, NodeFinished, NodeStarted
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.server.app import create_app
from twingraph.server.auth import credentials
from twingraph.server.context import open_context
from twingraph.server.service import Service

LINE = re.compile(r'(?P<name>[a-z_]+)(\{(?P<labels>(\w+="([^"\\\n]|\\.)*",?)*)\})? (?P<figure>-?[\d.e+-]+|\+Inf|NaN)')


def read(text: str) -> dict[str, float]:
    """The samples by name and labels; every line must be one that Prometheus understands."""
    told = {}
    for line in text.splitlines():
        if not re.fullmatch(r"# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge|summary))", line):
            found = LINE.fullmatch(line)
            assert found, line
            told[line.rpartition(" ")[0]] = float(found["figure"])
    return told


@pytest.fixture
def ran(client: TestClient, recorder: Recorder) -> None:
    """One execution that completed, and one that waits."""
    client.put("/api/workflows/w", json=WORKFLOW)
    done, _ = (client.post("/api/executions", json={"workflow_id": "w"}).json()["execution_id"] for _ in range(2))
    at = time.time()
    recorder(ExecutionStarted(done, "W", kind="workflow", at=at))
    recorder(NodeStarted(done, "n", hash="a" * 64, component='say "hi"\\', at=at))
    recorder(NodeFinished(done, "n", 0, 0.5, hash="a" * 64, outputs={}, at=at + 0.5))
    recorder(ExecutionFinished(done, "W", "completed", 1.5, outputs={}, at=at + 1.5))


@pytest.mark.usefixtures("ran")
def test_prometheus_reads_what_there_is(client: TestClient) -> None:
    with client.websocket_connect("/ws") as socket:
        socket.send_json({"action": "ping"})
        socket.receive_json()
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    told = read(answer.text)
    component = r'component="say \"hi\"\\"'
    wanted = {
        'twingraph_executions{status="completed"}': 1,
        'twingraph_executions{status="pending"}': 1,
        'twingraph_execution_duration_seconds_sum{status="completed"}': 1.5,
        "twingraph_queue_length": 1,
        f'twingraph_nodes{{{component},status="completed"}}': 1,
        f'twingraph_node_duration_seconds{{{component},quantile="0.99"}}': 0.5,
        f"twingraph_node_duration_seconds_sum{{{component}}}": 0.5,
        'twingraph_http_requests_total{method="POST",status="201"}': 2,
        'twingraph_http_request_duration_seconds_count{method="POST"}': 2,
        "twingraph_websockets": 1,
    }
    assert {name: told.get(name) for name in wanted} == wanted
    assert told["process_resident_memory_bytes"] > 1 << 20
    assert told["process_cpu_seconds_total"] > 0


def test_what_was_refused_is_counted_too(graph: Repository, launcher: Waiting) -> None:
    context = open_context(Service(graph, launcher), launcher, told=credentials("key:read", ""))
    with TestClient(create_app(context)) as client:
        assert client.get("/metrics").status_code == 401
        client.request("BREW", "/api/workflows")
        told = read(client.get("/metrics", headers={"X-API-Key": "key"}).text)
        assert client.get("/metrics", headers={"X-API-Key": "key"}).headers.get("x-ratelimit-limit") is None
    assert told['twingraph_http_requests_total{method="GET",status="401"}'] == 1
    assert told['twingraph_http_requests_total{method="other",status="401"}'] == 1
