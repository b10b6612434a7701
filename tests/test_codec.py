"""Values become bytes and come back as what they were, or are refused; nothing damaged is taken for a value."""

from __future__ import annotations

import enum
import functools
import gc
import gzip
import itertools
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.codec import (
    LARGE,
    NO_TAG,
    SEAL_SIZE,
    Seal,
    content_hash,
    decode,
    digest,
    encode,
    read_seal,
    seal,
    seal_frame,
    unseal,
)
from lokki.errors import StoreError

TAG = bytes(range(16))
BLOCK = 65_535  # a stored block of deflate holds no more
MIB = 1 << 20


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Bird:
    name: str
    seen: frozenset[str] = frozenset()
    notes: dict[str, Any] = field(default_factory=dict, hash=False)


class Fortran:
    """Hands pickle a buffer that does not lie row by row."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self.held),)


class Grudge:
    """Can be written, and fails when it is read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise state["error"]


@functools.cache
def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def grown(*items: Any) -> set[Any]:
    """A set whose order is that in which its items came, where their hashes collide."""
    made: set[Any] = set()
    for each in items:
        made.add(each)
    return made


def frame_of(value: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": pd.Categorical(["owl", "jay", None, "owl"] * value, categories=["jay", "owl", "tit"], ordered=True),
            "at": pd.date_range("2024-03-31", periods=4 * value, freq="h", tz="Europe/Berlin"),
            "on": pd.Series([pd.Timestamp("2024-01-01"), pd.NaT] * (2 * value)),
            "n": pd.array([1, None, 3, 4] * value, dtype="Int64"),
            "x": np.arange(4.0 * value),
        },
        index=pd.Index(range(0, 8 * value, 2), name="id"),
    )


SMALL: list[Any] = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    float("inf"),
    "",
    "Blåmes \N{BIRD}\0",
    b"",
    b"\x80\x05.",
    bytearray(b"ab"),
    [],
    (),
    {},
    (1, (2, [3, {4: (5,)}])),
    {1: "a", "1": "b", (1, 2): None, None: [None]},
    {1, 2},
    frozenset({"a"}),
    range(3),
    datetime(2024, 3, 31, 2, 30, tzinfo=UTC),
    datetime(2024, 3, 31, 2, 30, fold=1),
    date(2024, 2, 29),
    timedelta(days=-1, microseconds=3),
    Decimal("1.10"),
    Colour.RED,
    Level.HIGH,
    Point(1, 2),
    Bird("owl", frozenset({"a"}), {"n": 1}),
    OrderedDict([("b", 1), ("a", 2)]),
    Counter("abca"),
    Path("data") / "birds.csv",
    np.float32(1.5),
]
LARGER: dict[str, Callable[[], Any]] = {
    "many numbers": lambda: list(range(40_000)),
    "many dicts": lambda: [{"id": i, "at": (i, str(i))} for i in range(5_000)],
    "one text": lambda: "the same line\n" * 20_000,
    "noise": lambda: noise(200_000),
    "noise beyond a mebibyte": lambda: bytearray(noise(MIB + 300_000)),
    "zeros beyond a mebibyte": lambda: bytes(2 * MIB),
    "noise amid small things": lambda: [list(range(30_000)), noise(70_000), "x", noise(MIB), list(range(30_000))],
    "small things, then noise": lambda: {"head": list(range(10_000)), "body": noise(300_000)},
    "data frame": lambda: frame_of(1),
    "large data frame": lambda: frame_of(5_000),
    "series": lambda: pd.Series(["a", None] * 9_000, name="s", dtype="string"),
    "object array": lambda: np.array([{"a": 1}, None, "x"] * 20_000, dtype=object),
    "masked array": lambda: np.ma.masked_less(np.arange(20_000), 100),
    "every second column": lambda: np.arange(60_000.0).reshape(200, 300)[:, ::2],
    "backwards": lambda: np.arange(30_000)[::-1],
    "by column": lambda: np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    "no rows": lambda: np.empty((0, 7)),
    "no dimension": lambda: np.array(7),
}
DTYPES = ["?", "i1", "<u8", ">i4", "f2", ">f8", "c16", "S7", "U3", "M8[s]", "m8[ms]", [("a", "i4"), ("b", "2f8")]]


