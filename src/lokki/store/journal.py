"""Many small outputs in one file: a log of records, each one write at the end.

A process that is killed loses at most the record it was writing; a reader skips what is torn and finds the next whole
record. Several processes may append at once. The last record of an index is the one that counts.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterator

from lokki.codec import LARGE, Seal

Index = tuple[int, ...]

_HEAD = struct.Struct("<4sIIB")  # magic, size of the rest, CRC-32, how many numbers the index has (begins the CRC-32)
_MAGIC = b"\xa7LKj"
_SEAL = struct.Struct("<16s16s")
_INDEX = [struct.Struct(f"<{count}Q") for count in range(256)]
_WINDOW = 1 << 20  # how much is read at once
_LONGEST = _HEAD.size + _INDEX[-1].size + _SEAL.size + LARGE


class Journal:
    """The small outputs of one run, by index: a number for the step, then the item in each map.

    Its errors are those of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._lock = threading.Lock()
        self._places: dict[int, dict[Index | int, int]] = {}  # by step: by item, where the newest record begins
        self._read_to = 0

    def append(self, index: Index, tag: bytes, digest: bytes, frame: bytes) -> None:
        """Add a record; it is safe from a crash of this process when this returns."""
        if self._fd < 0:
            with self._lock:
                self._open(os.O_CREAT)
        rest = _INDEX[len(index)].pack(*index) + tag + digest + frame
        record = _HEAD.pack(_MAGIC, len(rest), zlib.crc32(rest, len(index)), len(index)) + rest
        if os.write(self._fd, record) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def find(self, index: Index) -> Seal | None:
        """The seal of the newest record of an index."""
        place = self._place(index)
        if place is None:
            return None
        return Seal(*_SEAL.unpack(os.pread(self._fd, _SEAL.size, place + _HEAD.size + _INDEX[len(index)].size)))

    def frame(self, index: Index) -> bytes | None:
        """The frame of the newest record of an index."""
        place = self._place(index)
        if place is None:
            return None
        _, size, _, count = _HEAD.unpack(os.pread(self._fd, _HEAD.size, place))
        before = _INDEX[count].size + _SEAL.size
        return os.pread(self._fd, size - before, place + _HEAD.size + before)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _place(self, index: Index) -> int | None:
        with self._lock:
            self._catch_up()
        return self._places.get(index[0], {}).get(_item(index))

    def _open(self, create: int = 0) -> None:
        if self._fd < 0:
            self._fd = _open_file(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | create)

    def _catch_up(self) -> None:
        """Read the records that came since the last look: another thread or process may have written them."""
        try:
            self._open()
        except (FileNotFoundError, NotADirectoryError):
            return
        while (left := os.fstat(self._fd).st_size - self._read_to) > 0:
            base, end = self._read_to, 0
            for index, start, end in _records(os.pread(self._fd, min(left, _WINDOW), base)):  # noqa: B007 - the last end
                self._places.setdefault(index[0], {})[_item(index)] = base + start
            if not end and left <= _WINDOW:
                return  # a record that is being written, or was never finished
            self._read_to = base + (end or _WINDOW - _LONGEST)


def _item(index: Index) -> Index | int:
    """The part of an index behind the step, as a number alone where it is one: that takes a third of the memory."""
    return index[1] if len(index) == 2 else index[1:]


def _open_file(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o644)


def _records(data: bytes) -> Iterator[tuple[Index, int, int]]:
    """The whole records: their index, where they begin and where they end."""
    at = data.find(_MAGIC)
    while 0 <= at <= len(data) - _HEAD.size:
        _, size, crc, count = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + size
        if end <= len(data) and zlib.crc32(memoryview(data)[start:end], count) == crc:
            yield _INDEX[count].unpack_from(data, start), at, end
            at = data.find(_MAGIC, end)
        else:
            at = data.find(_MAGIC, at + 1)
