"""How many calls of a pipeline run at once: places that are given out in the order in which they were asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Task = Callable[[], None]


class Slots:
    """A limit; the places of a nested pipeline also count in the one around it."""

    def __init__(self, limit: int, outer: Slots | None = None) -> None:
        self._free = limit
        self._outer = outer
        self._waiting: deque[Task] = deque()
        self._lock = threading.Lock()

    def take(self, task: Task) -> None:
        """Call the task as soon as there is a place for it: now, or in the thread that gives one back."""
        outer = self._outer
        inner = task if outer is None else lambda: outer.take(task)
        with self._lock:
            if self._free <= 0:
                self._waiting.append(inner)
                return
            self._free -= 1
        inner()

    def take_now(self) -> bool:
        """Take a place if that needs no waiting; whether it was taken."""
        if self._outer is not None:
            return False
        with self._lock:
            if self._free <= 0 or self._waiting:
                return False
            self._free -= 1
        return True

    def give(self) -> None:
        """Give a place back."""
        if self._outer is not None:
            self._outer.give()
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            task = self._waiting.popleft()
        task()

    @contextmanager
    def lent(self, ready: threading.Event) -> Iterator[None]:
        """Let another have the place meanwhile; `ready` is set when this one has a place again."""
        self.give()
        try:
            yield
        finally:
            self.take(ready.set)


held: ContextVar[Slots | None] = ContextVar("held", default=None)
"""Where the component that is running has a place."""
