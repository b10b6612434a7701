"""Warm containers that wait for a call, each for so long and no longer."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Generic, Protocol, TypeVar


class Removable(Protocol):
    """What can wait here."""

    def remove(self) -> None:
        """End it."""


T = TypeVar("T", bound=Removable)


class Idle(Generic[T]):
    """At most `most` under each key, each for so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._waiting: dict[str, list[tuple[float, T]]] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def take(self, key: str) -> T | None:
        """The one that was used last; None when none waits."""
        with self._lock:
            several = self._waiting.get(key)
            return several.pop()[1] if several else None

    def keep(self, key: str, each: T) -> bool:
        """Let it wait; False when enough do."""
        with self._lock:
            several = self._waiting.setdefault(key, [])
            if len(several) >= self._most:
                return False
            several.append((monotonic() + self._seconds, each))
            self._watch()
            return True

    def close(self) -> None:
        """Remove all."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            left = [each for several in self._waiting.values() for _, each in several]
            self._waiting.clear()
        for each in left:
            each.remove()

    def _watch(self) -> None:
        """See to it that somebody comes back when the first has waited long enough."""
        ends = [end for several in self._waiting.values() for end, _ in several]
        if self._timer is None and ends:
            self._timer = threading.Timer(max(min(ends) - monotonic(), 0), self._late)
            self._timer.daemon = True
            self._timer.start()

    def _late(self) -> None:
        now = monotonic()
        with self._lock:
            self._timer = None
            late = [each for several in self._waiting.values() for end, each in several if end <= now]
            for key, several in list(self._waiting.items()):
                several[:] = [one for one in several if one[0] > now]
                if not several:
                    del self._waiting[key]
            self._watch()
        for each in late:
            each.remove()
