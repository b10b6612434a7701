"""/ws: what happens in executions, as it happens.

A client sends `{"action": "subscribe", "execution_id": ...}` and gets first how things are, then what changes: nothing
is missed between the two, also when the execution is over. Without an id it hears of all executions.

Messages are written to a client as they come, whole batches at once. What one that is behind does not take waits in a
queue of its own; when that is full, the client loses what is in it and hinders nobody: it is told how many messages
these were, and how the executions are that they were about. Answers to what it said itself are not lost.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from lokki.errors import nearest
from twingraph import wire
from twingraph.errors import GraphError, TwinGraphError
from twingraph.server.callers import Caller
from twingraph.server.context import Context
from twingraph.server.frames import WIRE, Piece, Wire
from twingraph.server.live import Batch
from twingraph.server.problems import Problem, unavailable
from twingraph.server.service import Service

router = APIRouter()

_MOST_WAITING = 10_000
_ROOM = 16 << 20  # bytes that may wait
_LONGEST = 64 << 10
_MOST_SUBSCRIPTIONS = 1_000
_MOST_ANSWERS = 100  # that are kept for who does not take them
_TOGETHER = 1 << 16  # bytes that are written before others get a turn
_PAUSE = 1.0  # seconds
_FIELDS = ("action", "execution_id")
_ACTIONS = ("subscribe", "unsubscribe", "ping")


@router.websocket("/ws")
async def listen(socket: WebSocket) -> None:
    """Let a client listen."""
    context: Context = socket.app.state.context
    try:
        caller = await run_in_threadpool(_caller, context, socket)
    except (Problem, GraphError) as error:
        problem = error if isinstance(error, Problem) else unavailable(error)
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
    context.refuse_strange(caller, socket.headers.get("host", ""))
    limit = context.limits.sockets
    if not context.sockets.enter(caller.name, limit):
        raise Problem(
            429, "too_many_sockets", f"This client has {limit} WebSockets open already.", "Close one of them."
        )
    return caller


class _Queue:
    """What waits for a client."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._messages = self._size = self._missed = 0
        self._about: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def put(self, piece: Piece) -> bool:
        """Let it wait; False when there was too much, so that how things are has to be told instead."""
        full = self._messages + len(piece) > _MOST_WAITING or self._size + len(piece.frames) > _ROOM
        if full:
            self._drop()
        self._pieces.append(piece)
        self._messages += len(piece)
        self._size += len(piece.frames)
        return not full

    def missed(self) -> tuple[int, list[str]]:
        """Forget all but some answers: how many messages are forgotten by now, and which executions they were about."""
        self._drop()
        told = self._missed, list(self._about)
        self._missed, self._about = 0, {}
        return told

    def _drop(self) -> None:
        answers = [each for each in self._pieces if not each.about][:_MOST_ANSWERS]
        for each in self._pieces:
            if each.about:
                self._missed += len(each)
                self._about |= dict.fromkeys(each.about)
        self._pieces = deque(answers)
        self._messages = sum(map(len, answers))
        self._size = sum(len(each.frames) for each in answers)

    def take(self) -> list[Piece]:
        """Some of it, in order."""
        taken, size = [], 0
        while self._pieces and size < _TOGETHER:
            taken.append(self._pieces.popleft())
            size += len(taken[-1].frames)
            self._messages -= len(taken[-1])
        self._size -= size
        return taken


