"""What a server answered so far: how many requests of each method, with which status, and how long they took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class Traffic:
    """Counts answers, in the loop of the server."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()

    def counting(self, method: str, send: Send) -> Send:
        """What sends the answer, and counts it when it begins."""
        method = method if method in METHODS else "other"  # anybody can make up methods
        began = time.perf_counter()

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.answers[method, message["status"]] += 1
                self.seconds[method] += time.perf_counter() - began  # type: ignore[assignment]  # it adds floats too
            await send(message)

        return counted
