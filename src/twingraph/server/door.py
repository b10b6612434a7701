"""What every request passes on its way in: who asks, how often, how much; and the headers on its way out.

Written for ASGI itself: it runs for each request, and a middleware of the framework would cost more than the rest.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from twingraph import wire
from twingraph.errors import GraphError
from twingraph.server.callers import Caller
from twingraph.server.context import Context
from twingraph.server.limits import Meter
from twingraph.server.problems import Problem, unavailable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_VENDOR = "application/vnd.twingraph."
_API = "/api/"
_BULK = "/api/bulk/"
_METRICS = "/metrics"


class Door:
    """The way in and out."""

    def __init__(self, app: App, context: Context) -> None:
        self._app = app
        self._gate = context.gate
        self._limits = context.limits
        self._traffic = context.traffic
        self._context = context
        self._meter = Meter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._traffic.counting(scope["method"], send)
        headers = Headers(scope=scope)
        extra: dict[str, str] = {"X-API-Version": wire.API_VERSION}
        try:
            if scope["path"].startswith((_API, _METRICS)):
                await self._enter(scope, headers, extra)
            wanted = _wanted(headers, scope["path"])
            receive = await _bounded(headers, receive, self._limits.body)
        except Problem as problem:
            await _answer(send, problem, {**extra, **problem.headers})
            return
        await self._app(scope, receive, _dressed(send, extra, wanted))

    async def _enter(self, scope: Scope, headers: Headers, extra: dict[str, str]) -> None:
        """Find out who asks, and count it; who does not say it is counted by their address, and guesses no faster."""
        address = scope["client"][0] if scope.get("client") else "unknown"
        try:
            caller = await self._caller(headers, address)
        except Problem:
            self._count(f"ip:{address}", scope["path"], extra)
            raise
        scope.setdefault("state", {})["caller"] = caller
        self._count(caller.name, scope["path"], extra)
        self._context.refuse_strange(caller, headers.get("host", ""))

    async def _caller(self, headers: Headers, address: str) -> Caller:
        known = self._gate.at_once(address)
        if known is not None:
            return known
        try:
            return await run_in_threadpool(self._gate.caller, headers, address)
        except GraphError as error:
            raise unavailable(error) from error

    def _count(self, client: str, path: str, extra: dict[str, str]) -> None:
        """Count a request of the API; one too many is a `Problem`."""
        bulk = path.startswith(_BULK)
        limit = self._limits.bulk if bulk else self._limits.requests
        if not limit or not path.startswith(_API):
            return
        verdict = self._meter.count(f"{client}{' bulk' if bulk else ''}", limit)
        extra.update(verdict.headers)
        if not verdict.allowed:
            raise Problem(
                429, "rate_limited", f"More than {limit} {'bulk ' if bulk else ''}requests in a minute.",
                f"Ask again in {verdict.headers['Retry-After']} s. The WebSocket tells what happens without asking.",
            )  # fmt: skip


def _wanted(headers: Headers, path: str) -> bool:
    """Whether the answer is wanted as our own media type; a version that is not spoken here is a `Problem`."""
    accepted = [each.split(";")[0].strip() for each in headers.get("accept", "").split(",")]
    ours = [each for each in accepted if each.startswith(_VENDOR)]
    if ours and wire.MEDIA_TYPE not in ours and path.startswith("/api"):
        detail = f"This server speaks {wire.MEDIA_TYPE}, not {ours[0][:100]}."
        raise Problem(406, "version_not_supported", detail, f"Accept: {wire.MEDIA_TYPE}")
    return bool(ours)


async def _bounded(headers: Headers, receive: Receive, most: int) -> Receive:
    """The body, up to a size. One that does not say its size is read here, so that it can be refused whole."""
    too_large = Problem(413, "body_too_large", f"The request is larger than {most:,} bytes.")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large
    if length or "transfer-encoding" not in headers:
        return receive
    read: deque[Message] = deque()
    size, more = 0, True
    while more:
        message = await receive()
        read.append(message)
        size += len(message.get("body", b""))
        more = bool(message.get("more_body", False))
        if size > most:
            raise too_large

    async def again() -> Message:
        return read.popleft() if read else await receive()

    return again


def _dressed(send: Send, extra: Mapping[str, str], ours: bool) -> Send:
    """What sends the answer with our headers."""
    lines = [(name.lower().encode(), value.encode()) for name, value in extra.items()]

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if ours:
                plain, vendor = (b"content-type", b"application/json"), (b"content-type", wire.MEDIA_TYPE.encode())
                headers = [vendor if tuple(each) == plain else each for each in headers]
            message = {**message, "headers": [*headers, *lines]}
        await send(message)

    return dressed


async def _answer(send: Send, problem: Problem, headers: Mapping[str, str]) -> None:
    body = wire.ErrorBody(detail=problem.detail, code=problem.code, hint=problem.hint)
    content = json.dumps(body.model_dump(exclude_none=True)).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    told = [(name.lower().encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": told})
    await send({"type": "http.response.body", "body": content})
