"""/ws: what happens in executions, as it happens.

A client sends `{"action": "subscribe", "execution_id": ...}` and gets first how things are, then what changes: nothing
is missed between the two, also when the execution is over. Without an id it hears of all executions. Each client has a
queue of its own; one that does not keep up loses what is in it and gets how things are instead, and hinders nobody.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from twingraph import wire
from twingraph.server.callers import Caller
from twingraph.server.context import Context
from twingraph.server.live import Told
from twingraph.server.problems import Problem
from twingraph.server.service import Service

router = APIRouter()

_MOST_WAITING = 2_000
_LONGEST = 64 << 10
_MOST_SUBSCRIPTIONS = 1_000
_TOGETHER = 200  # messages that are sent before others get a turn
_ACTIONS = ("subscribe", "unsubscribe", "ping")


@router.websocket("/ws")
async def listen(socket: WebSocket) -> None:
    """Let a client listen."""
    context: Context = socket.app.state.context
    try:
        caller = await run_in_threadpool(_caller, context, socket)
    except Problem as problem:
        body = wire.ErrorBody(detail=problem.detail, code=problem.code, hint=problem.hint)
        await socket.send_denial_response(
            JSONResponse(body.model_dump(exclude_none=True), problem.status, problem.headers)
        )
        return
    try:
        await socket.accept()
        await _Client(socket, context).serve()
    finally:
        context.sockets.leave(caller.name)


def _caller(context: Context, socket: WebSocket) -> Caller:
    """Who it is; a `Problem` for a page of another origin, for who may not read, and for one socket too many."""
    origin = socket.headers.get("origin")
    if origin and origin not in context.origins and urlsplit(origin).netloc != socket.headers.get("host"):
        detail = f"A page of {origin} may not listen here."
        raise Problem(403, "origin_refused", detail, "TWINGRAPH_ORIGINS names the origins that may.")
    address = socket.client.host if socket.client else "unknown"
    caller = context.gate.caller(socket.headers, address, socket.query_params)
    limit = context.limits.sockets
    if not context.sockets.enter(caller.name, limit):
        raise Problem(
            429, "too_many_sockets", f"This client has {limit} WebSockets open already.", "Close one of them."
        )
    return caller


class _Client:
    """One client that listens."""

    def __init__(self, socket: WebSocket, context: Context) -> None:
        self._socket = socket
        self._service = context.service
        self._hub = context.hub
        self._subscribed: set[str] = set()
        self._all = False
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._behind = False

    async def serve(self) -> None:
        """Until the client goes."""
        forget = self._hub.listen(self._hear)
        sending = asyncio.create_task(self._send())
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                text = message.get("text")
                await self._answer(message["bytes"].decode("utf-8", "replace") if text is None else text)
        except WebSocketDisconnect:
            pass
        finally:
            forget()
            sending.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sending

    def _hear(self, told: Told) -> None:
        if self._all or told.execution in self._subscribed:
            self._put(told.text)

    def _put(self, text: str) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.clear()
            self._behind = True
        self._waiting.append(text)
        self._news.set()

    async def _send(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._behind:
                self._behind = False
                for each in tuple(self._subscribed):
                    await self._snapshot(each)
            sent = 0
            while self._waiting:
                await self._socket.send_text(self._waiting.popleft())
                sent += 1
                if sent % _TOGETHER == 0:
                    await asyncio.sleep(0)

    async def _answer(self, text: str) -> None:
        try:
            action, execution = _read(text)
            await self._do(action, execution)
        except Problem as problem:
            told = {"code": problem.code, "error": problem.detail, "hint": problem.hint}
            self._put(json.dumps({"event": "error", "data": {key: each for key, each in told.items() if each}}))

    async def _do(self, action: str, execution: str) -> None:
        match action:
            case "ping":
                self._put('{"event": "pong", "data": {}}')
            case "subscribe" if not execution:
                self._all = True
                self._put('{"event": "subscribed", "data": {"execution_id": null}}')
            case "subscribe":
                if len(self._subscribed) >= _MOST_SUBSCRIPTIONS:
                    raise Problem(
                        429, "too_many_subscriptions", f"One socket hears of {_MOST_SUBSCRIPTIONS:,} executions."
                    )
                self._subscribed.add(execution)  # first, so that nothing is missed while the snapshot is made
                try:
                    await self._snapshot(execution)
                except Problem:
                    self._subscribed.discard(execution)
                    raise
            case _:
                self._subscribed.discard(execution)
                self._all = self._all and bool(execution)
                self._put(json.dumps({"event": "unsubscribed", "data": {"execution_id": execution or None}}))

    async def _snapshot(self, execution: str) -> None:
        for each in await run_in_threadpool(snapshot, self._service, execution):
            self._put(json.dumps(each))


def _read(text: str) -> tuple[str, str]:
    """The action and the execution that a message names."""
    if len(text) > _LONGEST:
        raise Problem(422, "message_too_large", f"A message has at most {_LONGEST:,} characters.")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(422, "not_json", 'A message is a JSON object such as {"action": "subscribe"}.') from None
    action = told.get("action") if isinstance(told, dict) else None
    if action not in _ACTIONS:
        raise Problem(422, "unknown_action", f"A message has an action: {', '.join(_ACTIONS)}.")
    execution = told.get("execution_id")
    if execution is not None and not isinstance(execution, str):
        raise Problem(422, "not_an_id", "execution_id is a text.")
    return action, execution or ""


def snapshot(service: Service, execution: str) -> list[dict[str, Any]]:
    """How an execution is: as a client would know that has listened from the beginning."""
    told = service.execution(execution)
    made = [update(told.execution_id, told.status, told.progress)]
    return made + [
        node_status(execution, each) for each in wire.Graph.model_validate(service.graph_of(execution)).nodes
    ]


def update(execution: str, status: str, progress: wire.Progress) -> dict[str, Any]:
    """The event that tells of an execution."""
    data = {"execution_id": execution, "status": status, "progress": progress.model_dump()}
    return {"event": "execution:update", "data": data}


def node_status(execution: str, node: wire.GraphNode) -> dict[str, Any]:
    """The event that tells of a node."""
    data = {
        "execution_id": execution,
        "node_id": node.id,
        "status": node.status,
        "duration": node.duration,
        "outputs": node.properties.get("outputs"),
    }
    return {"event": "node:status", "data": data}
