"""Messages as frames of the WebSocket protocol, made once for all who get them, and written many at a time.

What a server sends is not masked, so the bytes of a message are the same for every client. A socket that is uvicorn's
and ours takes them as they are; any other gets the texts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cached_property

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

WIRE = "twingraph.wire"
"""The extension of a scope that takes frames: a `Wire`."""

_TEXT = 0x81  # whole, and text
_SHORT = 126  # bytes from which on the length has a place of its own
_LONG = 1 << 16


class Piece:
    """Messages in a row.

    Attributes:
        texts: the messages.
        about: the executions that they tell of; of answers to a client, none.
    """

    def __init__(self, texts: Sequence[str], about: Iterable[str] = ()) -> None:
        self.texts = texts
        self.about = frozenset(about)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def frames(self) -> bytes:
        """As they are sent, one frame for each."""
        return b"".join(map(frame, self.texts))


def frame(text: str) -> bytes:
    """A message as one frame."""
    data = text.encode()
    size = len(data)
    if size < _SHORT:
        return bytes((_TEXT, size)) + data
    if size < _LONG:
        return struct.pack(">BBH", _TEXT, 126, size) + data
    return struct.pack(">BBQ", _TEXT, 127, size) + data


class Wire(WebSocketsSansIOProtocol):
    """Uvicorn's connection of a WebSocket, which takes frames as well."""

    async def run_asgi(self) -> None:
        """Let the application find it."""
        self.scope["extensions"][WIRE] = {"wire": self}
        await super().run_asgi()

    def write(self, frames: bytes) -> bool:
        """Send frames; False for a client that is behind or gone: nothing is sent then."""
        if not self.handshake_complete or self.close_sent or self.transport.is_closing() or not self.writable.is_set():
            return False
        self.transport.write(frames)
        return True

    async def written(self) -> bool:
        """Wait until frames can be sent; False when the client is gone."""
        await self.writable.wait()
        return not (self.disconnected or self.close_sent or self.transport.is_closing())
