"""The connection to a container: its stdin, and its stdout and stderr in frames that say which is which."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lokki.pools import Stop
from lokki.runtime.failure import Cancelled
from twingraph.platforms.serving import Hearing

_CHUNK = 1 << 20
_STDOUT = 1
_LOOK = 0.5  # seconds


class Stream:
    """What `attach_socket` gave. `last` is the end of what came on stderr, for a container that ends."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket: socket.socket = getattr(attached, "_sock", attached)
        self._socket.settimeout(None)
        self._begun = bytearray()
        self._tail = b""

    def send(self, data: bytes) -> bool:
        """Send it all; False when nobody takes it."""
        try:
            self._socket.settimeout(None)
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def alive(self) -> bool:
        """Whether the container is still there, as far as one can see without asking."""
        if not select.select([self._socket], [], [], 0)[0]:
            return True
        return self._take(0.001)

    def ready(self, stop: Stop) -> bool:
        """Wait until Python has begun in the container; False when it ends instead."""
        while self._take(_LOOK):
            for kind, data in self._frames():
                if kind == _STDOUT:
                    return True
                self._tail += data
            if stop.is_set():
                raise Cancelled("the execution is over")
        return False

    def receive(self, hearing: Hearing, seconds: float) -> bool:
        """Hear what the container says, for so many seconds at most; False when it is gone."""
        there = self._take(max(seconds, 0.001))
        for kind, data in self._frames():
            if kind == _STDOUT:
                hearing.answered(data)
            else:
                self._tail = (self._tail + data)[-2000:]
                hearing.logged(data)
        return there

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while len(self._begun) >= 8:
            kind, size = struct.unpack_from(">BxxxI", self._begun)
            if len(self._begun) < 8 + size:
                return
            data = bytes(self._begun[8 : 8 + size])
            del self._begun[: 8 + size]
            yield kind, data

    @property
    def last(self) -> str:
        """The last line of the log."""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        return next((each.strip() for each in reversed(lines) if each.strip()), "")

    def close(self) -> None:
        """Let go of it; the container's stdin ends with it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._socket.close()
            self._attached.close()

    def _take(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            return True
        except OSError:
            return False
        self._begun += data
        return bool(data)
