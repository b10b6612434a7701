"""The items of a map in one object: frame after frame, then where each begins.

A child of the map reads its slice by one range of bytes; nothing is a file, an object or a gzip per item.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable
from typing import Any

from lokki.codec import Bytes, decode, encode
from lokki.errors import StoreError

_END = struct.Struct("<Q16s8s")
_MAGIC = b"LKITEMS1"
_FLUSH = 1 << 20


class Items:
    """Packed items: a sequence whose elements are unpickled when they are taken."""

    def __init__(self, data: memoryview, offsets: array[int], tag: bytes) -> None:
        self._data = data
        self._offsets = offsets
        self.tag = tag

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, at: int) -> Any:
        try:
            return decode(self._span(at))
        except StoreError as error:
            raise StoreError(f"item {at}: {error}") from error

    def frame(self, at: int) -> bytes:
        """The item's pickle: equal items that were packed once have one frame for good."""
        return bytes(self._span(at))

    def _span(self, at: int) -> memoryview:
        if at < 0:
            raise IndexError("packed items are counted from their beginning")
        return self._data[self._offsets[at] : self._offsets[at + 1]]


def pack(values: Iterable[Any], write: Callable[[Bytes], Any], tag: bytes) -> array[int]:
    """Write the packed items; returns where each begins and where the last ends."""
    offsets = array("Q", (0,))
    held = bytearray()
    written = 0
    for at, value in enumerate(values):
        try:
            held += encode(value)
        except StoreError as error:
            raise StoreError(f"item {at}: {error}") from error
        offsets.append(written + len(held))
        if len(held) >= _FLUSH:
            write(held)
            written += len(held)
            held = bytearray()
    write(held)
    write(_little(offsets).tobytes() + _END.pack(len(offsets) - 1, tag, _MAGIC))
    return offsets


def unpack(data: Bytes) -> Items:
    """The items of a packed object."""
    view = memoryview(data)
    try:
        count, tag, magic = _END.unpack(view[-_END.size :])
        offsets = array("Q")
        offsets.frombytes(view[-_END.size - 8 * (count + 1) : -_END.size])
        offsets = _little(offsets)
    except (struct.error, ValueError, OverflowError) as error:
        raise StoreError(f"packed items are cut off ({error})") from error
    if magic != _MAGIC or len(offsets) != count + 1 or offsets[-1] != len(view) - _END.size - 8 * (count + 1):
        raise StoreError("packed items are damaged")
    return Items(view, offsets, tag)


def manifest(offsets: array[int], batch_size: int, write: Callable[[Bytes], Any]) -> None:
    """Write which items and bytes each child reads, as a JSON list."""
    line = '{"first": %d, "count": %d, "start": %d, "end": %d}'
    count = len(offsets) - 1
    write(b"[")
    for block in range(0, count, batch_size * 10_000):
        firsts = range(block, min(block + batch_size * 10_000, count), batch_size)
        lasts = [min(first + batch_size, count) for first in firsts]
        lines = [line % (a, b - a, offsets[a], offsets[b]) for a, b in zip(firsts, lasts, strict=True)]
        write((",\n" if block else "").encode() + ",\n".join(lines).encode())
    write(b"]\n")


def _little(offsets: array[int]) -> array[int]:
    if sys.byteorder == "big":
        offsets = array("Q", offsets)
        offsets.byteswap()
    return offsets