def sealed(value: Any, tag: bytes = NO_TAG, worth: float = 0.9) -> tuple[bytes, Seal, bytes | None]:
    held = bytearray()
    made, frame = seal(value, held.extend, tag, worth)
    return bytes(held), made, frame


def sealed_frame(frame: bytes, worth: float = 0.9) -> tuple[bytes, Seal]:
    held = bytearray()
    made = seal_frame(frame, held.extend, TAG, worth)
    return bytes(held), made


def assert_same(got: Any, value: Any) -> None:
    assert type(got) is type(value)
    match value:
        case pd.DataFrame():
            pd.testing.assert_frame_equal(got, value)
        case pd.Series():
            pd.testing.assert_series_equal(got, value)
        case np.ndarray():
            assert got.dtype == value.dtype
            assert got.shape == value.shape
            np.testing.assert_array_equal(got, value)
        case list() | tuple():
            assert len(got) == len(value)
            for mine, theirs in zip(got, value, strict=True):
                assert_same(mine, theirs)
        case dict():
            assert_same(list(got.items()), list(value.items()))
        case _:
            assert got == value


def assert_survives(value: Any) -> None:
    """The value comes back from a frame and from a sealed value, by our reader and by plain gzip and pickle."""
    data, made, frame = sealed(value, TAG)
    assert_same(unseal(data), value)
    assert_same(pickle.loads(gzip.decompress(data)), value)
    assert_same(decode(encode(value)), value)
    assert read_seal(data[-SEAL_SIZE:]) == made == Seal(TAG, digest(encode(value)))
    assert frame is None or frame == encode(value)
    again, same = sealed_frame(encode(value))
    assert same == made
    assert_same(unseal(again), value)


# --- values keep their type


@pytest.mark.parametrize("value", SMALL, ids=repr)
def test_a_small_value_comes_back_as_what_it_was(value: Any) -> None:
    assert_survives(value)
    assert sealed(value)[2] == encode(value)


@pytest.mark.parametrize("name", LARGER)
def test_a_larger_value_comes_back_as_what_it_was(name: str) -> None:
    assert_survives(LARGER[name]())


