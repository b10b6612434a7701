"""What children leave each other: read in few requests, a bounded number at once, however many children there were."""

from __future__ import annotations

import json
import threading
import tracemalloc
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest

from lokki.codec import encode
from lokki.graph import Map
from lokki.runtime.event import Slice
from lokki.runtime.parts import Parts
from lokki.store import MemoryStore
from lokki.store.packing import manifest, pack_frames
from tests.runtime.machine import Machine
from tests.runtime.packaged import Children, worker_of

MANY = 20_000
MAP_FLOW = ("map-flow", "e1")
MANIFEST = "map-flow/runs/e1/numbers/map_manifest.json"


class Counting(MemoryStore):
    """A store that counts requests, and how many of them were under way at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()
        self.most = 0
        self._under_way = 0
        self._counting = threading.Lock()

    def load(self, flow_name: str, run_id: str, step_name: str, *, index: tuple[int, ...] = ()) -> Any:
        with self._counting:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            self.requests[f"load {step_name}"] += 1
        try:
            return self.found(flow_name, run_id, step_name, index)
        finally:
            with self._counting:
                self._under_way -= 1

    def found(self, flow_name: str, run_id: str, step_name: str, index: tuple[int, ...]) -> Any:
        return super().load(flow_name, run_id, step_name, index=index)

    def span(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        self.requests[f"span {key.rpartition('/')[2]}"] += 1
        return super().span(key, start, end)


class Counted(Counting):
    """One whose parts are their own place, so that a hundred thousand of them need not be written first."""

    def found(self, flow_name: str, run_id: str, step_name: str, index: tuple[int, ...]) -> Any:
        return index[-1]


class Slow(Counting):
    """One that answers nobody before as many ask as may ask at once, or nobody else does."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.meeting = threading.Barrier(together)

    def found(self, flow_name: str, run_id: str, step_name: str, index: tuple[int, ...]) -> Any:
        self.meeting.wait(20)
        return index[-1]


def map_of(made: Any) -> Map:
    (found,) = (node for node in made().nodes if isinstance(node, Map))
    return found


def put_manifest(store: MemoryStore, count: int, batch_size: int = 1) -> None:
    held = bytearray()
    manifest(array("Q", range(0, 5 * count + 5, 5)), batch_size, held.extend)
    store.put_blob(MANIFEST, bytes(held))


# Many results


def test_twenty_thousand_results_are_gathered_in_order_a_few_at_a_time() -> None:
    store = Counted()
    put_manifest(store, MANY)
    (gathered,) = Parts(store, *MAP_FLOW).gathered(map_of(flows.map_flow), None)
    assert gathered.value == list(range(MANY))
    assert store.requests == {"load flap": MANY}
    assert 1 <= store.most <= 32


def test_results_are_read_side_by_side() -> None:
    store = Slow(together=32)
    put_manifest(store, 64)
    (gathered,) = Parts(store, *MAP_FLOW).gathered(map_of(flows.map_flow), None)
    assert gathered.value == list(range(64))
    assert store.most == 32


