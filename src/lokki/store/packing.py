"""The items of a map in one object: frame after frame, then where each begins.

A child of the map reads its slice by one range of bytes; nothing is a file, an object or a gzip per item. The manifest
is a JSON list with an entry for each child: which items it has, and which bytes they are. The results of a child that
has several items are packed in the same way.
"""

from __future__ import annotations

import io
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from lokki.codec import Bytes, decode, decode_from, encode
from lokki.errors import StoreError

_END = struct.Struct("<Q16s8s")
_MAGIC = b"LKITEMS1"
_FLUSH = 1 << 20
_LINES = 10_000  # of a manifest that are written at once


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

    @property
    def offsets(self) -> array[int]:
        """Where each item begins, and where the last ends."""
        return self._offsets

    def _span(self, at: int) -> memoryview:
        if at < 0:
            raise IndexError("packed items are counted from their beginning")
        return self._data[self._offsets[at] : self._offsets[at + 1]]


def pack(values: Iterable[Any], write: Callable[[Bytes], Any], tag: bytes) -> array[int]:
    """Write the packed items; returns where each begins and where the last ends."""
    return pack_frames(_frames(values), write, tag)


def pack_frames(frames: Iterable[bytes], write: Callable[[Bytes], Any], tag: bytes) -> array[int]:
    """`pack` for items that are frames already."""
    offsets = array("Q", (0,))
    held = bytearray()
    written = 0
    for frame in frames:
        held += frame
        offsets.append(written + len(held))
        if len(held) >= _FLUSH:
            write(held)
            written += len(held)
            held = bytearray()
    write(held)
    write(_little(offsets).tobytes() + _END.pack(len(offsets) - 1, tag, _MAGIC))
    return offsets


def _frames(values: Iterable[Any]) -> Iterator[bytes]:
    for at, value in enumerate(values):
        try:
            yield encode(value)
        except StoreError as error:
            raise StoreError(f"item {at}: {error}") from error


def taken(data: Bytes, count: int, first: int = 0) -> Iterator[tuple[Any, bytes]]:
    """The items that lie one after the other in a span, each with its frame; an error counts them from `first`."""
    file = io.BytesIO(data)
    for at in range(first, first + count):
        start = file.tell()
        try:
            value = decode_from(file)
        except StoreError as error:
            raise StoreError(f"item {at}: {error}") from error
        yield value, bytes(data[start : file.tell()])


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


def manifest(
    offsets: array[int],
    batch_size: int,
    write: Callable[[Bytes], Any],
    index: tuple[int, ...] = (),
    lengths: Iterable[int] | None = None,
) -> None:
    """Write which items and bytes each child reads, as a JSON list.

    In a map within a map `lengths` says how many items each item of the outer map brought, the first of them at
    `index`; a child has items of one of them, and its entry says of which.
    """
    groups = [(0, len(offsets) - 1, "")] if lengths is None else list(_groups(index, lengths))
    lines = (
        f'{{"first": {first}, "count": {last - first}, "start": {offsets[begin + first]}, '
        f'"end": {offsets[begin + last]}{place}}}'
        for begin, length, place in groups
        for first, last in _children(length, batch_size)
    )
    write(b"[")
    joint = ""
    while block := list(islice(lines, _LINES)):
        write((joint + ",\n".join(block)).encode())
        joint = ",\n"
    write(b"]\n")


def _groups(index: tuple[int, ...], lengths: Iterable[int]) -> Iterator[tuple[int, int, str]]:
    """For each outer item: where its items begin, how many they are, and its place as entries say it."""
    *above, outer = index
    begin = 0
    for at, length in enumerate(lengths, start=outer):
        yield begin, length, f', "index": [{", ".join(map(str, (*above, at)))}]'
        begin += length


def _children(length: int, batch_size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + batch_size, length)) for first in range(0, length, batch_size))


def _little(offsets: array[int]) -> array[int]:
    if sys.byteorder == "big":
        offsets = array("Q", offsets)
        offsets.byteswap()
    return offsets