@pytest.mark.parametrize("size", [3, 30_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_array_comes_back_with_its_dtype(dtype: Any, size: int) -> None:
    held = np.zeros(size, dtype)
    held.view("u1").reshape(-1)[::5] = 1
    assert_survives(held)


@pytest.mark.parametrize("edge", [LARGE, 2 * BLOCK, 3 * BLOCK])
def test_no_size_is_one_off(edge: int) -> None:
    sizes = set()
    for size in range(edge - 40, edge + 10):
        value = noise(edge + 10)[:size]
        frame = encode(value)
        sizes.add(len(frame))
        for data in (sealed(value)[0], sealed_frame(frame, worth=0)[0]):
            assert unseal(data) == value
            assert gzip.decompress(data) == frame
    assert sizes >= {edge - 1, edge, edge + 1}


def test_a_buffer_that_lies_column_by_column_is_written_as_it_lies() -> None:
    held = np.asfortranarray(np.arange(60_000.0).reshape(200, 300))
    assert unseal(sealed(Fortran(held))[0]) == held.tobytes(order="A")


def test_a_gzip_of_a_pickle_from_elsewhere_is_read(tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with gzip.open(tmp_path / "v.gz", "wb") as file:
            pickle.dump({"a": (1, noise(100_000))}, file, protocol)
        assert unseal((tmp_path / "v.gz").read_bytes()) == {"a": (1, noise(100_000))}


def test_an_old_pickle_is_read_from_stored_blocks_too() -> None:
    value = {"a": Decimal("1.10"), "b": noise(70_000)}
    data, _ = sealed_frame(pickle.dumps(value, 2), worth=0)
    assert len(data) > LARGE
    assert unseal(data) == value


# --- how large it gets


def test_what_shrinks_is_deflated_and_what_does_not_is_stored() -> None:
    assert len(sealed(bytes(MIB))[0]) < MIB / 50
    assert MIB < len(sealed(noise(MIB))[0]) < MIB + 1_000


def test_how_much_a_value_must_shrink_is_the_callers_choice() -> None:
    half = bytes(noise(300_000)[i] & 15 for i in range(300_000))
    assert len(sealed(half, worth=0.9)[0]) < 0.7 * len(half)
    assert len(sealed(half, worth=0.25)[0]) > len(half)


def test_a_large_value_is_written_in_pieces() -> None:
    sizes: list[int] = []
    seal(np.frombuffer(noise(3 * MIB)), lambda data: sizes.append(len(data)))
    assert max(sizes) <= BLOCK


# --- what identifies a value


@pytest.mark.parametrize("size", [10, BLOCK, MIB - 1, MIB, MIB + 1, MIB + 12, 3 * MIB])
@pytest.mark.parametrize("content", [bytes, noise])
def test_one_changed_byte_changes_the_digest(size: int, content: Callable[[int], bytes]) -> None:
    value = bytearray(content(size))
    made = sealed(value)[1].digest
    assert sealed(bytearray(value))[1].digest == digest(encode(value)) == made
    for at in {0, size // 3, size - 1}:
        value[at] ^= 1
        assert sealed(value)[1].digest == digest(encode(value)) != made
        value[at] ^= 1


def test_equal_values_have_equal_digests_whatever_they_are_made_from() -> None:
    values = [{"id": i, "noise": noise(90_000)} for i in range(20)]
    assert sealed(values, TAG)[1].digest == sealed(values, NO_TAG)[1].digest == sealed_frame(encode(values))[1].digest


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        bytes(SEAL_SIZE),
        sealed(1)[0][-SEAL_SIZE + 1 :],
        sealed(1)[0][-SEAL_SIZE - 1 :],
        gzip.compress(noise(99), mtime=0)[-SEAL_SIZE:],
    ],
    ids=["nothing", "zeros", "too short", "too long", "another gzip"],
)
def test_what_is_no_seal_is_not_taken_for_one(tail: bytes) -> None:
    assert read_seal(tail) is None


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", 2: "b", 3: "c"}, {3: "c", 1: "a", 2: "b"}),
        ({"$a": {2: 1, 1: 2}}, {"$a": {1: 2, 2: 1}}),
        ([{(2, 1): {3: 3, 4: 4}, (1, 2): 0}], [{(1, 2): 0, (2, 1): {4: 4, 3: 3}}]),
        (grown(8, 16, 0), grown(16, 0, 8)),
        (Bird("owl", notes={"a": grown(8, 16, 0)}), Bird("owl", notes={"a": grown(0, 16, 8)})),
    ],
)
def test_order_within_dicts_and_sets_does_not_count(value: Any, same: Any) -> None:
    assert value == same
    assert repr(value) != repr(same)
    assert content_hash(value) == content_hash(same)


def test_different_values_have_different_hashes() -> None:
    values: list[Any] = [
        *(None, 0, 1, 1.0, True, "1", b"1", "None", Decimal(1), Colour.RED, "red", Level.HIGH, 3, float("nan"), "nan"),
        *([], (), {}, set(), frozenset(), [1], (1,), {1}, frozenset({1}), {1: 1}, {"1": 1}, [[1]], [1, 2], [2, 1]),
        *(Bird("owl"), Bird("jay"), Bird("owl", frozenset("a")), Bird("owl", frozenset("b")), ("owl", frozenset())),
        *(np.arange(3), np.arange(3.0), np.arange(4), datetime(2024, 1, 1), date(2024, 1, 1)),
    ]
    hashes = [content_hash(value) for value in values]
    assert [values[i] for i in range(len(values)) if hashes[i] in hashes[:i]] == []
    assert hashes == [content_hash(pickle.loads(pickle.dumps(value))) for value in values]
    assert content_hash(frame_of(1)) == content_hash(frame_of(1)) != content_hash(frame_of(2))


