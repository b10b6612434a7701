"""Connections to providers: kept for the next call, and cut when nobody waits for the answer any more.

A connection serves one call at a time and is a client of its own, so that it is known which socket a call waits for:
closing a client from another thread would not end a read that has begun, shutting down its socket does.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_KEPT = 64
_SECONDS = 30.0  # that a connection without a call is kept open

_idle: list[tuple[str, Connection]] = []
_lock = threading.Lock()
_reading = threading.Lock()


class Connection:
    """One connection."""

    def __init__(self) -> None:
        import httpx

        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_SECONDS)
        with _reading:  # several threads would each read them for themselves
            certificates = _certificates()
        self.client = httpx.Client(verify=certificates, limits=limits)
        self.is_cut = False
        self._stream: Any = None
        self._lock = threading.Lock()

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the answer is not read yet."""
        request.extensions["trace"] = self._traced
        return self.client.send(request, stream=True)

    def cut(self) -> None:
        """End what waits for this connection, now; from another thread."""
        with self._lock:
            self.is_cut = True
            self._shut()

    def _traced(self, name: str, told: dict[str, Any]) -> None:
        stream = told.get("return_value")
        if hasattr(stream, "get_extra_info"):
            with self._lock:
                self._stream = stream
                if self.is_cut:
                    self._shut()

    def _shut(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # it may be closed already
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


@contextmanager
def connection(base: str) -> Iterator[Connection]:
    """A connection for one call; one that led to the same place before, where there is one."""
    made = _taken(base) or Connection()
    try:
        yield made
    finally:
        useless = [made] if made.is_cut else []
        with _lock:
            if not made.is_cut:
                _idle.append((base, made))
            useless += [each for _, each in _idle[:-_KEPT]]
            del _idle[:-_KEPT]
        for each in useless:
            each.client.close()


def _taken(base: str) -> Connection | None:
    with _lock:
        for at in range(len(_idle) - 1, -1, -1):
            if _idle[at][0] == base:
                return _idle.pop(at)[1]
    return None


@lru_cache(maxsize=1)
def _certificates() -> Any:
    """Whom to trust; reading that takes longer than all else that is done for a call."""
    import httpx

    return httpx.create_ssl_context()


def close() -> None:
    """Close what no call uses."""
    with _lock:
        connections, _idle[:] = [each for _, each in _idle], []
    for each in connections:
        each.client.close()


def _begin_anew() -> None:
    """In a forked process: the connections are its parent's, and so may be the locks."""
    global _lock, _reading
    _lock, _reading = threading.Lock(), threading.Lock()
    _idle.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
