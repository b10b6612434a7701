"""`notifications=`: who is told of an execution, and that a run never fails for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from twingraph import component, pipeline


class Receiver(HTTPServer):
    """A server that keeps what is posted; the first `refuse` posts get a 500."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = 0
        self.got: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.refuse -= 1
        refused = self.server.refuse >= 0
        if not refused:
            self.server.got.append((self.path, json.loads(body)))
        self.send_response(500 if refused else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@component(retry_policy={"max_attempts": 2, "initial_delay": 0})
def fail() -> None:
    raise ValueError("boo")


def test_each_moment_is_told_to_its_channels(receiver: Receiver) -> None:
    called: list[dict[str, Any]] = []

    @pipeline(
        notifications={
            "on_start": f"{receiver.url}/start",
            "on_success": called.append,
            "on_failure": [called.append, {"type": "slack", "url": f"{receiver.url}/slack"}],
            "on_retry": {"type": "webhook", "url": f"{receiver.url}/retry", "headers": {"X-Key": "k"}},
            "on_complete": called.append,
        }
    )
    def told(failing: bool) -> None:
        if failing:
            fail()

    good, bad = told.run(False), told.run(True)
    assert [(each["event"], each["execution_id"], each["status"]) for each in called] == [
        ("on_success", good.id, "completed"),
        ("on_complete", good.id, "completed"),
        ("on_failure", bad.id, "failed"),
        ("on_complete", bad.id, "failed"),
    ]
    assert called[2]["error"] == "ValueError: boo"
    assert called[2]["failed_nodes"] == ["fail"]
    assert [path for path, _ in receiver.got] == ["/start", "/start", "/retry", "/slack"]
    assert receiver.got[2][1]["node"] == "fail"
    assert receiver.got[3][1] == {"text": f"Pipeline 'told' ({bad.id}) failed: ValueError: boo"}


def test_what_cannot_be_sent_is_tried_again_then_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    @pipeline(notifications={"on_success": f"{receiver.url}/hook?token=secret"})
    def told() -> int:
        return 1

    receiver.refuse = 2
    assert told() == 1
    assert len(receiver.got) == 1
    receiver.refuse = 3
    assert told() == 1
    assert "Pipeline 'told': 127.0.0.1 was not notified: HTTPError" in caplog.text
    assert "secret" not in caplog.text


def test_a_function_that_fails_fails_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def angry(_: Any) -> None:
        raise RuntimeError("no")

    assert pipeline(notifications={"on_start": [angry, "log"]})(lambda: 1)() == 1
    assert "angry was not notified: RuntimeError: no" in caplog.text
