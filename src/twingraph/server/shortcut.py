"""The two calls that are made most often, without the framework's machinery: to ask for an execution, and to read one.

They are defined in `routes.executions` as all calls are. What is out of the ordinary goes there: a body that is not
right, a caller who may not, an execution that is not found, a query. So nothing is decided twice, and both are alike.
"""

from __future__ import annotations

import asyncio
from typing import Any

from twingraph import wire
from twingraph.errors import TwinGraphError
from twingraph.executions.near import Near
from twingraph.fields import utc
from twingraph.server.bodies import read
from twingraph.server.callers import Caller
from twingraph.server.door import App, Message, Receive, Scope, Send
from twingraph.server.keeping import Keeper
from twingraph.server.problems import Problem
from twingraph.server.service import Service
from twingraph.server.views import OVER, progress_of

_PATH = "/api/executions"
_JSON = b"application/json"
_LARGEST = 1 << 20


class ShortCut:
    """Answers what it can, and hands on the rest."""

    def __init__(self, app: App, service: Service) -> None:
        self._app = app
        self._service = service
        self._near = Near.of(service.graph)
        self._keeper = Keeper(service, self._near) if self._near else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        path = scope.get("path", "")
        if path.startswith(_PATH) and scope["type"] == "http" and not scope["query_string"]:
            caller = scope.get("state", {}).get("caller")
            if scope["method"] == "POST" and path == _PATH and caller is not None and caller.may("run"):
                receive = await self._asked(scope, receive, send, caller)
            elif scope["method"] == "GET" and caller is not None and caller.may("read"):
                receive = await self._read(path, receive, send)
        if receive is not _answered:
            await self._app(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> Receive:
        headers = dict(scope["headers"])
        size = headers.get(b"content-length", b"")
        if headers.get(b"content-type") != _JSON or b"idempotency-key" in headers or not size.isdigit():
            return receive
        if int(size) > _LARGEST:
            return receive
        message = await receive()
        if message["type"] != "http.request" or message.get("more_body"):
            return _again(message, receive)
        try:
            body = wire.ExecutionBody.model_validate(read(message.get("body", b"")))
            made = await self._kept(body, caller.name)
        except (ValueError, Problem, TwinGraphError):  # also of JSON, and of what is no ExecutionBody
            return _again(message, receive)
        await _answer(send, 201, made, [(b"location", f"{_PATH}/{made.execution_id}".encode())])
        return _answered

    async def _kept(self, body: wire.ExecutionBody, client: str) -> wire.Execution:
        if self._keeper is not None:
            return await self._keeper.execute(body, client)
        made, _ = await asyncio.to_thread(self._service.execute, body, client)
        return made

    async def _read(self, path: str, receive: Receive, send: Send) -> Receive:
        name = path[len(_PATH) + 1 :]
        if not name or "/" in name:
            return receive
        try:
            told = None if self._near is None else _glance(self._near, name)
        except TwinGraphError:
            return receive
        if told is None:
            return receive
        await _answer(send, 200, told, [])
        return _answered


def _glance(near: Near, name: str) -> wire.Execution | None:
    """An execution that is not over; None for any other."""
    found = near.glance(name)
    if found is None or found.status in OVER:
        return None
    return wire.Execution(
        execution_id=name,
        workflow_id=found.workflow_id,
        name=found.name,
        status=found.status,  # type: ignore[arg-type]  # the graph knows these words only
        started_at=utc(found.started_at),
        progress=progress_of(near.progress(name) if found.host else {}),  # which it has from its beginning on
        rerun_of=found.rerun_of or None,
    )


async def _answered() -> Message:
    """Stands for a request that is answered: there is nothing more to receive."""
    return {"type": "http.disconnect"}


def _again(message: Message, receive: Receive) -> Receive:
    """Receives this message once more, and then what follows."""
    left = [message]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


async def _answer(send: Send, status: int, made: wire.Execution, headers: list[tuple[bytes, bytes]]) -> None:
    body = made.model_dump_json(by_alias=True).encode()
    told = [(b"content-length", str(len(body)).encode()), (b"content-type", _JSON), *headers]
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": told}
    await send(start)
    await send({"type": "http.response.body", "body": body})