def test_the_hash_is_the_same_in_every_process() -> None:
    code = """
        from types import SimpleNamespace
        from lokki.codec import content_hash
        words = {"owl", "jay", "tit", "wren", "crow"}
        print(list(words), content_hash([words, {frozenset(words): 1}, SimpleNamespace(inner=[words], text="a")]))
    """
    (words, made), (others, same) = (python(code, PYTHONHASHSEED=seed).rsplit(maxsplit=1) for seed in ("1", "2"))
    assert words != others
    assert made == same


def test_what_stands_for_other_things_in_a_hash_is_the_callers_choice() -> None:
    assert content_hash([len, 1], lambda other: other.__name__) == content_hash(["len", 1])


# --- what cannot be stored


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


UNPICKLABLE: dict[str, tuple[Any, str]] = {
    "lambda": (lambda: 0, "function"),
    "lock": (threading.Lock(), "lock"),
    "generator": (iter(each for each in "ab"), "generator"),
    "lock amid data": ([noise(100_000), threading.Lock()], "list"),
    "nested without end": (nested(100_000), "list"),
}


@pytest.mark.parametrize("name", UNPICKLABLE)
@pytest.mark.parametrize("attempt", [encode, sealed])
def test_what_cannot_be_pickled_is_refused_with_a_remedy(name: str, attempt: Callable[[Any], Any]) -> None:
    value, kind = UNPICKLABLE[name]
    message = rf"^a value of type {kind} cannot be stored, because it cannot be pickled \(.+\)\. Return plain data: "
    with pytest.raises(StoreError, match=message):
        attempt(value)


@pytest.mark.parametrize("value", [threading.Lock(), [threading.Lock()], Bird("owl", notes={"a": threading.Lock()})])
def test_what_cannot_be_pickled_has_no_hash(value: Any) -> None:
    with pytest.raises(StoreError, match="cannot be pickled"):
        content_hash(value)


def test_what_holds_itself_has_no_hash() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(StoreError, match="a value of type list cannot be hashed"):
        content_hash(value)


@pytest.mark.parametrize("value", [1, noise(100_000), bytes(100_000)], ids=["small", "stored", "deflated"])
def test_an_error_of_the_file_is_left_as_it_is(value: Any) -> None:
    def full(data: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        seal(value, full)


# --- damage


DAMAGED = {
    "small": {"a": [1, 2.5, "x"]},
    "stored": (1, [noise(70_000), {"x": noise(80_000)}], "end"),
    "deflated": [noise(90_000).hex(), "end"],
}
SEALED = {name: sealed(value)[0] for name, value in DAMAGED.items()}


def right_or_refused(data: bytes, value: Any) -> bool:
    """True when the value is right; false when it is refused; anything else fails."""
    try:
        got = unseal(data)
    except StoreError:
        return False
    assert_same(got, value)
    return True


def positions(name: str) -> st.SearchStrategy[int]:
    last = len(SEALED[name]) - 1
    edges = [*range(min(last, 40)), *range(max(last - SEAL_SIZE - 20, 0), last)]
    return st.sampled_from(edges) | st.integers(0, last)


@pytest.mark.parametrize("name", DAMAGED)
@settings(deadline=None, max_examples=100)
@given(choices=st.data())
def test_a_value_cut_off_anywhere_is_never_a_wrong_value(name: str, choices: st.DataObject) -> None:
    at = choices.draw(positions(name))
    read = right_or_refused(SEALED[name][:at], DAMAGED[name])
    assert not read or at == len(SEALED[name]) - SEAL_SIZE, "only a value without its seal is whole"


@pytest.mark.parametrize("name", DAMAGED)
@settings(deadline=None, max_examples=100)
@given(choices=st.data())
def test_a_value_with_a_flipped_bit_is_never_a_wrong_value(name: str, choices: st.DataObject) -> None:
    at, bit = choices.draw(positions(name)), choices.draw(st.integers(0, 7))
    data = bytearray(SEALED[name])
    data[at] ^= 1 << bit
    right_or_refused(bytes(data), DAMAGED[name])


def test_every_cut_and_every_flipped_bit_of_a_small_value() -> None:
    data, value = SEALED["small"], DAMAGED["small"]
    assert sum(right_or_refused(data[:at], value) for at in range(len(data))) == 1
    for at, bit in itertools.product(range(len(data)), range(8)):
        right_or_refused(data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :], value)


