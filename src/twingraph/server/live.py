"""Who wants to know what happens in executions: whoever waits for an end, and the clients of the WebSocket.

Events come from threads; they are handed to the loop of the server, where everything here lives. The first is handed
on at once; what comes soon after waits a little and goes together, so that many events for many clients cost one
writing for each client and not one for each event.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from twingraph.server.frames import Piece

OVER = ("completed", "failed", "stopped")

Message = dict[str, Any]

_APART = 0.02  # seconds between two times that something is handed on
_SHARE = 2.0  # times as long as handing on took, so that the loop has time for other things


class Batch:
    """Messages of executions, in order, on their way to many."""

    def __init__(self, told: Sequence[tuple[str, Message]]) -> None:
        self._told = told

    @cached_property
    def ended(self) -> set[str]:
        """The executions that are over, as one of the messages says."""
        return {
            execution
            for execution, message in self._told
            if message["event"] == "execution:update" and message["data"]["status"] in OVER
        }

    @cached_property
    def whole(self) -> Piece:
        """All messages."""
        return Piece([json.dumps(message) for _, message in self._told], (execution for execution, _ in self._told))

    @cached_property
    def by_execution(self) -> dict[str, Piece]:
        """The messages of each execution."""
        texts: dict[str, list[str]] = {}
        for (execution, _), text in zip(self._told, self.whole.texts, strict=True):
            texts.setdefault(execution, []).append(text)
        return {execution: Piece(each, (execution,)) for execution, each in texts.items()}


Hear = Callable[[Batch], None]


class Hub:
    """Hands messages of executions on to those who listen."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[Hear] = set()
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, Message]] = []
        self._due = False  # something will be handed on without being asked for

    def open(self) -> None:
        """Begin, in the loop of the server."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Hand on what waits, and nothing any more."""
        loop, self._loop = self._loop, None
        if loop is not None:
            self._hand_on()
        self._listeners.clear()

    def publish(self, execution: str, message: Message) -> None:
        """Hand a message on; from any thread."""
        loop = self._loop
        if loop is None or not self._listeners:
            return
        with self._lock:
            self._waiting.append((execution, message))
            due, self._due = self._due, True
        if not due:
            with suppress(RuntimeError):  # it is closed by now
                loop.call_soon_threadsafe(self._flush)

    def listen(self, hear: Hear) -> Callable[[], None]:
        """Call `hear` with the messages, in the loop; returns what ends that."""
        self._listeners.add(hear)
        return lambda: self._listeners.discard(hear)

    async def over(self, execution: str, seconds: float, is_over: Callable[[], bool]) -> None:
        """Wait until an execution is over, at most so long. `is_over` is asked from time to time as well."""
        ended = asyncio.Event()

        def hear(batch: Batch) -> None:
            if execution in batch.ended:
                ended.set()

        forget = self.listen(hear)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                if await asyncio.to_thread(is_over):
                    return
                try:
                    await asyncio.wait_for(ended.wait(), min(left, 1.0))  # another server may have run it
                except TimeoutError:
                    continue
        finally:
            forget()

    def _flush(self) -> None:
        """Hand on what waits, and look again a little later; when nothing came by then, wait to be woken."""
        loop = self._loop
        began = 0.0 if loop is None else loop.time()
        if self._hand_on() and loop is not None:
            loop.call_later(max(_APART, _SHARE * (loop.time() - began)), self._flush)

    def _hand_on(self) -> bool:
        with self._lock:
            told, self._waiting = self._waiting, []
            self._due = bool(told)
        if told:
            batch = Batch(told)
            for hear in tuple(self._listeners):
                hear(batch)
        return bool(told)
