"""What the states of one execution leave to each other in the store, by node and by the items of a map.

A state outside maps leaves one output. A child of a map leaves one part for all its items, under the place of the
first: an output like any other when it has one item, else `results.pack`. Who gathers the results of a map reads its
manifest, which says what children there were, and then their parts, a bounded number at once.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from lokki.codec import NO_TAG, decode, digest, encode
from lokki.errors import MissingError, StoreError
from lokki.graph import Call, Map
from lokki.runtime.event import Slice
from lokki.runtime.keeping import Output
from lokki.runtime.layout import PARTIAL, RESULTS, Layout, Layouts
from lokki.store.packing import manifest, pack_frames, taken, unpack
from lokki.store.protocol import ITEMS, MANIFEST, OUTPUT, Index, TransientStore, place_key

LAYOUT = "map_layout.json"
"""All children of a map, where its manifest has only those that an execution still has to start."""
_READERS = 32
_BLOCK = 1024  # parts on their way at once, at most
_FIRST = 1 << 20  # so many bytes of packed items are read at once, and kept by the process
_PACKS = 4


class Earlier(NamedTuple):
    """A result that is there already, and what it was made from; of one in a pack also its frame, which must stay.

    `moves` says that it lies where a child of another size left it.
    """

    tag: bytes
    output: Output
    frame: bytes = b""
    moves: bool = False


class Parts:
    """The parts of one execution.

    Args:
        store: where they lie.
        flow: the flow's name in keys.
        run: the run id.
        cache: whether results of earlier executions under this run id may be there.
        packs: what this process has read of packed items, to be used again.
        mending: names the execution that goes on with what this run left, if that is what is being done.
    """

    def __init__(
        self,
        store: TransientStore,
        flow: str,
        run: str,
        *,
        cache: bool = False,
        packs: Packs | None = None,
        mending: str = "",
    ) -> None:
        self.store = store
        self._names = (flow, run)
        self._cache = cache
        self._packs = Packs() if packs is None else packs
        self._mending = mending

    # --- the items of a child

    def items(self, node: Map, at: Slice, over: Slice | None) -> list[Output]:
        """The items that a child of a map works on."""
        key = self._key(node.over.node, over, ITEMS)
        data = self._span(key, at.start, at.end)
        try:
            return [Output(value, self._digest(frame)) for value, frame in taken(data, at.count, at.first)]
        except StoreError as error:
            raise _damaged(key, error) from error

    def write_items(self, node: Map, at: Slice | None, values: list[Sequence[Any]], marks: Sequence[bytes]) -> str:
        """Pack the items that a map is to run over, of each item of the map outside; returns the manifest's key."""
        over, place = node.over.node, _place(at)
        lengths = None if at is None else [len(each) for each in values]
        tag, size = digest(b"".join(marks)), node.batch_size
        there = self.store.items(*self._names, over, index=place) if self._cache else None
        key = self._key(over, at, MANIFEST)
        if there is None or (there.tag != tag and not self._mending):
            every = (value for each in values for value in each)
            flow, run = self._names
            there = self.store.write_items(
                flow, run, over, every, tag=tag, batch_size=size, index=place, lengths=lengths
            )
            if not self._mending:
                return key
        # the items must not change, because results were made from them; how they are cut up may
        held = bytearray()
        manifest(there.offsets, size, held.extend, place, lengths)
        if self._mending:
            self.store.put_blob(self._key(over, at, LAYOUT), bytes(held))
            held = self._unfinished(node, held)
        self.store.put_blob(key, bytes(held))
        return key

    def _unfinished(self, node: Map, whole: bytearray) -> bytearray:
        """A manifest of the children whose results are not all there."""
        with ThreadPoolExecutor(_READERS) as readers:
            told = _bounded(readers, lambda each: (self._is_finished(node, each[0]), each[1]), _entries(whole))
            return bytearray(b"[" + b",\n".join(line for done, line in told if not done) + b"]\n")

    def _is_finished(self, node: Map, child: Slice) -> bool:
        last = _last(node)
        if isinstance(last, Map) and not node.direct_pass:
            return False
        if child.count == 1:
            return child.first in self._layout(last.id, child).alone
        found = self._packed(last.id, child, RESULTS)
        return found is not None and None not in found

    def _layout(self, node: str, at: Slice) -> Layout:
        """Where results of a step lie, for the items of the same map."""
        folder = place_key(*self._names, node, at.index, "").rstrip("/")
        return self._packs.layouts.of(self.store, folder, self._mending)

    # --- results

    def outputs(self, node: str, at: Slice | None) -> list[Output]:
        """The results of a step, for each item of a child, or the one outside maps."""
        if at is not None and at.count > 1:
            return [each.output for each in self._whole(node, at)]
        return [self._output(node, _place(at))]

    def gathered(self, node: Map, at: Slice | None) -> list[Output]:
        """The result of a map, in order; for each item of a child where the map runs inside another."""
        with ThreadPoolExecutor(_READERS) as readers:
            return [_list(each) for each in self._gathered(node, at, lambda read, of: _bounded(readers, read, of))]

    def earlier(self, node: str, at: Slice | None) -> list[Earlier | None]:
        """The results that are there already."""
        if at is None:
            return [self._single(node, ())]
        if at.count == 1:
            found = [self._single(node, at.place)]
        else:
            found = self._packed(node, at, RESULTS) or self._packed(node, at, PARTIAL) or [None] * at.count
        if not self._mending or None not in found:
            return found
        return [each or self._elsewhere(node, at, item) for item, each in enumerate(found, at.first)]

    def _single(self, node: str, place: Index) -> Earlier | None:
        seal = self.store.find(*self._names, node, index=place)
        if seal is None:
            return None
        return Earlier(seal.tag, Output(None, seal.digest, lambda: self._load(node, place)))

    def _elsewhere(self, node: str, at: Slice, item: int) -> Earlier | None:
        """A result that a child of another size left."""
        layout = self._layout(node, at)
        if item in layout.alone:
            alone = self._single(node, (*at.index, item))
            return alone and alone._replace(moves=True)
        first = layout.pack_of(item)
        if first is None:
            return None
        other = Slice(first, item - first + 1, 0, 0, at.index)
        for name in (RESULTS, PARTIAL):
            found = self._packed(node, other, name)
            if found is not None and found[-1] is not None:
                return found[-1]._replace(moves=True)
        return None

    def made(self, node: str, at: Slice | None, place: Index, tag: bytes, value: Any) -> Earlier:
        """A result of a child; of one that has several items as a pickle, because they may share what they return."""
        result = Earlier(tag, Output(value))
        if at is None or at.count == 1:
            return result
        frame = _frame(result, place)
        return Earlier(tag, Output(None, NO_TAG, _decoding(self._key(node, at, RESULTS), frame, place)), frame)

    def write(self, node: str, at: Slice | None, results: Sequence[Earlier | None]) -> None:
        """Leave the results of a step; in a pack those that are still missing have no frame."""
        if at is None or at.count == 1:
            (only,) = results
            if only is not None:
                self.store.write(*self._names, node, only.output.value, index=_place(at), tag=only.tag)
                seal = self.store.find(*self._names, node, index=_place(at)) if self._cache else None
                only.output.digest = NO_TAG if seal is None else seal.digest
            return
        if None in results:  # a call that was made twice may have left more
            there = self.earlier(node, at)
            results = [known if mine is None else mine for mine, known in zip(results, there, strict=True)]
        frames = [_frame(each, place) for each, place in zip(results, at.places, strict=True)]
        tags = b"".join(NO_TAG if each is None else each.tag for each in results)
        held = bytearray()
        pack_frames([*frames, tags], held.extend, NO_TAG)
        name = PARTIAL if b"" in frames else RESULTS
        self.store.put_blob(self._key(node, at, name), bytes(held))
        for each, frame in zip(results, frames, strict=True):
            if each is not None:
                each.output.digest = self._digest(frame)

    def location(self, node: str, at: Slice | None) -> str:
        """Where the result of a node lies."""
        return self.store.location(self._key(node, at, RESULTS if at is not None and at.count > 1 else OUTPUT))

    def _key(self, node: str, at: Slice | None, name: str) -> str:
        return place_key(*self._names, node, _place(at), name)

    def _output(self, node: str, place: Index) -> Output:
        if not self._cache:
            return Output(None, NO_TAG, lambda: self._load(node, place))
        seal = self.store.find(*self._names, node, index=place)
        return Output(None, NO_TAG if seal is None else seal.digest, lambda: self._load(node, place))

    def _load(self, node: str, place: Index) -> Any:
        return self.store.load(*self._names, node, index=place)

    def _packed(self, node: str, at: Slice, name: str) -> list[Earlier | None] | None:
        """What a pack holds of the results of these items; None when it is not there."""
        key = self._key(node, at, name)
        try:
            packed = unpack(self.store.blob(key))
        except MissingError:
            return None
        except StoreError as error:
            raise _damaged(key, error) from error
        count = len(packed) - 1  # another than now where the list has become longer or shorter
        tags = packed.frame(count)
        made: list[Earlier | None] = []
        for nth, place in enumerate(at.places[:count]):
            frame = packed.frame(nth)
            output = Output(None, self._digest(frame), _decoding(key, frame, place))
            tag = tags[16 * nth : 16 * nth + 16]
            made.append(Earlier(tag, output, frame, moves=name == PARTIAL) if frame else None)
        return made + [None] * (at.count - len(made))

    def _whole(self, node: str, at: Slice) -> list[Earlier]:
        found = self._packed(node, at, RESULTS) or []
        whole = [each for each in found if each is not None]
        if len(whole) != at.count:
            key = self._key(node, at, RESULTS)
            held = f"{len(whole)} of {at.count} results"
            raise StoreError(f"{key} holds {held}. Run it again: what is missing runs.", key)
        return whole

    def _gathered(self, node: Map, at: Slice | None, each_of: _EachOf) -> Iterator[list[Output]]:
        children = self._children(node, at)
        if at is None:
            yield [output for part in each_of(lambda child: self._part(node, child), children) for output in part]
            return
        by_place: dict[Index, list[Slice]] = {}
        for child in children:
            by_place.setdefault(child.index, []).append(child)
        for place in at.places:
            mine = by_place.get(place, [])
            yield [output for part in each_of(lambda child: self._part(node, child), mine) for output in part]

    def _part(self, node: Map, child: Slice) -> list[Output]:
        """The results of one child, read."""
        last = _last(node)
        if isinstance(last, Map) and not node.direct_pass:
            return [_list(each) for each in self._gathered(last, child, _one_by_one)]
        outputs = self.outputs(last.id, child)
        for each in outputs:
            each.value  # noqa: B018 - reads it here, in this thread
        return outputs

    def _children(self, node: Map, at: Slice | None) -> Iterator[Slice]:
        """The children that a map had: its manifest line by line, because a million of them are many at once."""
        key = self._key(node.over.node, at, LAYOUT if self._mending else MANIFEST)
        try:
            yield from (child for child, _ in _entries(self.store.blob(key)))
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(key, error) from error

    def _digest(self, frame: bytes) -> bytes:
        return digest(frame) if self._cache else NO_TAG

    def _span(self, key: str, start: int, end: int) -> bytes:
        """Bytes of packed items."""
        if self._cache:  # another execution under this run id may have replaced them
            return self.store.span(key, start, end)[0]
        return self._packs.span(self.store, key, start, end)


