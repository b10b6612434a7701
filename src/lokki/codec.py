"""A value as bytes, and what identifies it.

Two forms. A *frame* is the bare pickle: small things that are packed many to a file. A *sealed* value is a plain gzip
of the pickle, readable with ``pickle.load(gzip.open(f))``, that ends in an empty gzip member carrying a `Seal`: what
the value was made from, and its digest. So whether a stored output may be used again is read from its last bytes.

Large values are written and read in one pass without a copy of the whole. Data that a sample shows not to shrink goes
into gzip's stored blocks; the rest is deflated at level 1, by `isal` where it is installed.
"""

from __future__ import annotations

import gc
import io
import pickle
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from lokki.errors import LokkiError, StoreError
from lokki.jsonable import plain

T = TypeVar("T")
Bytes = bytes | bytearray | memoryview

LARGE = 1 << 16
"""From this many bytes on a value is worth a sample, the fast deflate and a pause of the garbage collector."""

_BLOCK = 65_535  # the most that one stored block of deflate holds
_STRIDE = _BLOCK + 5
_HASHED = 1 << 20  # what follows enters the digest by its CRC-32: hashing it would cost more than storing it
_EXTRA = b"\x1f\x8b\x08\x04\0\0\0\0\x04\xff"  # a gzip header with an extra field: no name, no time, fastest
_STORED = _EXTRA + struct.pack("<H2sH", 4, b"LS", 0)
_SEAL = _EXTRA + struct.pack("<H2sH", 36, b"LK", 32)
_EMPTY = b"\x03\x00" + bytes(8)
SEAL_SIZE = len(_SEAL) + 32 + len(_EMPTY)
NO_TAG = bytes(16)
_one_by_one = threading.RLock()  # unpickling imports modules, and some do not survive being imported by two threads
_ERRORS = (
    pickle.PickleError, TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RuntimeError, ImportError,
    EOFError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


class Seal(NamedTuple):
    """What a stored value was made from (`tag`) and what it holds (`digest`), sixteen bytes each."""

    tag: bytes
    digest: bytes


def encode(value: Any) -> bytes:
    """The value as a frame."""
    try:
        return pickle.dumps(value, 5)
    except LokkiError:
        raise
    except _ERRORS as error:
        raise _unpicklable(value, error) from error


def decode(frame: Bytes) -> Any:
    """The value of a frame."""
    try:
        with _one_by_one:
            return pickle.loads(frame) if len(frame) < LARGE else _without_collector(lambda: pickle.loads(frame))
    except _ERRORS as error:
        raise _unreadable(error) from error


def decode_from(file: Any) -> Any:
    """The value of the frame that a file goes on with."""
    try:
        with _one_by_one:
            return pickle.load(file)
    except _ERRORS as error:
        raise _unreadable(error) from error


def digest(data: Bytes) -> bytes:
    """Sixteen bytes that identify the data."""
    if len(data) <= _HASHED:
        return blake2b(data, digest_size=16).digest()
    made = Digest()
    made.add(memoryview(data))
    return made.done()


def content_hash(value: Any, other: Callable[[Any], Any] | None = None) -> str:
    """A hash that is the same for equal values in every process: the order within sets and dicts does not count.

    `other` gives the JSON that stands for what is not data; without it, that is the digest of its pickle.
    """
    import json

    try:
        text = json.dumps(_in_order(plain(value, other or _pickled)), sort_keys=True)
    except (RecursionError, ValueError) as error:
        raise StoreError(f"a value of type {type(value).__name__} cannot be hashed ({error}).") from error
    return digest(text.encode()).hex()


def seal(
    value: Any, write: Callable[[Bytes], Any], tag: bytes = NO_TAG, worth: float = 0.9
) -> tuple[Seal, bytes | None]:
    """Write a sealed value through `write`; deflate it where a sample shrinks to less than `worth` of its size.

    Returns its seal and, of a small value, also its frame: what a reader would get, without reading.
    """
    writer = _Writer(write, worth)
    try:
        pickle.Pickler(writer, 5).dump(value)
    except _ERRORS as error:
        raise _unpicklable(value, error) from error
    return writer.close(tag)


def seal_frame(frame: bytes, write: Callable[[Bytes], Any], tag: bytes = NO_TAG, worth: float = 0.9) -> Seal:
    """Write the value of a frame as a sealed one."""
    writer = _Writer(write, worth)
    writer.write(frame)
    return writer.close(tag)[0]


def unseal(data: Bytes) -> Any:
    """The value of a sealed one; also of any other gzip of a pickle."""
    view = memoryview(data)
    try:
        if view[: len(_STORED)] == _STORED:
            reader = _StoredReader(view)
            with _one_by_one:
                return _without_collector(lambda: pickle.Unpickler(reader).load())
        return decode(_inflate(view))
    except (*_ERRORS, OSError) as error:
        raise _unreadable(error) from error


def read_seal(tail: bytes) -> Seal | None:
    """The seal in the last `SEAL_SIZE` bytes of a stored value, if they hold one."""
    if len(tail) != SEAL_SIZE or not tail.startswith(_SEAL) or not tail.endswith(_EMPTY):
        return None
    return Seal(tail[len(_SEAL) : len(_SEAL) + 16], tail[len(_SEAL) + 16 : len(_SEAL) + 32])


class _Writer:
    """The file that the pickler writes to: decides how to compress, counts, and hands on to `write`."""

    def __init__(self, write: Callable[[Bytes], Any], worth: float) -> None:
        self._write = write
        self._worth = worth
        self._digest = Digest()
        self._held = bytearray()  # not yet decided, or a block not yet full
        self._out: _Deflated | _Blocks | None = None

    def write(self, data: Any) -> int:
        chunk = pickle.PickleBuffer(data).raw()
        size = len(chunk)
        self._digest.add(chunk)
        if self._out is not None:
            self._out.add(chunk)
        elif len(self._held) + size < LARGE:
            self._held += chunk
        else:
            self._decide(chunk)
        return size

    def close(self, tag: bytes) -> tuple[Seal, bytes | None]:
        made = Seal(tag, self._digest.done())
        end = _SEAL + made.tag + made.digest + _EMPTY
        if self._out is None:
            frame = bytes(self._held)
            self._write(zlib.compress(frame, 1, wbits=31) + end)
            return made, frame
        self._out.close()
        self._write(end)
        return made, None

    def _decide(self, chunk: memoryview) -> None:
        fast = _zlib()
        third = max(len(chunk) // 3, 1)
        sample = b"".join(bytes(chunk[at : at + 16_384]) for at in range(0, len(chunk), third))
        shrinks = len(fast.compress(sample, 1)) < self._worth * len(sample)
        self._out = _Deflated(self._write, fast) if shrinks else _Blocks(self._write, fast)
        self._out.add(memoryview(self._held))
        self._out.add(chunk)


class Digest:
    """`digest` of data that comes in pieces, wherever it is cut."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._room = _HASHED
        self._crc = self._rest = 0

    def add(self, chunk: memoryview) -> None:
        self._hash.update(chunk[: self._room])
        rest = chunk[self._room :]
        self._room -= len(chunk) - len(rest)
        if rest:
            self._crc = _zlib().crc32(rest, self._crc)
            self._rest += len(rest)

    def done(self) -> bytes:
        if self._rest:
            self._hash.update(struct.pack("<QI", self._rest, self._crc))
        return self._hash.digest()


class _Deflated:
    """A gzip member deflated at level 1."""

    def __init__(self, write: Callable[[Bytes], Any], fast: Any) -> None:
        self._write = write
        self._deflate = fast.compressobj(1, wbits=31)

    def add(self, chunk: memoryview) -> None:
        self._write(self._deflate.compress(chunk))

    def close(self) -> None:
        self._write(self._deflate.flush())


class _Blocks:
    """A gzip member of stored blocks, all full but the last, so that a byte's place is known without reading."""

    def __init__(self, write: Callable[[Bytes], Any], fast: Any) -> None:
        self._write = write
        self._crc32 = fast.crc32
        self._crc = self._size = 0
        self._held = bytearray()
        write(_STORED)

    def add(self, chunk: memoryview) -> None:
        self._crc = self._crc32(chunk, self._crc)
        self._size += len(chunk)
        if self._held:
            room = _BLOCK - len(self._held)
            self._held += chunk[:room]
            chunk = chunk[room:]
            if len(self._held) < _BLOCK:
                return
            self._block(self._held)
            self._held = bytearray()
        full = len(chunk) - len(chunk) % _BLOCK
        for at in range(0, full, _BLOCK):
            self._block(chunk[at : at + _BLOCK])
        self._held += chunk[full:]

    def close(self) -> None:
        self._block(self._held, last=1)
        self._write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _block(self, data: Bytes, last: int = 0) -> None:
        self._write(struct.pack("<BHH", last, len(data), len(data) ^ 0xFFFF))
        self._write(data)


class _StoredReader:
    """The file that the unpickler reads from when the data lies in `_Blocks`: each byte is copied once.

    The checksum is compared first, because what a damaged pickle does while it is read cannot be known.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        body = len(data) - len(_STORED) - 8 - SEAL_SIZE
        self._size = body - 5 * -(-body // _STRIDE)
        crc, crc32 = 0, _zlib().crc32
        for piece in self._pieces(0, self._size):
            crc = crc32(piece, crc)
        if data[-SEAL_SIZE - 8 : -SEAL_SIZE - 4] != struct.pack("<I", crc):
            raise ValueError("its checksum does not match")

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        done = 0
        for piece in self._pieces(self._at, min(self._at + len(view), self._size)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        self._at += done
        return done

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.readinto(data)])

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and (one := self.read(1)):
            line += one
        return bytes(line)

    def _pieces(self, at: int, end: int) -> Iterator[memoryview]:
        while at < end:
            block, within = divmod(at, _BLOCK)
            start = len(_STORED) + block * _STRIDE + 5 + within
            piece = self._data[start : start + min(end - at, _BLOCK - within)]
            yield piece
            at += len(piece)


def _inflate(data: memoryview) -> bytes:
    fast = _zlib() if len(data) >= LARGE else zlib
    parts = []
    rest: Bytes = data
    while rest:
        member = fast.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(rest) + member.flush())
        except fast.error as error:  # isal's is not zlib's
            raise ValueError(str(error)) from error
        if not member.eof:
            raise EOFError("it is cut off")
        rest = member.unused_data
    return parts[0] if len(parts) == 2 and not parts[1] else b"".join(parts)


def _in_order(held: Any) -> Any:
    """What `plain` made, with the pairs of dicts whose keys are not text in an order of their own."""
    match held:
        case {"$dict": pairs}:
            return {"$dict": sorted(map(_in_order, pairs), key=repr)}
        case dict():
            return {key: _in_order(each) for key, each in held.items()}
        case list():
            return [_in_order(each) for each in held]
        case _:
            return held


def _pickled(value: Any) -> dict[str, str]:
    held = io.BytesIO()
    try:
        _SetsByHash(held, 5).dump(value)
    except _ERRORS as error:
        raise _unpicklable(value, error) from error
    return {"$pickle": digest(held.getbuffer()).hex()}


class _SetsByHash(pickle.Pickler):
    """Pickles for hashing only: the order within a set differs between processes, so its hash stands for it."""

    def persistent_id(self, value: Any) -> str | None:
        return content_hash(value) if type(value) in (set, frozenset) else None


@lru_cache(maxsize=1)
def _zlib() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _without_collector(load: Callable[[], T]) -> T:
    """Many small objects are read up to four times faster while the garbage collector does not look at them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return load()
    finally:
        if was_on:
            gc.enable()


def _unreadable(error: BaseException) -> StoreError:
    return StoreError(f"a stored value cannot be read back: {type(error).__name__}: {error}")


def _unpicklable(value: Any, error: BaseException) -> StoreError:
    return StoreError(
        f"a value of type {type(value).__name__} cannot be stored, because it cannot be pickled ({error}). "
        "Return plain data: not open files, connections, locks, or functions defined inside functions."
    )
