"""/ws: what a client hears, and what it is told when it says something odd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import WebSocketDenialResponse
from websockets.sync.client import ClientConnection, connect

from tests.twingraph.live import Story, serving
from tests.twingraph.server.conftest import WORKFLOW, Waiting, now
from twingraph.events import ExecutionStarted, NodeFinished, NodeStarted
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.server.app import create_app
from twingraph.server.auth import credentials
from twingraph.server.context import Context, open_context
from twingraph.server.limits import Limits
from twingraph.server.service import Service


@pytest.fixture
def context(graph: Repository, launcher: Waiting) -> Context:
    return open_context(Service(graph, launcher), launcher, limits=Limits(0, 0, 2))


@pytest.fixture
def live(context: Context) -> Iterator[TestClient]:
    with TestClient(create_app(context)) as client:
        client.put("/api/workflows/w", json=WORKFLOW)
        yield client


def asked(client: TestClient) -> str:
    return str(client.post("/api/executions", json={"workflow_id": "w"}).json()["execution_id"])


def finished(execution: str, node: str) -> dict[str, Any]:
    data = {"execution_id": execution, "node_id": node, "status": "completed", "duration": 1.0, "outputs": {"x": 1}}
    return {"event": "node:status", "data": data}


def test_a_client_hears_how_things_are_and_then_what_changes(
    live: TestClient, context: Context, recorder: Recorder
) -> None:
    mine, other = asked(live), asked(live)
    recorder(ExecutionStarted(mine, "x", kind="workflow", at=now()))
    recorder(NodeStarted(mine, "node-1", hash="a" * 64, component="load_data", at=now()))
    recorder(NodeFinished(mine, "node-1", 0, 0.5, hash="a" * 64, outputs={"rows": 3}, at=now()))
    recorder.flush()
    with live.websocket_connect("/ws") as socket:
        socket.send_text(json.dumps({"action": "subscribe", "execution_id": mine}))
        first, second = socket.receive_json(), socket.receive_json()
        context.hub.publish(other, finished(other, "node-1"))
        context.hub.publish(mine, finished(mine, "node-2"))
        third = socket.receive_json()
        socket.send_json({"action": "unsubscribe", "execution_id": mine})
        assert socket.receive_json()["event"] == "unsubscribed"
        context.hub.publish(mine, finished(mine, "node-2"))
        socket.send_json({"action": "ping"})
        assert socket.receive_json()["event"] == "pong"
    assert (first["event"], first["data"]["execution_id"], first["data"]["status"]) == (
        "execution:update",
        mine,
        "running",
    )
    assert first["data"]["progress"]["completed_nodes"] == 1
    assert (second["event"], second["data"]["node_id"]) == ("node:status", "node-1")
    assert second["data"]["outputs"] == {"rows": 3}
    assert third == finished(mine, "node-2")


def test_without_an_id_a_client_hears_of_all(live: TestClient, context: Context) -> None:
    with live.websocket_connect("/ws") as socket:
        socket.send_json({"action": "subscribe"})
        assert socket.receive_json()["event"] == "subscribed"
        for each in ("one", "two"):
            context.hub.publish(each, finished(each, "n"))
        assert [socket.receive_json()["data"]["execution_id"] for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_json"),
        ("{", "not_json"),
        ("[" * 10_000, "not_json"),
        ("[]", "unknown_action"),
        ('"subscribe"', "unknown_action"),
        ('{"type": "subscribe"}', "unknown_action"),
        ('{"action": ["subscribe"]}', "unknown_action"),
        ('{"action": "subscribe", "execution_id": 7}', "not_an_id"),
        ('{"action": "subscribe", "execution_id": "none"}', "execution_not_found"),
        ("x" * 70_000, "message_too_large"),
    ],
)
def test_an_odd_message_is_answered_and_the_socket_stays_open(live: TestClient, text: str, code: str) -> None:
    with live.websocket_connect("/ws") as socket:
        socket.send_text(text)
        told = socket.receive_json()
        assert (told["event"], told["data"]["code"]) == ("error", code)
        socket.send_json({"action": "ping"})
        assert socket.receive_json()["event"] == "pong"


def test_who_names_an_execution_wrongly_does_not_hear_of_all(live: TestClient) -> None:
    with live.websocket_connect("/ws") as socket:
        socket.send_json({"action": "subscribe", "executionid": "exec-1"})
        told = socket.receive_json()["data"]
        assert (told["code"], "did you mean 'execution_id'?" in told["error"]) == ("unknown_field", True)
        socket.send_json({"action": "subscribe"})
        assert socket.receive_json()["event"] == "subscribed"


def test_a_client_has_only_so_many_sockets(live: TestClient) -> None:
    with live.websocket_connect("/ws"), live.websocket_connect("/ws"):
        with pytest.raises(WebSocketDenialResponse) as refused, live.websocket_connect("/ws"):
            pass
        assert (refused.value.status_code, refused.value.json()["code"]) == (429, "too_many_sockets")
    with live.websocket_connect("/ws") as socket:
        socket.send_json({"action": "ping"})
        assert socket.receive_json()["event"] == "pong"


def test_pages_of_other_origins_may_not_listen(live: TestClient) -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    with pytest.raises(WebSocketDenialResponse) as refused, live.websocket_connect("/ws", headers=elsewhere):
        pass
    assert refused.value.json()["code"] == "origin_refused"
    with live.websocket_connect("/ws", headers={"Origin": "http://testserver"}) as socket:
        socket.send_json({"action": "ping"})
        assert socket.receive_json()["event"] == "pong"


def test_who_listens_has_to_say_who_it_is(graph: Repository, launcher: Waiting) -> None:
    context = open_context(Service(graph, launcher), launcher, told=credentials("key:read", ""))
    with TestClient(create_app(context)) as client:
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
            pass
        assert refused.value.status_code == 401
        for path, headers in (("/ws?api_key=key", {}), ("/ws", {"X-API-Key": "key"})):
            with client.websocket_connect(path, headers=headers) as socket:
                socket.send_json({"action": "ping"})
                assert socket.receive_json()["event"] == "pong"


def subscribed(socket: ClientConnection, execution: str) -> None:
    socket.send(json.dumps({"action": "subscribe", "execution_id": execution}))
    assert json.loads(socket.recv(10))["event"] == "execution:update"


def noted(number: int, size: int) -> dict[str, Any]:
    data = {"execution_id": "mine", "node_id": f"node-{number}", "status": "completed", "outputs": "ü" * size}
    return {"event": "node:status", "data": data}


def test_events_arrive_in_order_at_all_who_listen_whatever_their_length(recorder: Recorder) -> None:
    story = Story(recorder, held=True)
    recorder(ExecutionStarted("mine", "x", kind="pipeline", at=now()))
    recorder.flush()
    events = [noted(number, size) for number, size in enumerate([0, 1, 2, 3, 4, 5, 200, 11_000, 70_000, 3] * 20)]
    with serving(story) as url, ExitStack() as open_here:
        sockets = [open_here.enter_context(connect(f"{url.replace('http', 'ws')}/ws")) for _ in range(2)]
        for socket in sockets:
            subscribed(socket, "mine")
        assert story.hub is not None
        for each in events:
            story.hub.publish("mine", each)
        for socket in sockets:
            assert [json.loads(socket.recv(10)) for _ in events] == events


@pytest.mark.parametrize("which", [{"execution_id": "mine"}, {}])
def test_who_does_not_keep_up_is_told_what_was_lost_and_how_things_are_and_hinders_nobody(
    recorder: Recorder, which: dict[str, str]
) -> None:
    story = Story(recorder, held=True)
    recorder(ExecutionStarted("mine", "x", kind="pipeline", at=now()))
    recorder.flush()
    with serving(story) as url, connect(f"{url.replace('http', 'ws')}/ws", max_queue=1) as slow:
        slow.send(json.dumps({"action": "subscribe", **which}))
        slow.recv(10)
        with connect(f"{url.replace('http', 'ws')}/ws") as quick:
            subscribed(quick, "mine")
            assert story.hub is not None
            for start in range(0, 1_000, 50):
                for number in range(start, start + 50):
                    story.hub.publish("mine", noted(number, 10_000))
                heard = [json.loads(quick.recv(10))["data"]["node_id"] for _ in range(50)]
                assert heard == [f"node-{number}" for number in range(start, start + 50)]
            slow.send(json.dumps({"action": "ping"}))
        events = _until_answered(slow)
        lost = [each["data"] for each in events if each["event"] == "missed"]
        assert all(each["executions"] == 1 for each in lost)
        assert len(events) < 1_000
        assert sum(each["event"] == "node:status" for each in events) + sum(each["messages"] for each in lost) == 1_000
        after = next(number for number, each in enumerate(events) if each["event"] == "missed") + 1
        assert events[after]["event"] == "execution:update"
        last = noted(1_000, 0)
        story.hub.publish("mine", last)
        assert json.loads(slow.recv(10)) == last


def _until_answered(socket: ClientConnection) -> list[dict[str, Any]]:
    """What comes before the answer to a ping."""
    events = []
    while (event := json.loads(socket.recv(10)))["event"] != "pong":
        events.append(event)
    return events


@settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_sent_is_answered_and_closes_nothing(live: TestClient, data: st.DataObject) -> None:
    words = st.sampled_from(
        ["subscribe", "unsubscribe", "ping", "action", "execution_id", "exec-none", "", "\x00", "ü"]
    )
    anything = st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | words,
        lambda inner: st.lists(inner) | st.dictionaries(words | st.text(), inner),
    )
    likely = st.fixed_dictionaries({"action": words | anything}, optional={"execution_id": words | anything})
    texts = st.text() | st.one_of(anything, likely).map(json.dumps) | st.just("[" * 100_000) | st.just("9" * 5_000)
    sent = data.draw(st.lists(texts | st.binary(), min_size=1, max_size=5))
    with live.websocket_connect("/ws") as socket:
        for each in sent:
            socket.send_text(each) if isinstance(each, str) else socket.send_bytes(each)
        socket.send_json({"action": "ping"})
        events = [socket.receive_json() for _ in sent]
        assert {each["event"] for each in events} <= {"error", "pong", "subscribed", "unsubscribed"}
        assert socket.receive_json()["event"] == "pong"
