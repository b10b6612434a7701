"""How much one client may ask for: requests a minute, WebSockets at once, and bytes in a body."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from lokki.frozen import frozen
from twingraph.errors import ComponentError

_MINUTE = 60.0
_MOST_CLIENTS = 100_000


@frozen
class Limits:
    """What one client may ask for; 0 is no limit.

    Attributes:
        requests: a minute.
        bulk: bulk requests a minute.
        sockets: WebSockets at once.
        body: bytes of a request.
        wait: seconds that a request may ask to wait for the end of an execution.
    """

    requests: int = 100
    bulk: int = 10
    sockets: int = 10
    body: int = 10 << 20
    wait: float = 60.0


def limits(told: str) -> Limits:
    """What `TWINGRAPH_RATE_LIMIT` says: requests a minute and, after a comma, bulk requests; 0 is no limit."""
    if not told.strip():
        return Limits()
    parts = [each.strip() for each in told.split(",")]
    if len(parts) > 2 or not all(each.isdigit() for each in parts):
        raise ComponentError(
            f"TWINGRAPH_RATE_LIMIT is requests a minute such as 100, or 100,10 with bulk, not {told!r}."
        )
    requests = int(parts[0])
    bulk = int(parts[1]) if len(parts) > 1 else Limits.bulk if requests else 0
    return Limits(requests, bulk, Limits.sockets if requests else 0)


@frozen
class Verdict:
    """Whether a request is within the limit, and what the headers say."""

    allowed: bool
    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        told = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }
        if not self.allowed:
            told["Retry-After"] = str(max(self.reset - int(time.time()), 1))
        return told


class Meter:
    """Counts requests of each client, in windows of a minute that begin with the first request."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def count(self, client: str, limit: int) -> Verdict:
        """Another request."""
        now = self._clock()
        with self._lock:
            began, used = self._windows.get(client, (now, 0))
            if now - began >= _MINUTE:
                began, used = now, 0
            allowed = used < limit
            self._windows[client] = (began, used + allowed)
            if len(self._windows) > _MOST_CLIENTS:
                self._forget(now)
        return Verdict(allowed, limit, max(limit - used - allowed, 0), int(began + _MINUTE) + 1)

    def _forget(self, now: float) -> None:
        self._windows = {name: each for name, each in self._windows.items() if now - each[0] < _MINUTE}


class Places:
    """Counts what each client has open."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are open."""
        return self._open.total()

    def enter(self, client: str, limit: int) -> bool:
        """Open one more; whether it may be opened."""
        if limit and self._open[client] >= limit:
            return False
        self._open[client] += 1
        return True

    def leave(self, client: str) -> None:
        """Close one."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]