class _Client:
    """One client that listens."""

    def __init__(self, socket: WebSocket, context: Context) -> None:
        self._socket = socket
        self._wire: Wire | None = socket.scope.get("extensions", {}).get(WIRE, {}).get("wire")
        self._service = context.service
        self._hub = context.hub
        self._subscribed: set[str] = set()
        self._all = False
        self._waiting = _Queue()
        self._news = asyncio.Event()
        self._behind = False
        self._busy = False  # something is being sent, so that what comes now has to wait for it

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

    def _hear(self, batch: Batch) -> None:
        if self._all:
            self._put(batch.whole)
        elif self._subscribed:
            for execution in batch.by_execution.keys() & self._subscribed:
                self._put(batch.by_execution[execution])

    def _say(self, *messages: dict[str, Any]) -> None:
        self._put(Piece([json.dumps(each) for each in messages]))

    def _put(self, piece: Piece) -> None:
        """Write messages where that can be done at once; else they wait."""
        idle = not (self._busy or self._behind or self._waiting)
        if idle and self._wire is not None and self._wire.write(piece.frames):
            return
        if not self._waiting.put(piece):
            self._behind = True
        self._news.set()

    async def _send(self) -> None:
        """Send what waits."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._busy = True
            while self._behind or self._waiting:
                if self._behind:
                    await self._catch_up()
                await self._write(self._waiting.take())
            self._busy = False

    async def _catch_up(self) -> None:
        """Tell how much was lost, and how things are; when the database is away, as soon as it is back."""
        self._behind = False
        count, about = self._waiting.missed()
        told = {"event": "missed", "data": {"messages": count, "executions": len(about)}}
        await self._write([Piece([json.dumps(told)])] if count else [])
        try:
            for each in tuple(self._subscribed):
                await self._write([await self._state(each)])
            if self._all:
                others = [each for each in about if each not in self._subscribed]
                await self._write([await run_in_threadpool(_updates, self._service, others[-_MOST_SUBSCRIPTIONS:])])
        except TwinGraphError:
            self._behind = True
            await asyncio.sleep(_PAUSE)

    async def _write(self, pieces: list[Piece]) -> None:
        """Send messages when the client takes them."""
        if self._wire is None:
            for text in (text for each in pieces for text in each.texts):
                await self._socket.send_text(text)
        elif pieces:
            frames = b"".join(each.frames for each in pieces)
            while await self._wire.written():
                if self._wire.write(frames):
                    break
        await asyncio.sleep(0)

    async def _answer(self, text: str) -> None:
        try:
            action, execution = _read(text)
            await self._do(action, execution)
        except Problem as problem:
            told = {"code": problem.code, "error": problem.detail, "hint": problem.hint}
            self._say({"event": "error", "data": {key: each for key, each in told.items() if each}})

    async def _do(self, action: str, execution: str) -> None:
        match action:
            case "ping":
                self._say({"event": "pong", "data": {}})
            case "subscribe" if not execution:
                self._all = True
                self._say({"event": "subscribed", "data": {"execution_id": None}})
            case "subscribe":
                if len(self._subscribed) >= _MOST_SUBSCRIPTIONS:
                    raise Problem(
                        429, "too_many_subscriptions", f"One socket hears of {_MOST_SUBSCRIPTIONS:,} executions."
                    )
                self._subscribed.add(execution)  # first, so that nothing is missed while the snapshot is made
                try:
                    self._put(await self._state(execution))
                except Problem:
                    self._subscribed.discard(execution)
                    raise
            case _:
                self._subscribed.discard(execution)
                self._all = self._all and bool(execution)
                self._say({"event": "unsubscribed", "data": {"execution_id": execution or None}})

    async def _state(self, execution: str) -> Piece:
        return await run_in_threadpool(_state, self._service, execution)


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
    strangers = [each for each in told if each not in _FIELDS]
    if not execution and action != "ping" and strangers:  # without one it is all of them, which is hardly meant here
        name = strangers[0]
        detail = f"A message has no field {name[:100]!r}{nearest(name, _FIELDS) or '; it names an execution_id.'}"
        raise Problem(422, "unknown_field", detail)
    return action, execution or ""


def _state(service: Service, execution: str) -> Piece:
    """How an execution is: as a client would know that has listened from the beginning."""
    told = service.execution(execution)
    nodes = json.loads(service.graph_of(execution))["nodes"]
    made = [update(told.execution_id, told.status, told.progress), *(node_status(execution, each) for each in nodes)]
    piece = Piece([json.dumps(each) for each in made], (execution,))
    _ = piece.frames  # made here, where nobody waits for it
    return piece


def _updates(service: Service, executions: Sequence[str]) -> Piece:
    """How these executions are, without their nodes."""
    made = [update(each, status, progress) for each, status, progress in service.states(executions)]
    return Piece([json.dumps(each) for each in made], executions)


def update(execution: str, status: str, progress: wire.Progress) -> dict[str, Any]:
    """The event that tells of an execution."""
    data = {"execution_id": execution, "status": status, "progress": progress.model_dump()}
    return {"event": "execution:update", "data": data}


def node_status(execution: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The event that tells of a node of the graph."""
    data = {
        "execution_id": execution,
        "node_id": node["id"],
        "status": node["status"],
        "duration": node["duration"],
        "outputs": node["properties"].get("outputs"),
    }
    return {"event": "node:status", "data": data}
