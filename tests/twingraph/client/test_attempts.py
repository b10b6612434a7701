"""What a client does when answers do not come, or say to come again later: on a server that answers by the book."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_sockets

from twingraph.client import ApiError, RateLimitError, ServerUnreachableError

EXECUTION = {"execution_id": "exec-1", "status": "pending"}
UNAVAILABLE = {"detail": "The database is away.", "code": "graph_unavailable"}
LOST = None
"""Stands for an answer that never comes."""


class Book(ThreadingHTTPServer):
    """Gives the answers that it was told to give, one after the other, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.answers: list[tuple[int, Any, dict[str, str]] | None] = []
        self.asked: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    """One request of a `Book`."""

    server: Book

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("idempotency-key", "")))
        told = self.server.answers.pop(0)
        if told is LOST:
            self.close_connection = True
            return
        status, body, headers = told
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - so they are called

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def client(connect: Callable[..., Any], book: Book) -> Any:
    return connect(book.url)


def test_what_the_server_cannot_do_at_the_moment_is_asked_again(client: Any, book: Book) -> None:
    book.answers = [(503, UNAVAILABLE, {}), (502, "bad gateway", {}), LOST, (200, EXECUTION, {})]
    assert client.executions.get_status("exec-1").id == "exec-1"
    assert book.asked == [("GET", "/api/executions/exec-1", "")] * 4


def test_an_execution_is_asked_for_under_one_key_until_the_answer_comes(client: Any, book: Book) -> None:
    book.answers = [LOST, (503, UNAVAILABLE, {}), (200, EXECUTION, {}), (201, EXECUTION, {})]
    client.executions.create("w")
    client.executions.create("w")
    keys = [key for _, _, key in book.asked]
    assert (len(set(keys)), len(set(keys[:3])), all(keys)) == (2, 1, True)


def test_what_twice_would_be_twice_is_sent_once(client: Any, book: Book) -> None:
    book.answers = [LOST, (503, UNAVAILABLE, {})]
    with pytest.raises(ServerUnreachableError, match=r"Creating workflow 'W': no answer from http://127"):
        client.workflows.create({"name": "W"})
    with pytest.raises(ApiError, match="Running execution 'exec-1' again: The database is away") as failed:
        client.executions.rerun("exec-1", ["a", "b"])
    assert (failed.value.status, failed.value.code) == (503, "graph_unavailable")
    assert book.asked[1:] == [("POST", "/api/executions/exec-1/rerun?from=a&from=b", "")]


def test_who_asked_too_often_comes_again_when_the_server_says(client: Any, book: Book) -> None:
    often = {"detail": "Too many.", "code": "rate_limited"}
    book.answers = [(429, often, {"Retry-After": "0"}), (429, often, {"Retry-After": "0"}), (200, EXECUTION, {})]
    assert client.executions.rerun("exec-1").id == "exec-1"
    book.answers = [(429, often, {"Retry-After": "100"})]
    with pytest.raises(RateLimitError, match=r"Stopping execution 'exec-1': Too many\.") as refused:
        client.executions.stop("exec-1")
    assert refused.value.retry_after == 100


def test_a_server_that_stays_away_is_given_up(connect: Callable[..., Any], book: Book) -> None:
    book.answers = [LOST, LOST]
    with pytest.raises(ServerUnreachableError, match="The list of workflows"):
        connect(book.url, retries=1).workflows.list()
    assert book.answers == []


@pytest.mark.parametrize(("status", "body"), [(200, "<html>hello</html>"), (200, {}), (500, "oops"), (302, "")])
def test_an_answer_of_something_else_is_told_as_such(client: Any, book: Book, status: int, body: Any) -> None:
    book.answers = [(status, body, {})]
    with pytest.raises(ApiError, match="Execution 'exec-1': ") as refused:
        client.executions.get_status("exec-1")
    assert refused.value.status == status


def test_a_connection_that_is_lost_is_made_again(connect: Callable[..., Any]) -> None:
    heard: list[list[str]] = []

    def tell(socket: ServerConnection) -> None:
        heard.append([json.loads(socket.recv())["action"] for _ in range(2)])
        status = "running" if len(heard) == 1 else "completed"
        socket.send(json.dumps({"event": "execution:update", "data": {"execution_id": "exec-1", "status": status}}))
        if len(heard) > 1:
            socket.send('{"event": "pong", "data": {}}')

    with serve_sockets(tell, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        told = [each.data["status"] for each in client.executions.watch("exec-1")]
        server.shutdown()
        thread.join()
    assert told == ["running", "completed"]
    assert heard == [["subscribe", "ping"]] * 2
