"""Messages between the processes of a server: JSON behind its length, over a socket.

A message may bring a socket along.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_LENGTH = struct.Struct(">I")
_CHUNK = 1 << 18
_SOCKETS = 16  # that come with one chunk at most

Message = dict[str, Any]


class Channel:
    """One end. Sockets that came along wait in `sockets`, in the order of their messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.sockets: deque[socket.socket] = deque()
        self._begun = bytearray()

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends."""
        here, there = socket.socketpair()
        return cls(here), cls(there)

    def fileno(self) -> int:
        """The descriptor, so that selectors take a channel."""
        return self.socket.fileno()

    def send(self, *messages: Mapping[str, Any], along: socket.socket | None = None) -> bool:
        """Send messages; False when nobody is there to get them."""
        told = b"".join(map(_frame, messages))
        try:
            if along is not None:
                sent = socket.send_fds(self.socket, [told], [along.fileno()])
                told = told[sent:]
            self.socket.sendall(told)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> list[Message] | None:
        """What came, after waiting for it; None when the other side is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, _CHUNK, _SOCKETS)
        except ConnectionResetError:
            return None
        self.sockets.extend(socket.socket(fileno=each) for each in descriptors)
        if not data:
            return None
        self._begun += data
        return list(self._whole())

    def _whole(self) -> list[Message]:
        found = []
        start, size = 0, _LENGTH.size
        while len(self._begun) >= start + size:
            (length,) = _LENGTH.unpack_from(self._begun, start)
            if len(self._begun) < start + size + length:
                break
            found.append(json.loads(self._begun[start + size : start + size + length]))
            start += size + length
        del self._begun[:start]
        return found

    def end(self) -> None:
        """Let the other side know that nothing more comes from here; it may go on telling."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of it."""
        self.socket.close()
        while self.sockets:
            self.sockets.popleft().close()


def _frame(message: Mapping[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(body)) + body
