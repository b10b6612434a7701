"""Who wants to know what happens in executions: whoever waits for an end, and the clients of the WebSocket.

Events come from threads; they are handed to the loop of the server, where everything here lives.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

OVER = ("completed", "failed", "stopped")

Message = dict[str, Any]


class Told:
    """A message of an execution, on its way to many."""

    def __init__(self, execution: str, message: Message) -> None:
        self.execution = execution
        self.message = message

    @cached_property
    def text(self) -> str:
        """As it is sent, made once for all."""
        return json.dumps(self.message)

    @property
    def ends(self) -> bool:
        """Whether it says that the execution is over."""
        return bool(self.message["event"] == "execution:update" and self.message["data"]["status"] in OVER)


Hear = Callable[[Told], None]


class Hub:
    """Hands messages of executions on to those who listen."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[Hear] = set()

    def open(self) -> None:
        """Begin, in the loop of the server."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Hand nothing on any more."""
        self._loop = None
        self._listeners.clear()

    def publish(self, execution: str, message: Message) -> None:
        """Hand a message on; from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._hand_on, Told(execution, message))

    def listen(self, hear: Hear) -> Callable[[], None]:
        """Call `hear` with each message, in the loop; returns what ends that."""
        self._listeners.add(hear)
        return lambda: self._listeners.discard(hear)

    async def over(self, execution: str, seconds: float, is_over: Callable[[], bool]) -> None:
        """Wait until an execution is over, at most so long. `is_over` is asked from time to time as well."""
        ended = asyncio.Event()

        def hear(told: Told) -> None:
            if told.execution == execution and told.ends:
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

    def _hand_on(self, told: Told) -> None:
        for hear in tuple(self._listeners):
            hear(told)
