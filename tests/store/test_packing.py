"""Packed items are one object: what is read is what was packed, and what is not whole is refused."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.codec import encode
from lokki.errors import StoreError
from lokki.store.packing import Items, manifest, pack, pack_frames, taken, unpack

TAG = bytes(range(16))


def packed(values: list[object]) -> bytes:
    held = bytearray()
    pack(values, held.extend, TAG)
    return bytes(held)


def listed(items: Items) -> list[object]:
    return [items[at] for at in range(len(items))]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.none() | st.integers() | st.text() | st.binary() | st.tuples(st.integers())))
def test_items_come_back(values: list[object]) -> None:
    items = unpack(packed(values))
    assert listed(items) == values
    assert list(map(type, listed(items))) == list(map(type, values))
    assert items.tag == TAG


def test_the_frames_lie_one_after_the_other() -> None:
    values: list[object] = ["owl", None, (1, 2)]
    frames = b"".join(map(encode, values))
    assert packed(values).startswith(frames)


def test_many_large_items_are_written_in_pieces_as_they_come() -> None:
    sizes: list[int] = []
    most = 0

    def values() -> object:
        nonlocal most
        for at in range(40):
            most = max(most, at * 100_000 - sum(sizes))
            yield bytes(100_000)

    pack(values(), lambda data: sizes.append(len(data)), TAG)  # type: ignore[arg-type]
    assert most < 2 << 20
    assert len(sizes) > 3


def test_an_item_that_is_not_there_is_an_index_error() -> None:
    items = unpack(packed(["owl", "jay"]))
    for at in (2, -1):
        with pytest.raises(IndexError):
            items[at]
        with pytest.raises(IndexError):
            items.frame(at)


def test_every_cut_is_refused() -> None:
    data = packed(["owl", "jay", [1, 2, 3]])
    for at in range(len(data)):
        for part in (data[:at], data[at + 1 :]):
            with pytest.raises(StoreError, match=r"^packed items are ."):
                unpack(part)


@pytest.mark.parametrize("end", range(1, 33))
def test_no_flipped_bit_in_the_end_makes_other_items(end: int) -> None:
    values: list[object] = ["owl", "jay", [1, 2, 3]]
    data = bytearray(packed(values))
    for bit in range(8):
        data[-end] ^= 1 << bit
        try:
            items = unpack(data)
        except StoreError:
            pass
        else:
            assert items.tag != TAG, "only a tag may be another one, and then the items are packed again"
            assert listed(items) == values
        data[-end] ^= 1 << bit


def test_an_item_that_is_damaged_is_named_by_its_position() -> None:
    data = packed(["owl", "jay"])
    items = unpack(data.replace(encode("jay"), b"\xff" * len(encode("jay"))))
    assert items[0] == "owl"
    with pytest.raises(StoreError, match=r"^item 1: a stored value cannot be read back: "):
        items[1]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_manifest_of_many_children_is_one_json_list(batch_size: int) -> None:
    count = 25_000 * batch_size + 1
    held = bytearray()
    manifest(array("Q", range(0, 3 * (count + 1), 3)), batch_size, held.extend)
    children = json.loads(held)
    assert len(children) == 25_001
    assert children[10_000] == {
        "first": 10_000 * batch_size,
        "count": batch_size,
        "start": 30_000 * batch_size,
        "end": 30_000 * batch_size + 3 * batch_size,
    }
    assert children[-1] == {"first": count - 1, "count": 1, "start": 3 * (count - 1), "end": 3 * count}
    assert sum(child["count"] for child in children) == count


# Frames


@settings(deadline=None)
@given(st.lists(st.none() | st.integers() | st.binary(max_size=200)))
def test_frames_are_packed_like_the_values_they_are_of(values: list[object]) -> None:
    held = bytearray()
    offsets = pack_frames(map(encode, values), held.extend, TAG)
    assert bytes(held) == packed(values)
    assert offsets == unpack(held).offsets


def test_a_frame_may_be_missing() -> None:
    held = bytearray()
    pack_frames([encode("owl"), b"", encode("jay"), b""], held.extend, TAG)
    items = unpack(held)
    assert [items.frame(at) for at in range(4)] == [encode("owl"), b"", encode("jay"), b""]
    assert (items[0], items[2]) == ("owl", "jay")
    with pytest.raises(StoreError, match=r"^item 1: a stored value cannot be read back: EOFError"):
        items[1]


@settings(deadline=None)
@given(st.lists(st.none() | st.integers() | st.binary(max_size=200), min_size=1), st.data())
def test_a_slice_is_taken_item_by_item(values: list[object], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(values) - 1))
    count = data.draw(st.integers(0, len(values) - first))
    whole, items = packed(values), unpack(packed(values))
    span = whole[items.offsets[first] : items.offsets[first + count]]
    assert list(taken(span, count, first)) == [(each, encode(each)) for each in values[first : first + count]]


def test_large_items_are_taken_whole() -> None:
    values = [bytes(70_000), [bytearray(1 << 20), "owl"], "jay"]
    span = b"".join(map(encode, values))
    assert list(taken(span, 3, 0)) == [(each, encode(each)) for each in values]


@pytest.mark.parametrize(("end", "item"), [(0, 7), (3, 7), (-1, 9), (-20, 9)])
def test_a_slice_that_is_cut_off_names_the_first_item_that_is_missing(end: int, item: int) -> None:
    span = b"".join(map(encode, ["owl", "jay", "a bird with a long name"]))
    with pytest.raises(StoreError, match=rf"^item {item}: a stored value cannot be read back: "):
        list(taken(span[:end], 3, 7))


# Manifests of maps within maps


def nested(lengths: list[int], batch_size: int, index: tuple[int, ...]) -> list[dict[str, Any]]:
    held = bytearray()
    total = sum(lengths)
    manifest(array("Q", range(100, 100 + 3 * (total + 1), 3)), batch_size, held.extend, index, lengths)
    children: list[dict[str, Any]] = json.loads(held)
    return children


def test_a_child_has_items_of_one_outer_item_and_its_entry_says_of_which() -> None:
    assert nested([2, 0, 3], 2, (4,)) == [
        {"first": 0, "count": 2, "start": 100, "end": 106, "index": [4]},
        {"first": 0, "count": 2, "start": 106, "end": 112, "index": [6]},
        {"first": 2, "count": 1, "start": 112, "end": 115, "index": [6]},
    ]


def test_deeper_maps_keep_the_places_above() -> None:
    assert [child["index"] for child in nested([1, 1], 5, (9, 0, 3))] == [[9, 0, 3], [9, 0, 4]]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_no_items_at_all_are_an_empty_list(lengths: list[int]) -> None:
    assert nested(lengths, 3, (0,)) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 4), st.integers(0, 50))
def test_every_item_is_in_one_child(lengths: list[int], batch_size: int, outer: int) -> None:
    children = nested(lengths, batch_size, (outer,))
    places = [
        (child["index"], first)
        for child in children
        for first in range(child["first"], child["first"] + child["count"])
    ]
    assert places == [([outer + at], item) for at, length in enumerate(lengths) for item in range(length)]
    assert all(1 <= child["count"] <= batch_size for child in children)
    bounds = [(child["start"], child["end"]) for child in children]
    assert [start for start, _ in bounds[1:]] == [end for _, end in bounds[:-1]], "they lie one after the other"


def test_a_manifest_of_many_small_groups_is_one_json_list() -> None:
    children = nested([1] * 25_000, 3, (0,))
    assert len(children) == 25_000
    assert children[-1] == {
        "first": 0,
        "count": 1,
        "start": 100 + 3 * 24_999,
        "end": 100 + 3 * 25_000,
        "index": [24_999],
    }
