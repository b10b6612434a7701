"""What every store does: the tests that the tests of each store inherit."""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lokki.codec import LARGE, NO_TAG, digest, encode
from lokki.errors import StoreError
from lokki.store import TransientStore
from lokki.store.packing import Items

TAG = bytes(range(16))
OTHER_TAG = bytes(range(16, 32))
NOISE = random.Random(7).randbytes(3 * LARGE)
VALUES: dict[str, Any] = {
    "small": [1, (2.5, "x"), {3: None}],
    "none": None,
    "large": {"noise": NOISE, "at": (1,)},
    "large and regular": list(range(60_000)),
    "beyond a mebibyte": [bytearray(1 << 20), NOISE, bytearray(1 << 20)],
}
INDICES = [(), (3,), (3, 17), (0, 0, 10**12)]
KEYS = {
    (): "birds/runs/r1/flap/output.pkl.gz",
    (3,): "birds/runs/r1/flap/3/output.pkl.gz",
    (3, 17): "birds/runs/r1/flap/3/17/output.pkl.gz",
    (0, 0, 10**12): "birds/runs/r1/flap/0/0/1000000000000/output.pkl.gz",
}
HERE = ("birds", "r1", "flap")


def taken(items: Items | None) -> list[Any] | None:
    return None if items is None else [items[at] for at in range(len(items))]


