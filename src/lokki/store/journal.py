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

_HEAD = struct.Struct("<4sIIB")  # magic, size of the rest, its CRC-32, how many numbers the index has
_MAGIC = b"\xa7LKj"
_SEAL = struct.Struct("<16s16s")
_INDEX = [struct.Struct(f"<{count}Q") for count in range(256)]
_WINDOW = 1 << 20  # how much is read at once
_LONGEST = _HEAD.size + _INDEX[-1].size + _SEAL.size + LARGE


class Journal:
    """The outputs of one step of one run, by index; its errors are those of the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._lock = threading.Lock()
        self._places: dict[Index | int, tuple[int, int]] = {}  # of the frame's seal, and where the frame ends
        self._read_to = 0

    def append(self, index: Index, tag: bytes, digest: bytes, frame: bytes) -> None:
        """Add a record; it is safe from a crash of this process when this returns."""
        if self._fd < 0:
            with self._lock:
                self._open(os.O_CREAT)
        rest = _INDEX[len(index)].pack(*index) + tag + digest + frame
        record = _HEAD.pack(_MAGIC, len(rest), zlib.crc32(rest), len(index)) + rest
        if os.write(self._fd, record) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def find(self, index: Index) -> Seal | None:
        """The seal of the newest record of an index."""
        place = self._place(index)
        return None if place is None else Seal(*_SEAL.unpack(os.pread(self._fd, _SEAL.size, place[0])))

    def frame(self, index: Index) -> bytes | None:
        """The frame of the newest record of an index."""
        place = self._place(index)
        if place is None:
            return None
        start = place[0] + _SEAL.size
        return os.pread(self._fd, place[1] - start, start)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _place(self, index: Index) -> tuple[int, int] | None:
        with self._lock:
            self._catch_up()
        return self._places.get(index[0] if len(index) == 1 else index)

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
            for index, start, end in _records(os.pread(self._fd, min(left, _WINDOW), base)):
                self._places[index[0] if len(index) == 1 else index] = (base + start, base + end)
            if not end and left <= _WINDOW:
                return  # a record that is being written, or was never finished
            self._read_to = base + (end or _WINDOW - _LONGEST)


def _open_file(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o644)


def _records(data: bytes) -> Iterator[tuple[Index, int, int]]:
    """The whole records: their index, and where the seal and the record's end lie."""
    at = data.find(_MAGIC)
    while 0 <= at <= len(data) - _HEAD.size:
        _, size, crc, count = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + size
        if end <= len(data) and zlib.crc32(memoryview(data)[start:end]) == crc:
            yield _INDEX[count].unpack_from(data, start), start + _INDEX[count].size, end
            at = data.find(_MAGIC, end)
        else:
            at = data.find(_MAGIC, at + 1)