def test_gathering_holds_the_results_and_little_besides(store: MemoryStore) -> None:
    text, size = "x" * 200, 100
    node = map_of(flows.map_flow)
    put_manifest(store, MANY, size)
    parts = Parts(store, *MAP_FLOW)
    frame = encode(text)
    held = bytearray()
    pack_frames([*[frame] * size, bytes(16 * size)], held.extend, bytes(16))
    for first in range(0, MANY, size):
        store.put_blob(f"map-flow/runs/e1/flap/{first}/results.pack", bytes(held))
    tracemalloc.start()
    try:
        (gathered,) = parts.gathered(node, None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert gathered.value == [text] * MANY
    themselves = MANY * (249 + 8)
    assert most < 2.5 * themselves


def test_the_children_of_a_map_are_not_all_held(store: MemoryStore) -> None:
    put_manifest(store, MANY // 4)
    size = len(store.blob(MANIFEST))
    children = Parts(store, *MAP_FLOW)._children(map_of(flows.map_flow), None)
    tracemalloc.start()
    try:
        count = sum(1 for _ in children)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == MANY // 4
    assert most < 4 * size


def test_no_results_are_an_empty_list(store: MemoryStore) -> None:
    put_manifest(store, 0)
    (gathered,) = Parts(store, *MAP_FLOW).gathered(map_of(flows.map_flow), None)
    assert gathered.value == []


@pytest.mark.parametrize(("size", "reads"), [(1, 7), (3, 1), (7, 0)])
def test_a_pack_of_results_is_one_request(size: int, reads: int) -> None:
    store = Counting()
    machine = Machine(flows.sized_flow(size=size), store=store)
    assert machine.execute(size=size) == 210
    assert store.requests["load flap"] == reads  # those children that had one item


# Items


def test_a_small_pack_of_items_is_read_once_by_a_process(tmp_path: Path) -> None:
    store = Counting()
    children = Children(flows.map_flow(), tmp_path, store, n=50)
    for at in range(50):
        children.answer("flap", at)
    assert store.requests["span items.pack"] == 1
    another = worker_of(flows.map_flow(), tmp_path, store)
    children.worker = another
    for at in range(50):
        children.answer("flap", at)
    assert store.requests["span items.pack"] == 2
    children.answer("total")
    assert store.load("map-flow", "e1", "total") == 10 * sum(range(50))


def test_children_of_a_large_pack_read_their_own_items(tmp_path: Path) -> None:
    store = Counting()
    children = Children(flows.wide_flow(), tmp_path, store)
    assert children.entries[-1]["end"] > 1 << 20
    for at, requests in ((5, 1), (0, 2), (1, 2), (5, 3), (0, 3)):
        children.answer("length", at)
        assert store.requests["span items.pack"] == requests
    assert [store.load("wide-flow", "e1", "length", index=(at,)) for at in (0, 5)] == [300_000, 300_005]


def test_a_process_that_works_for_many_executions_never_mixes_their_items(tmp_path: Path) -> None:
    store = Counting()
    runs = [Children(flows.map_flow(), tmp_path, store, f"e{n}", n=n) for n in range(1, 9)]
    for children in runs:
        children.worker = runs[0].worker
    for at in range(8):
        for n, children in enumerate(runs, start=1):
            if at < n:
                children.answer("flap", at)
    for n, children in enumerate(runs, start=1):
        children.answer("total")
        assert store.load("map-flow", f"e{n}", "total") == 10 * sum(range(n))


def test_where_results_are_reused_items_are_never_those_of_before(tmp_path: Path) -> None:
    store = Counting()
    worker = worker_of(flows.listed_flow(), tmp_path, store)
    for values in (["goose"], ["duck"], ["owl", "jay"]):
        children = Children(flows.listed_flow(), tmp_path, store, f"e{values}", birds=values, run_id="mine")
        children.worker = worker
        for at in range(len(values)):
            children.answer("echo", at)
        assert [store.load("listed-flow", "mine", "echo", index=(at,)) for at in range(len(values))] == values


# Maps within maps


@pytest.mark.parametrize("inner", [1, 2])
@pytest.mark.parametrize("outer", [1, 3, 4])
def test_maps_within_maps_in_batches_of_any_size(store: MemoryStore, outer: int, inner: int) -> None:
    machine = Machine(flows.nested_flow(outer=outer, inner=inner), store=store)
    assert machine.execute(outer=outer, inner=inner) == [0, 10, 50, 120]  # of no items, 1, 2 3, 3 4 5
    manifests = [key for key in store.keys("nested-flow/runs/e1/eggs") if key.endswith("/map_manifest.json")]
    entries = [entry for key in manifests for entry in json.loads(store.blob(key))]
    assert sorted((entry["index"], entry["first"], entry["count"]) for entry in entries) == (
        [([1], 0, 1), ([2], 0, 1), ([2], 1, 1), ([3], 0, 1), ([3], 1, 1), ([3], 2, 1)]
        if inner == 1
        else [([1], 0, 1), ([2], 0, 2), ([3], 0, 2), ([3], 2, 1)]
    )
    assert len(manifests) == -(-4 // outer)


def test_three_maps_deep(store: MemoryStore) -> None:
    assert Machine(flows.deep_flow(), store=store).execute() == [[], [[10]], [[20, 30], [30, 40, 50]]]


def test_a_map_that_ends_in_a_map_gives_lists_of_lists(store: MemoryStore) -> None:
    assert Machine(flows.open_nested_flow(), store=store).execute() == [[], [10], [20, 30], [30, 40, 50]]


def test_a_place_in_the_maps_outside_is_not_one_of_the_map_itself() -> None:
    entry = Slice.from_dict({"first": 4, "count": 2, "start": 0, "end": 9, "index": [7, 1]})
    assert (entry.place, entry.places) == ((7, 1, 4), [(7, 1, 4), (7, 1, 5)])
