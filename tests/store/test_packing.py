"""Packed items are one object: what is read is what was packed, and what is not whole is refused."""

from __future__ import annotations

import json
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.codec import encode
from lokki.errors import StoreError
from lokki.store.packing import Items, manifest, pack, unpack

TAG = bytes(range(16))


def packed(values: list[object]) -> bytes:
    held = bytearray()
    pack(values, held.extend, TAG)
    return bytes(held)


def listed(items: Items) -> list[object]:
    return [items[at] for at in range(len(items))]


@settings(deadline=None)
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