class Packs:
    """The beginning of a pack of items is read once, and kept for the next child that this process works on."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()  # by key
        self.layouts = Layouts()

    def span(self, store: TransientStore, key: str, start: int, end: int) -> bytes:
        """Bytes of a pack, by one request at most."""
        if end > _FIRST:
            return store.span(key, start, end)[0]
        first = self._known.get(key)
        if first is None:
            first = self._known[key] = store.span(key, 0, _FIRST)[0]
            while len(self._known) > _PACKS:
                self._known.popitem(last=False)
        return first[start:end]


S = TypeVar("S")
T = TypeVar("T")
_EachOf = Callable[[Callable[[Slice], list[Output]], Iterable[Slice]], Iterable[list[Output]]]


def _one_by_one(read: Callable[[Slice], list[Output]], children: Iterable[Slice]) -> Iterator[list[Output]]:
    return map(read, children)


def _bounded(readers: ThreadPoolExecutor, read: Callable[[S], T], children: Iterable[S]) -> Iterator[T]:
    """What is read of each child, in order; by many at once, and never more than a block ahead."""
    left = iter(children)
    while block := list(islice(left, _BLOCK)):
        yield from readers.map(read, block)


def _entries(manifest: bytes | bytearray) -> Iterator[tuple[Slice, bytes]]:
    """The children in a manifest, each with its line."""
    for line in manifest.splitlines():
        if entry := bytes(line).strip(b"[], "):
            yield Slice.from_dict(json.loads(entry)), entry


def _last(node: Map) -> Call | Map:
    """The node of a body whose result is the body's."""
    return next(each for each in node.body.nodes if each.id == node.body.output.node)


def _list(outputs: Sequence[Output]) -> Output:
    return Output([each.value for each in outputs], digest(b"".join(each.digest for each in outputs)))


def _decoding(key: str, frame: bytes, place: Index) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return decode(frame)
        except StoreError as error:
            raise _damaged(key, _of_item(place, error)) from error

    return load


def _frame(result: Earlier | None, place: Index) -> bytes:
    try:
        return b"" if result is None else result.frame or encode(result.output.value)
    except StoreError as error:
        raise _of_item(place, error) from error


def _of_item(place: Index, error: StoreError) -> StoreError:
    return StoreError(f"item {'.'.join(map(str, place))}: {error}")


def _place(at: Slice | None) -> Index:
    return () if at is None else at.place


def _damaged(key: str, error: Exception) -> StoreError:
    return StoreError(f"{key} is damaged ({error}). Remove it and run again.", key)