def test_flipped_bits_of_data_are_found() -> None:
    assert len(SEALED["deflated"]) > LARGE, "else isal does not read it"
    for name, at in itertools.product(("stored", "deflated"), range(2_000, 12_000, 997)):
        data = bytearray(SEALED[name])
        data[at] ^= 16
        assert not right_or_refused(bytes(data), DAMAGED[name])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f",
        b"\x1f\x8b",
        b"not a gzip" * 20,
        encode([1]),
        gzip.compress(b"", mtime=0),
        gzip.compress(b"not a pickle", mtime=0),
        bytes(LARGE),
    ],
)
def test_what_is_no_sealed_value_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"^a stored value cannot be read back: ."):
        unseal(data)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize(
    "error", [KeyError("gone"), ZeroDivisionError("1 / 0"), AttributeError("gone"), RecursionError("deep")], ids=repr
)
def test_a_value_that_fails_when_it_is_read_is_named_with_its_error(error: Exception, size: int) -> None:
    for attempt, data in (
        (decode, encode([noise(size), Grudge(error)])),
        (unseal, sealed([noise(size), Grudge(error)])[0]),
    ):
        with pytest.raises(StoreError, match=f"^a stored value cannot be read back: {type(error).__name__}: "):
            attempt(data)


def test_a_class_that_is_gone_is_named() -> None:
    with pytest.raises(StoreError, match="ModuleNotFoundError: No module named 'no_such_module'"):
        decode(b"cno_such_module\nBird\n.")


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(on: bool) -> None:
    was_on = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        assert decode(encode(list(range(90_000)))) == list(range(90_000))
        with pytest.raises(StoreError):
            unseal(sealed([noise(LARGE), Grudge(KeyError("gone"))])[0])
        assert gc.isenabled() is on
    finally:
        gc.enable() if was_on else gc.disable()


# --- without isal


def python(code: str, *arguments: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


WITHOUT_ISAL = """
    import pickle, sys
    from pathlib import Path

    sys.modules["isal"] = None
    from lokki.codec import seal, unseal
    from lokki.errors import StoreError

    here = Path(sys.argv[1])
    for name, value in pickle.loads((here / "values").read_bytes()).items():
        given = (here / f"{name}.with").read_bytes()
        assert unseal(given) == value, name
        damaged = bytearray(given)
        damaged[len(given) // 3] ^= 16
        try:
            print("wrong value", name, unseal(damaged) == value)
        except StoreError:
            pass
        with open(here / f"{name}.without", "wb") as file:
            print(name, seal(value, file.write)[0].digest.hex())
"""


def test_values_go_to_and_fro_between_machines_with_and_without_isal(tmp_path: Path) -> None:
    assert "isal.isal_zlib" in sys.modules, "this process reads and writes with isal"
    values = {**DAMAGED, "beyond a mebibyte": [noise(2 * MIB), bytes(2 * MIB)], "nothing": None}
    (tmp_path / "values").write_bytes(pickle.dumps(values))
    for name, value in values.items():
        (tmp_path / f"{name}.with").write_bytes(sealed(value)[0])
    lines = [f"{name} {sealed(value)[1].digest.hex()}" for name, value in values.items()]
    assert python(WITHOUT_ISAL, str(tmp_path)).splitlines() == lines
    for name, value in values.items():
        assert_same(unseal((tmp_path / f"{name}.without").read_bytes()), value)