class StoreContract:
    """A store's tests inherit this and say how to open one, and how to get at what it holds."""

    many = 1_000

    @pytest.fixture
    def store(self) -> Iterator[TransientStore]:
        """A store with nothing in it."""
        raise NotImplementedError

    def held(self, store: Any, key: str) -> bytes:
        """The bytes at a key, past the store."""
        raise NotImplementedError

    def spoil(self, store: Any, key: str, data: bytes) -> None:
        """Put other bytes at a key, past the store."""
        raise NotImplementedError

    def named(self, key: str) -> str:
        """How the store names a key."""
        return key

    # --- outputs

    @pytest.mark.parametrize("index", INDICES, ids=str)
    @pytest.mark.parametrize("name", VALUES)
    def test_what_is_written_is_found_under_its_key(
        self, store: TransientStore, name: str, index: tuple[int, ...]
    ) -> None:
        value = VALUES[name]
        location = store.write(*HERE, value, index=index, tag=TAG)
        assert location == self.named(KEYS[index])
        assert store.read(location) == store.load(*HERE, index=index) == value
        assert store.find(*HERE, index=index) == (TAG, digest(encode(value)))

    @pytest.mark.parametrize("index", INDICES[:2], ids=str)
    @pytest.mark.parametrize("name", VALUES)
    def test_however_it_is_stored_it_has_one_digest(
        self, store: TransientStore, name: str, index: tuple[int, ...]
    ) -> None:
        value = VALUES[name]
        kept = store.keep(*HERE, value, index=index, tag=TAG)
        assert kept == (value, digest(encode(value)))
        assert store.put("birds", "r1", "glide", encode(value), index=index, tag=TAG) == kept.digest
        assert store.find("birds", "r1", "glide", index=index) == store.find(*HERE, index=index) == (TAG, kept.digest)
        assert store.load("birds", "r1", "glide", index=index) == value

    def test_no_tag_is_a_tag_too(self, store: TransientStore) -> None:
        store.write(*HERE, 1)
        store.keep(*HERE, 2, index=(0,))
        store.put(*HERE, encode(3), index=(1,))
        for index in ((), (0,), (1,)):
            found = store.find(*HERE, index=index)
            assert found is not None
            assert found.tag == NO_TAG

    @pytest.mark.parametrize("index", INDICES[:2], ids=str)
    @pytest.mark.parametrize("size", [1, LARGE])
    def test_a_reader_never_shares_a_value_with_the_writer(
        self, store: TransientStore, size: int, index: tuple[int, ...]
    ) -> None:
        value = [[0] * size]
        kept = store.keep(*HERE, value, index=index)
        value[0].append(1)
        kept.value[0].append(2)
        loaded = store.load(*HERE, index=index)
        loaded[0].append(3)
        assert store.load(*HERE, index=index) == [[0] * size]

    @pytest.mark.parametrize("index", INDICES[:3], ids=str)
    def test_what_was_written_last_is_what_is_read(self, store: TransientStore, index: tuple[int, ...]) -> None:
        for turn, size in enumerate((1, 1, LARGE, 2 * LARGE, 1, LARGE, 1)):
            value, tag = [turn, NOISE[:size]], bytes((turn,)) * 16
            made = store.keep(*HERE, value, index=index, tag=tag)
            assert store.load(*HERE, index=index) == value
            assert store.find(*HERE, index=index) == (tag, made.digest)

    def test_order_never_depends_on_what_was_written_first(self, store: TransientStore) -> None:
        order = random.Random(1).sample(range(60), 60)
        for at in order:
            store.write(*HERE, [at, NOISE[: at % 7 * LARGE // 4]], index=(at,))
        assert [store.load(*HERE, index=(at,))[0] for at in range(60)] == list(range(60))

    def test_addresses_do_not_mix(self, store: TransientStore) -> None:
        places = [
            *((("birds", "r1", "flap"), index) for index in ((), (1,), (11,), (1, 1), (1, 1, 1))),
            *(
                (("birds", run, step), index)
                for run in ("r1", "r11")
                for step in ("1", "flap2")
                for index in ((), (1,))
            ),
            (("bees", "r1", "flap"), (1,)),
        ]
        for number, (names, index) in enumerate(places):
            store.write(*names, number, index=index)
        assert [store.load(*names, index=index) for names, index in places] == list(range(len(places)))

    @pytest.mark.parametrize("index", INDICES, ids=str)
    def test_a_missing_key_is_named(self, store: TransientStore, index: tuple[int, ...]) -> None:
        named = self.named(KEYS[index])
        store.write("birds", "r1", "glide", 0)
        store.write(*HERE, 0, index=(99,))
        attempts: list[Callable[[], Any]] = [lambda: store.load(*HERE, index=index), lambda: store.read(named)]
        for attempt in attempts:
            with pytest.raises(StoreError, match=rf"^Nothing is stored at {named}\.$") as caught:
                attempt()
            assert caught.value.location == named
        assert store.find(*HERE, index=index) is None

    @pytest.mark.parametrize(
        "location",
        [
            "",
            "output.pkl.gz",
            "birds/r1/flap/output.pkl.gz",
            "birds/runs/r1/flap/x/output.pkl.gz",
            "birds/runs/r1/flap/3",
        ],
    )
    def test_what_is_no_location_is_refused(self, store: TransientStore, location: str) -> None:
        with pytest.raises(StoreError, match="is not the location of an output, which looks like <flow>/runs/"):
            store.read(location)

    @pytest.mark.parametrize("name", ["..", "a/b", "a\\b", "", "a\0b"], ids=repr)
    @pytest.mark.parametrize("place", ["flow", "run", "step"])
    def test_a_name_that_leads_elsewhere_is_refused(self, store: TransientStore, name: str, place: str) -> None:
        flow, run, step = (name if each == place else each for each in ("flow", "run", "step"))
        attempts: list[Callable[[], Any]] = [
            lambda: store.write(flow, run, step, 1),
            lambda: store.put(flow, run, step, encode(1), index=(1,)),
            lambda: store.load(flow, run, step),
            lambda: store.find(flow, run, step, index=(1,)),
            lambda: store.write_items(flow, run, step, [1]),
            lambda: store.items(flow, run, step),
            *([lambda: store.remove(flow, run)] if place != "step" else []),
        ]
        for attempt in attempts:
            with pytest.raises(StoreError, match="cannot be part of a key"):
                attempt()

    @pytest.mark.parametrize("index", INDICES[:2], ids=str)
    @pytest.mark.parametrize("size", [1, LARGE])
    def test_what_cannot_be_pickled_leaves_what_was_there(
        self, store: TransientStore, size: int, index: tuple[int, ...]
    ) -> None:
        store.write(*HERE, "before", index=index)
        with pytest.raises(StoreError, match="a value of type list cannot be stored"):
            store.write(*HERE, [NOISE[:size], threading.Lock()], index=index)
        assert store.load(*HERE, index=index) == "before"

    @pytest.mark.parametrize("index", [(), (3,)], ids=str)
    def test_a_damaged_value_is_named(self, store: TransientStore, index: tuple[int, ...]) -> None:
        store.write(*HERE, VALUES["large"], index=index)
        whole = self.held(store, KEYS[index])
        for data in (whole[:-1], whole[: LARGE // 2], b"", whole[:999] + b"?" + whole[1000:]):
            self.spoil(store, KEYS[index], data)
            with pytest.raises(
                StoreError, match=rf"^{self.named(KEYS[index])} is damaged \(.+\)\. Remove it and run again"
            ) as caught:
                store.load(*HERE, index=index)
            assert caught.value.location == self.named(KEYS[index])

    def test_many_threads_write_at_once(self, store: TransientStore) -> None:
        def write(at: int) -> None:
            store.write(*HERE, {"at": at}, index=(at,), tag=at.to_bytes(16, "big"))
            assert store.load(*HERE, index=(at,)) == {"at": at}

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(self.many)))
        assert [store.load(*HERE, index=(at,))["at"] for at in range(self.many)] == list(range(self.many))
        tags = [found.tag for at in range(self.many) if (found := store.find(*HERE, index=(at,)))]
        assert tags == [at.to_bytes(16, "big") for at in range(self.many)]

    def test_many_threads_write_one_large_value_at_once(self, store: TransientStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda at: store.write(*HERE, [at, NOISE], index=(5,)), range(24)))
        assert store.load(*HERE, index=(5,))[1] == NOISE

    # --- items

    @pytest.mark.parametrize("batch_size", [1, 7])
    @pytest.mark.parametrize("count", [0, 1, 7, 20])
    def test_items_come_back_in_order_and_the_manifest_says_where(
        self, store: TransientStore, count: int, batch_size: int
    ) -> None:
        values = [{"n": at, "text": "x" * at} for at in range(count)]
        written = store.write_items(*HERE, iter(values), tag=TAG, batch_size=batch_size)
        found = store.items(*HERE)
        assert found is not None
        for items in (written, found):
            assert len(items) == count
            assert taken(items) == values
            assert [items.frame(at) for at in range(count)] == [encode(value) for value in values]
            assert items.tag == TAG
        packed = self.held(store, "birds/runs/r1/flap/items.pack")
        children = json.loads(self.held(store, "birds/runs/r1/flap/map_manifest.json"))
        assert [child["first"] for child in children] == list(range(0, count, batch_size))
        for child in children:
            part = values[child["first"] : child["first"] + batch_size]
            assert child["count"] == len(part)
            slice_ = io.BytesIO(packed[child["start"] : child["end"]])
            assert [pickle.load(slice_) for _ in part] == part
            assert slice_.read() == b""

    def test_items_of_any_size_come_back(self, store: TransientStore) -> None:
        values = [NOISE[:size] * times for size in (0, 1, LARGE - 1, LARGE, 3 * LARGE) for times in (1, 9)]
        items = store.write_items(*HERE, values, batch_size=3)
        assert taken(items) == values
        assert items[5] == values[5]
        assert items.frame(5) == encode(values[5])

    def test_items_are_not_shared(self, store: TransientStore) -> None:
        items = store.write_items(*HERE, [[1]])
        items[0].append(2)
        assert items[0] == [1]

    def test_items_written_again_replace_the_others(self, store: TransientStore) -> None:
        store.write_items(*HERE, range(9), tag=TAG)
        store.write_items(*HERE, ["a", "b"], tag=OTHER_TAG, batch_size=2)
        items = store.items(*HERE)
        assert taken(items) == ["a", "b"]
        assert items is not None
        assert items.tag == OTHER_TAG
        assert len(json.loads(self.held(store, "birds/runs/r1/flap/map_manifest.json"))) == 1

    @pytest.mark.parametrize("index", [(4,), (4, 0, 7)], ids=str)
    def test_items_of_a_map_within_a_map_lie_under_their_place(
        self, store: TransientStore, index: tuple[int, ...]
    ) -> None:
        values = ["owl", "jay", "tit", "kea", "auk"]
        store.write_items(*HERE, ["another"], tag=OTHER_TAG)
        written = store.write_items(*HERE, iter(values), tag=TAG, batch_size=2, index=index, lengths=[2, 0, 3])
        found = store.items(*HERE, index=index)
        assert found is not None
        assert taken(found) == taken(written) == values
        assert found.tag == TAG
        assert taken(store.items(*HERE)) == ["another"]
        assert store.items(*HERE, index=(*index[:-1], index[-1] + 1)) is None
        folder = f"birds/runs/r1/flap/{'/'.join(map(str, index))}"
        children = json.loads(self.held(store, f"{folder}/map_manifest.json"))
        *above, outer = index
        assert [(child["index"], child["first"], child["count"]) for child in children] == [
            ([*above, outer], 0, 2),
            ([*above, outer + 2], 0, 2),
            ([*above, outer + 2], 2, 1),
        ]
        for child, part in zip(children, (values[:2], values[2:4], values[4:]), strict=True):
            span, _ = store.span(f"{folder}/items.pack", child["start"], child["end"])
            slice_ = io.BytesIO(span)
            assert [pickle.load(slice_) for _ in part] == part

    def test_items_of_one_outer_item_are_counted_like_any_others(self, store: TransientStore) -> None:
        store.write_items(*HERE, [1, 2, 3], batch_size=2, index=(5,), lengths=[3])
        children = json.loads(self.held(store, "birds/runs/r1/flap/5/map_manifest.json"))
        assert [(child["index"], child["first"], child["count"]) for child in children] == [([5], 0, 2), ([5], 2, 1)]
        store.write_items(*HERE, [], index=(6,), lengths=[0, 0])
        assert json.loads(self.held(store, "birds/runs/r1/flap/6/map_manifest.json")) == []
        assert taken(store.items(*HERE, index=(6,))) == []

    def test_items_that_are_not_there_are_none(self, store: TransientStore) -> None:
        store.write(*HERE, [1])
        assert store.items(*HERE) is None

    def test_items_and_output_lie_side_by_side(self, store: TransientStore) -> None:
        store.write_items(*HERE, [1, 2])
        store.write(*HERE, "whole")
        store.write(*HERE, "part", index=(0,))
        assert (taken(store.items(*HERE)), store.load(*HERE), store.load(*HERE, index=(0,))) == (
            [1, 2],
            "whole",
            "part",
        )

    def test_an_item_that_cannot_be_pickled_is_named_by_its_position(self, store: TransientStore) -> None:
        values = [NOISE] * 9 + [threading.Lock()]
        with pytest.raises(StoreError, match=r"^item 9: a value of type lock cannot be stored"):
            store.write_items(*HERE, values)
        assert store.items(*HERE) is None

    def test_an_error_while_items_are_made_is_left_as_it_is(self, store: TransientStore) -> None:
        def values() -> Iterator[int]:
            yield 1
            raise FileNotFoundError(2, "No such file or directory", "birds.csv")

        with pytest.raises(FileNotFoundError, match=r"birds\.csv"):
            store.write_items(*HERE, values())
        assert store.items(*HERE) is None

    def test_damaged_items_are_named(self, store: TransientStore) -> None:
        store.write_items(*HERE, range(1_000))
        key = "birds/runs/r1/flap/items.pack"
        whole = self.held(store, key)
        for data in (b"", whole[:-1], whole[:100], whole[1:], whole + b"\0"):
            self.spoil(store, key, data)
            with pytest.raises(StoreError, match=rf"^{self.named(key)} is damaged \(packed items are .+\)") as caught:
                store.items(*HERE)
            assert caught.value.location == self.named(key)

    # --- blobs

    def test_a_blob_comes_back_under_its_key(self, store: TransientStore) -> None:
        for data in (b"", b"bird", NOISE):
            assert store.put_blob("birds/runs/r1/errors/one.json", data) == self.named("birds/runs/r1/errors/one.json")
            assert store.blob("birds/runs/r1/errors/one.json") == data
            assert type(store.blob("birds/runs/r1/errors/one.json")) is bytes

    def test_what_is_written_is_a_blob_too(self, store: TransientStore) -> None:
        store.write_items(*HERE, ["owl", "jay"])
        packed = store.blob("birds/runs/r1/flap/items.pack")
        assert packed == self.held(store, "birds/runs/r1/flap/items.pack")
        for at, child in enumerate(json.loads(store.blob("birds/runs/r1/flap/map_manifest.json"))):
            span, size = store.span("birds/runs/r1/flap/items.pack", child["start"], child["end"])
            assert pickle.loads(span) == ("owl", "jay")[at]
            assert size == len(packed)

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 5), (2, 4), (0, 9), (3, 99), (0, 0), (4, 4), (5, 5), (5, 9), (7, 7), (70, 99)]
    )
    @pytest.mark.parametrize("data", [b"birds", b""])
    def test_a_span_is_what_a_slice_is(self, store: TransientStore, data: bytes, start: int, end: int) -> None:
        store.put_blob("birds/runs/r1/flap/results.pack", data)
        assert store.span("birds/runs/r1/flap/results.pack", start, end) == (data[start:end], len(data))

    def test_a_blob_that_is_not_there_is_named(self, store: TransientStore) -> None:
        store.put_blob("birds/runs/r1/flap/1", b"")
        named = self.named("birds/runs/r1/flap/11")
        attempts: list[Callable[[], Any]] = [
            lambda: store.blob("birds/runs/r1/flap/11"),
            lambda: store.span("birds/runs/r1/flap/11", 0, 1),
        ]
        for attempt in attempts:
            with pytest.raises(StoreError, match=rf"^Nothing is stored at {re.escape(named)}\.$") as caught:
                attempt()
            assert caught.value.location == named

    @pytest.mark.parametrize(
        "key", ["", "/birds", "birds//r1", "../birds", "birds/./r1", "a\\b", "a\0b", "birds/"], ids=repr
    )
    def test_a_key_that_leads_elsewhere_is_refused(self, store: TransientStore, key: str) -> None:
        attempts: list[Callable[[], Any]] = [
            lambda: store.blob(key),
            lambda: store.put_blob(key, b""),
            lambda: store.span(key, 0, 1),
            *([lambda: store.keys(f"{key}/birds")] if key != "" else []),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError, match="cannot be a key") as caught:
                attempt()
            assert isinstance(caught.value, StoreError)

    @pytest.mark.parametrize(("start", "end"), [(-1, 4), (3, 2)])
    def test_a_span_that_is_none_is_a_mistake(self, store: TransientStore, start: int, end: int) -> None:
        with pytest.raises(ValueError, match="a span begins at or after 0"):
            store.span("birds/runs/r1/flap/results.pack", start, end)

    def test_keys_are_listed_by_folder_and_in_order(self, store: TransientStore) -> None:
        assert list(store.keys("")) == []
        keys = [f"birds/runs/{run}/flap/{name}" for run in ("r1", "r10") for name in ("0/out", "1", "10/a/b", "2")]
        for key in reversed(keys):
            store.put_blob(key, b"x")
        assert list(store.keys("")) == list(store.keys("birds")) == keys
        assert list(store.keys("birds/runs/r1")) == list(store.keys("birds/runs/r1/")) == keys[:4]
        assert list(store.keys("birds/runs/r1/flap/1")) == []
        assert list(store.keys("bees")) == []

    # --- letting go

    def test_removing_a_run_leaves_the_others(self, store: TransientStore) -> None:
        runs = [("birds", "r1"), ("birds", "r10"), ("birds", "r"), ("bees", "r1")]
        for run in runs:
            store.write(*run, "flap", run)
            store.write(*run, "flap", [run], index=(1,))
            store.write(*run, "flap", [run, NOISE], index=(2,))
            store.write_items(*run, "flap", run)
        store.remove("birds", "r1")
        for index in ((), (1,), (2,)):
            assert store.find(*HERE, index=index) is None
            with pytest.raises(StoreError, match=f"Nothing is stored at {self.named('birds/runs/r1/flap/')}"):
                store.load(*HERE, index=index)
        assert store.items(*HERE) is None
        for run in runs[1:]:
            assert store.load(*run, "flap") == run
            assert store.load(*run, "flap", index=(1,)) == [run]
            assert store.load(*run, "flap", index=(2,)) == [run, NOISE]
            assert taken(store.items(*run, "flap")) == list(run)

    def test_a_removed_run_can_be_written_again(self, store: TransientStore) -> None:
        for turn in range(3):
            assert store.find(*HERE, index=(1,)) is None
            store.write(*HERE, turn, index=(1,))
            assert store.load(*HERE, index=(1,)) == turn
            store.remove("birds", "r1")
        store.remove("birds", "never")

    @pytest.mark.parametrize("what", ["output", "part", "large part", "frame", "items"])
    def test_cleaning_up_leaves_nothing(self, store: TransientStore, what: str) -> None:
        writes: dict[str, Callable[[], Any]] = {
            "output": lambda: store.write(*HERE, 1),
            "part": lambda: store.write(*HERE, 1, index=(1,)),
            "large part": lambda: store.write(*HERE, NOISE, index=(1,)),
            "frame": lambda: store.put(*HERE, encode(1)),
            "items": lambda: store.write_items(*HERE, [1]),
        }
        writes[what]()
        store.cleanup()
        assert store.find(*HERE) is None
        assert store.find(*HERE, index=(1,)) is None
        assert store.items(*HERE) is None
        writes[what]()
        assert [store.find(*HERE), store.find(*HERE, index=(1,)), store.items(*HERE)] != [None, None, None]
