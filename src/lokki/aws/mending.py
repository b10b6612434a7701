"""Before a run is mended: what it left of items that are to run again is removed, and what was made from that.

Everything that failed or is missing runs again without any of this; it is for items that finished, and wrongly so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

from lokki.aws.client import refusals
from lokki.aws.results import items_in
from lokki.errors import InvokeError
from lokki.graph import FlowGraph, Map
from lokki.runtime.layout import PARTIAL, RESULTS
from lokki.store.packing import pack_frames, unpack
from lokki.store.protocol import TransientStore, folder

_AT_ONCE = 1_000  # keys that S3 removes in one request


def told(items: Iterable[range]) -> str:
    """Items, as people write them: `3, 20-25`."""
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in items)


def map_of(graph: FlowGraph, items: Iterable[range], step: str | None = None) -> Map:
    """The map whose items are meant: the one that runs `step`, or the only one."""
    maps = [node for node in graph.nodes if isinstance(node, Map)]
    if step is not None:
        maps = [each for each in maps if step in {call.step.name for call in each.body.calls()}]
    if len(maps) == 1:
        return maps[0]
    if not maps:
        named = f"no map that runs {step!r}" if step else "no map"
        raise InvokeError(f"Flow {graph.name!r} has {named}, so there are no items {told(items)} to run again.")
    steps = ", ".join(each.label for each in maps)
    raise InvokeError(f"Flow {graph.name!r} has several maps: say whose items with --step, one of {steps}.")


def checked(store: TransientStore, flow: str, run: str, node: Map, items: Iterable[range]) -> set[int]:
    """The items one by one; refuses those that the run's map does not have."""
    total = items_in(store, folder(flow, run, node.over.node))
    wrong = [range(max(each.start, total), each.stop) for each in items if each.stop > total]
    if not wrong:
        return {*chain.from_iterable(items)}
    if not total:
        raise InvokeError(
            f"Run {run!r} has no items of {node.label!r}, so there are no items {told(wrong)} to run again."
        )
    has = f"{total:,} items, 0 to {total - 1}" if total > 1 else "one item, 0"
    raise InvokeError(f"Run {run!r} has {has}, of {node.label!r}: there is no item {told(wrong)} to run again.")


def forget(
    client: Any,
    bucket: str,
    prefix: str,
    store: TransientStore,
    graph: FlowGraph,
    run: str,
    node: Map,
    items: Collection[int],
) -> int:
    """Remove what a run left of these items, and of all that comes after their map; returns how much went.

    Args:
        client: an S3 client.
        bucket: the bucket.
        prefix: what all keys begin with.
        store: the same bucket as a store.
        graph: the flow.
        run: the run id.
        node: the map.
        items: the places of the items in it.
    """
    keys, emptied = _of_items(store, graph.name, run, node, items)
    if not keys and not emptied:
        return 0
    keys = sorted({*keys, *_after(store, graph, run, node)})
    for start in range(0, len(keys), _AT_ONCE):
        names = [{"Key": f"{prefix}/{key}" if prefix else key} for key in keys[start : start + _AT_ONCE]]
        with refusals("remove the results that are to be made again", InvokeError):
            client.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})
    return len(keys) + emptied


def _of_items(store: TransientStore, flow: str, run: str, node: Map, items: Collection[int]) -> tuple[list[str], int]:
    """The keys of what was made of items; where others lie beside them, they are taken out of the pack and counted."""
    keys, emptied = [], 0
    for each in node.body.walk():
        here = folder(flow, run, each.id)
        for key in store.keys(here):
            match key.removeprefix(f"{here}/").split("/"):
                case [first, name] if first.isdecimal() and name in (RESULTS, PARTIAL):
                    if _emptied(store, f"{here}/{first}", name, {item - int(first) for item in items}):
                        emptied += 1
                        keys += [key] if name == RESULTS else []
                case [first, *_] if first.isdecimal() and int(first) in items:
                    keys.append(key)
    return keys, emptied


def _emptied(store: TransientStore, place: str, name: str, gone: Collection[int]) -> bool:
    """Take items out of a pack: what is left of it is partial; says whether any of them was in it."""
    packed = unpack(store.blob(f"{place}/{name}"))
    count = len(packed) - 1
    if not any(0 <= item < count for item in gone):
        return False
    held = bytearray()
    frames = [b"" if item in gone else packed.frame(item) for item in range(count)]
    pack_frames([*frames, packed.frame(count)], held.extend, packed.tag)
    store.put_blob(f"{place}/{PARTIAL}", bytes(held))
    return True


def _after(store: TransientStore, graph: FlowGraph, run: str, node: Map) -> Iterator[str]:
    """All that was made after a map."""
    ids = [each.id for each in graph.nodes]
    for later in graph.nodes[ids.index(node.id) + 1 :]:
        for each in [later, *(later.body.walk() if isinstance(later, Map) else ())]:
            yield from store.keys(folder(graph.name, run, each.id))
