"""What every store does, and what a store over named blobs shares with the others.

Every output has an address: flow, run, step, and for what runs inside maps the item's index in each of them. The
address makes the key:

    <flow>/runs/<run_id>/<step>/output.pkl.gz             the output of a step
    <flow>/runs/<run_id>/<step>/<i>/output.pkl.gz         the output for item i (<i>/<j>/ in a map within a map)
    <flow>/runs/<run_id>/<step>/items.pack                the items of a map, one frame after the other
    <flow>/runs/<run_id>/<step>/map_manifest.json         which bytes of items.pack each child of the map reads

An output is stored with a tag (what it was made from) and its digest, so that a later run can tell whether it still
holds. Keys are computed from the index: order never depends on which item finished first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from lokki.codec import NO_TAG, SEAL_SIZE, Bytes, Seal, decode, read_seal, seal, seal_frame, unseal
from lokki.errors import LocationError, MissingError, StoreError
from lokki.store.packing import Items, manifest, pack, unpack

Index = tuple[int, ...]

OUTPUT = "output.pkl.gz"
ITEMS = "items.pack"
MANIFEST = "map_manifest.json"
BINARY = "application/octet-stream"


class Kept(NamedTuple):
    """A value as a reader of the store gets it, and its digest."""

    value: Any
    digest: bytes


class TransientStore(Protocol):
    """The values of runs, by address. `shared` says that another process on this machine can use a pickled copy."""

    shared: bool

    def write(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> str:
        """Store an output and return its location."""

    def keep(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> Kept:
        """Store an output and return it as a reader gets it."""

    def put(
        self, flow_name: str, run_id: str, step_name: str, frame: bytes, *, index: Index = (), tag: bytes = NO_TAG
    ) -> bytes:
        """Store an output that is a frame already; returns its digest."""

    def find(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Seal | None:
        """The seal of a stored output, or None when there is none."""

    def load(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Any:
        """A stored output."""

    def read(self, location: str) -> Any:
        """The output at a location."""

    def write_items(
        self,
        flow_name: str,
        run_id: str,
        step_name: str,
        values: Iterable[Any],
        *,
        tag: bytes = NO_TAG,
        batch_size: int = 1,
        index: Index = (),
        lengths: Sequence[int] | None = None,
    ) -> Items:
        """Pack the items of a map into one object, with a manifest of its children beside it.

        In a map within a map, `values` are the items that several items of the outer map brought, the first of those
        at `index`; `lengths` says how many each of them brought.
        """

    def items(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Items | None:
        """The packed items of a map, or None when there are none."""

    def location(self, key: str) -> str:
        """How this store names a key: what `write` returns, `read` takes and errors say."""

    def blob(self, key: str) -> bytes:
        """The bytes at a key."""

    def put_blob(self, key: str, data: bytes, content_type: str = BINARY) -> str:
        """Store bytes under a key and return their location."""

    def span(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        """The bytes at a key from `start` up to before `end`, as far as there are any, and how many it has in all."""

    def keys(self, under: str) -> Iterator[str]:
        """The keys of all blobs in a folder and in those below it, in order; of all blobs when it is empty."""

    def remove(self, flow_name: str, run_id: str) -> None:
        """Remove everything that a run stored."""

    def cleanup(self) -> None:
        """Remove everything that this store object has written."""


@lru_cache(maxsize=4096)
def folder(flow_name: str, run_id: str, step_name: str | None = None) -> str:
    """The key of a run's folder, or of a step's in it."""
    for name in (flow_name, run_id) if step_name is None else (flow_name, run_id, step_name):
        if not name or name.startswith(".") or any(each in "/\\" or not each.isprintable() for each in name):
            raise StoreError(f"{name!r} cannot be part of a key: a flow, run or step is named without slashes or dots.")
    return f"{flow_name}/runs/{run_id}" if step_name is None else f"{flow_name}/runs/{run_id}/{step_name}"


def output_key(flow_name: str, run_id: str, step_name: str, index: Index = ()) -> str:
    """The key of an output."""
    return place_key(flow_name, run_id, step_name, index, OUTPUT)


def place_key(flow_name: str, run_id: str, step_name: str, index: Index, name: str) -> str:
    """The key of what a step leaves under a name, for an item of its maps."""
    return "/".join((folder(flow_name, run_id, step_name), *map(str, index), name))


def plain_key(key: str) -> str:
    """The key itself, if it is one that leads nowhere else."""
    if any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or not key.isprintable():
        raise LocationError(f"{key!r} cannot be a key: it is names with a slash between them.", key)
    return key


def address(key: str, location: str = "") -> tuple[str, str, str, Index]:
    """The flow, run, step and index that a key names; `location` is what an error calls it."""
    match key.split("/"):
        case [flow, "runs", run, step, *index, last] if last == OUTPUT and all(each.isdecimal() for each in index):
            return flow, run, step, tuple(map(int, index))
    shown = location or key
    raise LocationError(
        f"{shown!r} is not the location of an output, which looks like <flow>/runs/<run>/<step>/{OUTPUT}.", shown
    )


class BlobStore:
    """A store over blobs by key: the five methods at the end are all that a kind of storage must bring."""

    shared = False

    def write(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> str:
        self.keep(flow_name, run_id, step_name, value, index=index, tag=tag)
        return self.location(output_key(flow_name, run_id, step_name, index))

    def keep(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> Kept:
        key = output_key(flow_name, run_id, step_name, index)
        with self._writing(key) as write:
            made, frame = seal(value, write, tag, self._worth)
        return Kept(decode(frame) if frame is not None else self._unsealed(key), made.digest)

    def put(
        self, flow_name: str, run_id: str, step_name: str, frame: bytes, *, index: Index = (), tag: bytes = NO_TAG
    ) -> bytes:
        with self._writing(output_key(flow_name, run_id, step_name, index)) as write:
            return seal_frame(frame, write, tag, self._worth).digest

    def find(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Seal | None:
        tail = self._tail(output_key(flow_name, run_id, step_name, index), SEAL_SIZE)
        return None if tail is None else read_seal(tail)

    def load(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Any:
        return self._unsealed(output_key(flow_name, run_id, step_name, index))

    def read(self, location: str) -> Any:
        flow_name, run_id, step_name, index = address(self._key(location), location)
        return self.load(flow_name, run_id, step_name, index=index)

    def write_items(
        self,
        flow_name: str,
        run_id: str,
        step_name: str,
        values: Iterable[Any],
        *,
        tag: bytes = NO_TAG,
        batch_size: int = 1,
        index: Index = (),
        lengths: Sequence[int] | None = None,
    ) -> Items:
        key = place_key(flow_name, run_id, step_name, index, ITEMS)
        with self._writing(key) as write:
            offsets = pack(values, write, tag)
        with self._writing(place_key(flow_name, run_id, step_name, index, MANIFEST)) as write:
            manifest(offsets, batch_size, write, index, lengths)
        return self._written(key, offsets, tag)

    def items(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Items | None:
        key = place_key(flow_name, run_id, step_name, index, ITEMS)
        return None if self._tail(key, 1) is None else self._unpacked(key)

    def location(self, key: str) -> str:
        return key

    def blob(self, key: str) -> bytes:
        data = self._blob(plain_key(key))
        return data if isinstance(data, bytes) else bytes(data)

    def put_blob(self, key: str, data: bytes, content_type: str = BINARY) -> str:
        with self._writing(plain_key(key)) as write:
            write(data)
        return self.location(key)

    def span(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        asked = wanted(start, end)
        data = memoryview(self._blob(plain_key(key)))
        return bytes(data[asked]), len(data)

    def keys(self, under: str) -> Iterator[str]:
        return self._keys(f"{plain_key(under.rstrip('/'))}/" if under else "")

    def remove(self, flow_name: str, run_id: str) -> None:
        self._delete(folder(flow_name, run_id) + "/")

    def cleanup(self) -> None:
        self._delete("")

    def _unsealed(self, key: str) -> Any:
        data = self._blob(key)
        try:
            return unseal(data)
        except StoreError as error:
            raise damaged(self.location(key), error) from error

    def _unpacked(self, key: str) -> Items:
        data = self._blob(key)
        try:
            return unpack(data)
        except StoreError as error:
            raise damaged(self.location(key), error) from error

    def _key(self, location: str) -> str:
        """The key that `location` made this of."""
        return location

    def _written(self, key: str, offsets: array[int], tag: bytes) -> Items:
        """The items that were just packed under a key."""
        return self._unpacked(key)

    _worth = 0.9

    def _writing(self, key: str) -> AbstractContextManager[Callable[[Bytes], Any]]:
        """A blob being written; it appears under its key when the block ends well, and not at all otherwise."""
        raise NotImplementedError

    def _blob(self, key: str) -> Bytes:
        """A blob's bytes; a StoreError that names the key when there is none."""
        raise NotImplementedError

    def _tail(self, key: str, size: int) -> bytes | None:
        """The last bytes of a blob, or None when there is no such blob."""
        raise NotImplementedError

    def _keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with this folder, which ends in a slash or is empty; in order."""
        raise NotImplementedError

    def _delete(self, prefix: str) -> None:
        """Remove the blobs whose keys begin like this."""
        raise NotImplementedError


def wanted(start: int, end: int) -> slice:
    """The span that is asked for, if it is one."""
    if not 0 <= start <= end:
        raise ValueError(f"a span begins at or after 0 and does not end before it begins, unlike {start} to {end}")
    return slice(start, end)


def damaged(key: str, error: StoreError) -> StoreError:
    """The error for a key whose value cannot be read back."""
    return StoreError(f"{key} is damaged ({error}). Remove it and run again: only what is missing runs.", key)


def missing(key: str) -> MissingError:
    """The error for a key that nothing is stored under."""
    return MissingError(f"Nothing is stored at {key}.", key)
