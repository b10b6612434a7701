"""A store in this process's memory: for tests, and for resuming within one session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lokki.codec import Bytes
from lokki.store.protocol import BlobStore, missing


class MemoryStore(BlobStore):
    """Values in memory, pickled as in every store, so that a reader never shares them with the writer."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    @contextmanager
    def _writing(self, key: str) -> Iterator[Callable[[Bytes], Any]]:
        held = bytearray()
        yield held.extend
        self._blobs[key] = bytes(held)

    def _blob(self, key: str) -> bytes:
        try:
            return self._blobs[key]
        except KeyError:
            raise missing(key) from None

    def _tail(self, key: str, size: int) -> bytes | None:
        blob = self._blobs.get(key)
        return None if blob is None else blob[-size:]

    def _keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(each for each in list(self._blobs) if each.startswith(prefix)))

    def _delete(self, prefix: str) -> None:
        for key in [each for each in list(self._blobs) if each.startswith(prefix)]:
            del self._blobs[key]
