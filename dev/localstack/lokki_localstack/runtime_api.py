"""Lambda's Runtime API (version 2018-06-01) for one process: it asks for calls and answers them over HTTP.

What the process says is put into `RuntimeApi.events`, in order. Calls go the other way, by `RuntimeApi.offer`.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = "/2018-06-01/runtime"
MOST_BYTES = 6 * 1024 * 1024 + 100
"""How long an answer may be."""
_ANSWER = re.compile(rf"^{ROOT}/invocation/([^/]+)/(response|error)$")


@dataclass(frozen=True)
class Invocation:
    """A call of the function."""

    request_id: str
    payload: bytes
    function_arn: str
    trace_id: str = ""


@dataclass(frozen=True)
class Ready:
    """The process asked for its next call."""


@dataclass(frozen=True)
class InitError:
    """The process could not load the handler."""

    payload: bytes


@dataclass(frozen=True)
class Result:
    """The process answered a call."""

    request_id: str
    payload: bytes
    is_error: bool


@dataclass(frozen=True)
class Exited:
    """The process ended."""

    returncode: int


Event = Ready | InitError | Result | Exited


class RuntimeApi:
    """The server, on a free port of loopback."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._offered: queue.SimpleQueue[tuple[Invocation, int] | None] = queue.SimpleQueue()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self.address = f"127.0.0.1:{self._server.server_port}"
        # the interval is how long a shutdown may take; requests do not wait for it
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def offer(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hand a call to the process, which asks for it now or later."""
        self._offered.put((invocation, deadline_ms))

    def close(self) -> None:
        """Answer no more."""
        self._offered.put(None)
        self._server.shutdown()
        self._server.server_close()

    def next(self) -> tuple[Invocation, int] | None:
        """The next call, once there is one; None when this is closed."""
        self.events.put(Ready())
        offered = self._offered.get()
        if offered is None:
            self._offered.put(None)  # whoever else waits
        return offered


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A process that is killed leaves a broken connection; its end is reported as such."""


class _Handler(BaseHTTPRequestHandler):
    api: RuntimeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        if self.path != f"{ROOT}/invocation/next":
            return self._reply(HTTPStatus.NOT_FOUND)
        offered = self.api.next()
        if offered is None:
            self.close_connection = True
            return None
        invocation, deadline_ms = offered
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        return self._reply(HTTPStatus.OK, invocation.payload, headers)

    def do_POST(self) -> None:
        body = self._body()
        answer = _ANSWER.match(self.path)
        if self.path == f"{ROOT}/init/error":
            self.api.events.put(InitError(body))
        elif answer is None:
            return self._reply(HTTPStatus.NOT_FOUND)
        elif len(body) > MOST_BYTES:
            said = f"Response payload size exceeded maximum allowed payload size ({MOST_BYTES} bytes)."
            self.api.events.put(Result(answer[1], error("Function.ResponseSizeTooLarge", said), is_error=True))
        else:
            self.api.events.put(Result(answer[1], body, is_error=answer[2] == "error"))
        return self._reply(HTTPStatus.ACCEPTED)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _reply(self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def error(kind: str, message: str) -> bytes:
    """A failure as Lambda answers it."""
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
