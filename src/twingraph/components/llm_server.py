"""A language model for rehearsals: a small server that speaks both protocols, streams, and can be made to fail.

    with LanguageModel(lambda asked: f"You said: {asked.prompt}") as model:
        llm = LLMPrompt(model="rehearsal", base_url=model.url, api_key=model.key)
        llm(prompt="Good morning")["response"]

It has no model in it: a function says what is answered; without one, the prompt's first words. `faults` are what
happens to the next requests instead. It is for tests, examples and work without a network, and listens on this machine
only.

    python -m twingraph.components.llm_server --port 8123

stands for OpenAI with `OPENAI_BASE_URL=http://127.0.0.1:8123/v1`, for Anthropic with
`ANTHROPIC_BASE_URL=http://127.0.0.1:8123`, and takes any key.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lokki.frozen import field, frozen
from twingraph.components.llm_replies import (
    ANTHROPIC,
    OPENAI,
    Asked,
    Json,
    Reply,
    anthropic,
    anthropic_events,
    event_of,
    first_words,
    openai,
    openai_events,
)

KEY = "rehearsal-key-1234"
_ABOUT = "A language model for rehearsals, without a model: it answers with the first words of what it is asked."
_WAIT = 0.02


@frozen
class Fault:
    """What happens to one request instead of an answer.

    Attributes:
        status: the status of an error; 0 for none.
        message: what the error says.
        code: the error's word for programs.
        headers: what the answer has besides, such as `Retry-After`.
        body: sent as it is.
        events: a stream ends after so many events; with 0, and without a status, there is no answer at all.
        error: the stream goes on with this error.
        silent: nothing more is said until the client is gone.
    """

    status: int = 0
    message: str = "something went wrong"
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    events: int = 0
    error: str = ""
    silent: bool = False


Answering = Callable[[Asked], "str | Reply"]


class LanguageModel:
    """The server; it is there as long as the block.

    Attributes:
        asked: the requests that came, oldest first.
        faults: what happens to the next requests, one after the other.
        connections: how many there were.
        gone: set when a client left before its answer was whole.
        models: the models that there are; all, where none is named.
        context: how many words a request may have.
    """

    def __init__(
        self,
        answer: Answering = first_words,
        *,
        key: str = KEY,
        models: tuple[str, ...] = (),
        context: int = 100_000,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.key = key
        self.models = models
        self.context = context
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.connections = 0
        self.gone = threading.Event()
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"model": self}))
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """What OpenAI's protocol takes as its base; Anthropic's takes it as well."""
        return f"{self.address}/v1"

    def serve(self) -> None:
        """Answer until it is closed."""
        self._server.serve_forever(_WAIT)

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.ending.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> LanguageModel:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ending = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the rehearsal; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    model: LanguageModel
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.model.connections += 1

    def do_POST(self) -> None:
        model = self.model
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(self.path, {name.lower(): each for name, each in self.headers.items()}, body)
        model.asked.append(asked)
        fault = model.faults.popleft() if model.faults else None
        try:
            refused = self._refused(asked)
            if refused is not None:
                self._error(asked, *refused)
            elif fault is not None and not (fault.events or fault.error):
                self._fail(asked, fault)
            else:
                self._say(asked, fault)
        except ConnectionError:
            model.gone.set()
            self.close_connection = True

    def _refused(self, asked: Asked) -> tuple[int, str, str] | None:
        """What a provider would not answer: status, message and code."""
        given = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        named = asked.body.get("model")
        words = len(json.dumps(asked.body["messages"]).split())
        if asked.path not in (OPENAI, ANTHROPIC):
            return 404, f"There is nothing at {asked.path}", "not_found"
        if self.model.key and given != self.model.key:
            return 401, f"Incorrect API key provided: {given}", "invalid_api_key"
        if self.model.models and named not in self.model.models:
            return 404, f"The model `{named}` does not exist", "model_not_found"
        if words > self.model.context:
            told = f"This model's maximum context length is {self.model.context} tokens, and {words} were sent"
            return 400, told, "context_length_exceeded"
        return None

    def _fail(self, asked: Asked, fault: Fault) -> None:
        if fault.silent:
            self._until_gone()
        elif fault.body is not None:
            self._send(fault.status or 200, fault.body, "application/json", fault.headers)
        elif fault.status:
            self._error(asked, fault.status, fault.message, fault.code, fault.headers)
        self.close_connection = self.close_connection or not (fault.status or fault.body)

    def _error(
        self, asked: Asked, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        told: Json = {"message": message, "type": code or "server_error", "code": code or None}
        body = {"type": "error", "error": told} if asked.anthropic else {"error": told}
        self._send(status, json.dumps(body), "application/json", headers or {})

    def _say(self, asked: Asked, fault: Fault | None) -> None:
        made = self.model.answer(asked)
        reply = Reply(made) if isinstance(made, str) else made
        used = len(json.dumps(asked.body["messages"]).split()), len(reply.text.split()) + 5 * len(reply.tool_calls)
        if not asked.body.get("stream"):
            whole = (anthropic if asked.anthropic else openai)(asked, reply, *used)
            self._send(200, json.dumps(whole), "application/json", {})
            return
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = (anthropic_events if asked.anthropic else openai_events)(asked, reply, *used)
        self._stream(asked, list(events), fault)

    def _stream(self, asked: Asked, events: list[str], fault: Fault | None) -> None:
        for each in events if fault is None else events[: fault.events]:
            self._chunk(each)
        if fault is None:
            self._chunk("")
            return
        if fault.error:
            error = {"message": fault.message, "type": fault.error, "code": fault.error}
            told: Json = {"type": "error", "error": error} if asked.anthropic else {"error": error}
            self._chunk(event_of(told, "error" if asked.anthropic else ""))
        if fault.silent:
            self._until_gone()
        self.close_connection = True

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status: int, body: str, kind: str, headers: Mapping[str, str]) -> None:
        data = body.encode()
        self.send_response_only(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _until_gone(self) -> None:
        """Wait until the client has gone, or this server ends."""
        while not self.server.ending.is_set():
            if select.select([self.connection], [], [], _WAIT)[0] and not self.connection.recv(1):
                raise ConnectionResetError
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
        pass


def main() -> None:
    """Serve until somebody stops it."""
    parser = argparse.ArgumentParser(
        prog="python -m twingraph.components.llm_server", description="A language model for rehearsals."
    )
    parser.add_argument("--port", type=int, default=8123)
    options = parser.parse_args()
    model = LanguageModel(key="", port=options.port)
    sys.stderr.write(f"OPENAI_BASE_URL={model.url} ANTHROPIC_BASE_URL={model.address}\n")
    try:
        model.serve()
    except KeyboardInterrupt:
        model.close()


if __name__ == "__main__":
    main()
