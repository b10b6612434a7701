"""What becomes of results: handed on as they are, stored and found again, or collected to be stored by someone else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from lokki.codec import NO_TAG, decode, digest, encode
from lokki.errors import StoreError
from lokki.store.packing import Items
from lokki.store.protocol import Index, TransientStore


class Part(NamedTuple):
    """A result that is still to be stored."""

    node: str
    place: Index
    tag: bytes
    frame: bytes


class Output:
    """The result of a node: its digest, and its value, which a stored one loads when it is asked for."""

    __slots__ = ("_load", "_value", "digest")

    def __init__(self, value: Any, digest: bytes = NO_TAG, load: Callable[[], Any] | None = None) -> None:
        self._value = value
        self.digest = digest
        self._load = load

    @property
    def value(self) -> Any:
        """The value itself."""
        if self._load is not None:
            self._value = self._load()
            self._load = None
        return self._value


class Keeper(Protocol):
    """Where the results of a run go."""

    durable: bool
    fresh: bool

    def keep(self, node: str, index: Index, tag: bytes, value: Any) -> Output:
        """Take a result; gives it back as the next step receives it."""

    def mark(self, node: str, index: Index, tag: bytes, value: Any) -> bytes:
        """Write down a small fact about a node, under its address; returns its digest."""

    def digest(self, node: str, index: Index) -> bytes:
        """The digest of a stored result; nothing when there is none."""

    def reuse(self, node: str, index: Index, tag: bytes) -> Output | None:
        """The result that an earlier run left, if it came from the same."""

    def load(self, node: str, index: Index) -> Any:
        """A stored result."""


class Passing:
    """Results are handed on as they are and kept nowhere."""

    durable = False
    fresh = True

    def keep(self, node: str, index: Index, tag: bytes, value: Any) -> Output:
        return Output(value)

    def mark(self, node: str, index: Index, tag: bytes, value: Any) -> bytes:
        return NO_TAG

    def digest(self, node: str, index: Index) -> bytes:
        return b""

    def reuse(self, node: str, index: Index, tag: bytes) -> Output | None:
        return None

    def load(self, node: str, index: Index) -> Any:
        raise LookupError(node)


class Storing:
    """Results are stored, and the next step receives what was stored; `fresh` says that no earlier run left any."""

    durable = True

    def __init__(self, store: TransientStore, flow: str, run: str, fresh: bool = False) -> None:
        self.store = store
        self.flow = flow
        self.run = run
        self.fresh = fresh

    def keep(self, node: str, index: Index, tag: bytes, value: Any) -> Output:
        try:
            return Output(*self.store.keep(self.flow, self.run, node, value, index=index, tag=tag))
        except StoreError as error:
            raise StoreError(f"{_place(node, index)}: {error}", error.location) from error

    def reuse(self, node: str, index: Index, tag: bytes) -> Output | None:
        if self.fresh:
            return None
        seal = self.store.find(self.flow, self.run, node, index=index)
        if seal is None or seal.tag != tag:
            return None
        return Output(None, seal.digest, lambda: self.load(node, index))

    def load(self, node: str, index: Index) -> Any:
        """A stored result."""
        return self.store.load(self.flow, self.run, node, index=index)

    def mark(self, node: str, index: Index, tag: bytes, value: Any) -> bytes:
        return self.store.put(self.flow, self.run, node, encode(value), index=index, tag=tag)

    def digest(self, node: str, index: Index) -> bytes:
        seal = self.store.find(self.flow, self.run, node, index=index)
        return b"" if seal is None else seal.digest

    def put(self, part: Part) -> None:
        """Store a result that another process collected."""
        self.store.put(self.flow, self.run, part.node, part.frame, index=part.place, tag=part.tag)

    def pack(self, node: str, tag: bytes, values: Callable[[], Iterable[Any]], batch_size: int) -> Items:
        """The items of a map as they are stored: those of an earlier run when they came from the same."""
        stored = None if self.fresh else self.store.items(self.flow, self.run, node)
        if stored is not None and stored.tag == tag:
            return stored
        try:
            return self.store.write_items(self.flow, self.run, node, values(), tag=tag, batch_size=batch_size)
        except StoreError as error:
            raise StoreError(f"The result of step {node!r}: {error}", error.location) from error


class Collecting:
    """Results are gathered, for the process that started this one to store."""

    durable = True
    fresh = True

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def keep(self, node: str, index: Index, tag: bytes, value: Any) -> Output:
        frame = encode(value)
        self.parts.append(Part(node, index, tag, frame))
        return Output(decode(frame), digest(frame))

    def mark(self, node: str, index: Index, tag: bytes, value: Any) -> bytes:
        return self.keep(node, index, tag, value).digest

    def digest(self, node: str, index: Index) -> bytes:
        return b""

    def reuse(self, node: str, index: Index, tag: bytes) -> Output | None:
        return None

    def load(self, node: str, index: Index) -> Any:
        raise LookupError(node)


def _place(node: str, index: Index) -> str:
    return f"The result of step {node!r}" + (f" for item {'.'.join(map(str, index))}" if index else "")
