"""Values keep their types in an envelope and back; errors and logs arrive as what they were."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twingraph.calling import Heard, placed, there
from tests.twingraph.cargo import Colour, Pair, Point
from twingraph import envelope
from twingraph.errors import PlatformError, RemoteError, TravelError
from twingraph.placed import Raised, Returned
from twingraph.placement import Placement
from twingraph.platforms.worker import Reading, Writing, answer

VALUES = [
    None, True, -3, 10**30, 1.5, float("inf"), "ünï\ud800'\"\n$", b"\x00\xff", bytearray(b"a"), 1 + 2j, range(1, 9, 2),
    [1, [2.5, None]], (1, (2,)), {1, 2}, frozenset({"a"}), {"a": {"$b": 1}, "c": []}, {1: "x", (2, 3): [()]},
    date(2024, 2, 29), time(1, 2, 3), timedelta(days=-1, microseconds=5), Decimal("1.10"), Fraction(1, 3),
    datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 7, 1, 3, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2024, 1, 2),
    UUID(int=7), Path("/a b/c"), Counter("aab"), OrderedDict(b=1), deque([1, (2,)], 3), defaultdict(list, a=[1]),
    Colour.BLUE, Pair(1, "x"), Point(1, 2, ["a"]), np.float32(1.5), np.int64(7),
]  # fmt: skip


def test_values_come_back_with_their_types() -> None:
    def same(values: list[Any], **named: Any) -> Any:
        return values, [type(each).__name__ for each in values], named

    values, kinds, named = there(same, VALUES, at={"deep": VALUES[-3:]})
    assert values == VALUES
    assert [type(each) for each in values] == [type(each) for each in VALUES]
    assert kinds == [type(each).__name__ for each in VALUES]
    assert named == {"at": {"deep": VALUES[-3:]}}
    assert values[23].tzinfo.key == "Europe/Berlin"


ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.datetimes()
    | st.dates() | st.times() | st.timedeltas() | st.decimals(allow_nan=False) | st.uuids()
    | st.complex_numbers(allow_nan=False)
)  # fmt: skip
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.tuples(st.text(), st.integers())
NESTED = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.frozensets(KEYS),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(NESTED)
def test_whatever_data_is_made_of_it_is_read_as_it_was(value: Any) -> None:
    def refuse(each: Any) -> Any:
        raise AssertionError(each)

    read = Reading(refuse)(json.loads(json.dumps(Writing(refuse, refuse)(value))))
    assert repr(read) == repr(value) if not holds_sets(value) else read == value


def holds_sets(value: Any) -> bool:
    """Whether the order of a repr means nothing."""
    parts = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else ()
    return isinstance(value, frozenset) or any(map(holds_sets, parts))


def test_arrays_and_frames_travel_in_their_own_form() -> None:
    array = np.arange(12, dtype="float32").reshape(3, 4)
    frame = pd.DataFrame(
        {
            "a": [1, 2],
            "b": ["x", None],
            "c": pd.Categorical(["u", "v"]),
            "d": pd.array([1, None], dtype="Int64"),
            "e": [{"x": Decimal("1.5")}, [date(2024, 1, 1)]],
            "f": pd.period_range("2024", periods=2, freq="M"),
            "g": pd.array([True, None], dtype="boolean"),
        },
        index=pd.date_range("2024-01-01", periods=2, tz="Europe/Berlin"),
    )
    got_array, got_frame, got_series = there(lambda array, frame: (array.T, frame, frame["a"]), array, frame)
    np.testing.assert_array_equal(got_array, array.T)
    assert got_array.dtype == array.dtype
    pd.testing.assert_frame_equal(got_frame, frame)
    pd.testing.assert_series_equal(got_series, frame["a"])


def test_a_frame_that_holds_more_than_data_is_not_read() -> None:
    def outcome(fn: Callable[..., Any], *args: Any, **config: Any) -> Any:
        call = placed(fn, *args, place=Placement(config=config))
        return envelope.unpack(answer(envelope.pack(call)), call)  # in this process, where pandas is already

    frame = pd.DataFrame({"a": [os.system]})
    assert "it holds posix.system, which is no data" in str(outcome(len, frame).error)
    assert "it holds builtins.print, which is no data" in str(outcome(lambda: pd.DataFrame({"a": [print]})).error)
    assert outcome(len, frame, pickle=True) == Returned(1)

    offsets = pa.py_buffer(np.array([0, 1000, 1], "int64").tobytes())  # text that reaches beyond its buffer
    beyond = pa.Array.from_buffers(pa.large_string(), 2, [None, offsets, pa.py_buffer(b"x")])
    arrow = pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(beyond)})
    assert "cannot be read by pandas" in str(outcome(len, arrow).error)


def test_results_of_types_that_are_not_here_keep_their_fields() -> None:
    def work() -> Any:
        @dataclass
        class Inner:
            a: int
            b: str

        return [Inner(1, "x")]

    (got,) = there(work)
    assert (type(got).__name__, got.a, got.b) == ("Inner", 1, "x")


class Opaque:
    def __init__(self, held: Any) -> None:
        self.held = held


def test_what_is_not_data_must_be_allowed_to_be_pickled() -> None:
    def work(thing: Opaque) -> Opaque:
        return Opaque(thing.held + 1)

    with pytest.raises(TravelError, match=r"argument 'thing' is of type Opaque.*config=\{'pickle': True\}"):
        there(work, Opaque(1))
    with pytest.raises(TravelError, match=r"argument 'deep' at \['a'\]\[1\] is of type Opaque"):
        envelope.pack(placed(lambda deep: deep, deep={"a": [0, Opaque(1)]}))
    got = there(work, Opaque(1), place=Placement(config={"pickle": True}))
    assert (type(got), got.held) == (Opaque, 2)


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda: sys, "returns has a value of type module"),
        (lambda: {"a": [sys.stdout]}, r"returns has at \['a'\]\[0\] a value of type TextIOWrapper"),
    ],
)
def test_what_cannot_be_sent_back_says_where_it_is(fn: Callable[[], Any], words: str) -> None:
    with pytest.raises(TravelError, match=words):
        there(fn)


async def yielding(n: int) -> AsyncIterator[int]:
    for each in range(n):
        await asyncio.sleep(0)
        yield each


def test_what_yields_comes_back_as_a_list() -> None:
    async def later(n: int) -> Iterator[int]:
        await asyncio.sleep(0)
        return iter(range(n))

    assert there(lambda: (each for each in "ab")) == ["a", "b"]
    assert (there(yielding, 3), there(later, 2)) == ([0, 1, 2], [0, 1])


def test_exceptions_whose_arguments_cannot_be_sent_and_those_in_groups_arrive_as_what_they_are() -> None:
    def work(kind: str) -> None:
        if kind == "group":
            raise ExceptionGroup("both (of them)", [KeyError("k"), ExceptionGroup("inner", [ValueError(1)])])
        raise ValueError(sys)

    with pytest.raises(ValueError, match="<module 'sys'"):
        there(work, "module")
    with pytest.raises(ExceptionGroup, match=r"^both \(of them\)") as group:
        there(work, "group")
    key, inner = group.value.exceptions
    assert (group.value.message, key.args, inner.exceptions[0].args) == ("both (of them)", ("k",), (1,))


def test_exceptions_arrive_with_their_arguments_and_the_place_they_came_from() -> None:
    def work(kind: str) -> None:
        if kind == "missing":
            open("/nowhere/at/all")  # noqa: SIM115
        {"a": 1}[kind]

    with pytest.raises(FileNotFoundError) as missing:
        there(work, "missing")
    assert (missing.value.errno, missing.value.filename) == (2, "/nowhere/at/all")
    with pytest.raises(KeyError) as key:
        there(work, "lost")
    assert key.value.args == ("lost",)
    (note,) = key.value.__notes__
    assert "in component 'work' on platform 'local', Python 3" in note
    line = work.__code__.co_firstlineno + 3
    assert f'test_envelope.py", line {line}, in work\n    {{"a": 1}}[kind]\n' in note


def test_exceptions_whose_type_is_not_here_say_its_name() -> None:
    def work() -> None:
        class StrangeError(ArithmeticError):
            pass

        raise StrangeError("odd")

    with pytest.raises(RemoteError, match="odd") as caught:
        there(work)
    assert caught.value.type_name.endswith("StrangeError")
    assert "ArithmeticError" in caught.value.mro
    assert 'raise StrangeError("odd")' in caught.value.remote_traceback


def test_leaving_the_process_is_an_error_and_no_exit_here() -> None:
    with pytest.raises(RemoteError, match="3") as caught:
        there(sys.exit, 3)
    assert caught.value.type_name == "SystemExit"


def test_the_log_has_levels_and_the_call_has_an_environment() -> None:
    def work() -> str:
        import os

        print("out\x01")
        print("\nfirst\nsecond", file=sys.stderr)
        log = logging.getLogger("x")
        log.warning("bad\nworse")
        log.info("fine")
        log.debug("unheard")
        os.write(1, b"raw \xff without an end")
        return os.environ["TEXT"]

    heard = Heard()
    text = "a 'b' \"c\" $d\n\\é"
    assert there(work, heard=heard, place=Placement(environment={"TEXT": text})) == text
    assert [line for level, line in heard.lines if level == "info"] == ["out\x01", "raw \\xff without an end", "fine"]
    assert [line for level, line in heard.lines if level == "warning"] == ["bad", "worse"]
    assert [line for level, line in heard.lines if level == "error"] == ["", "first", "second"]
    assert heard.usage["peak_memory_bytes"] > 1e6
    assert heard.usage["cpu_seconds"] > 0


def test_five_megabytes_go_there_and_back() -> None:
    data = bytes(range(256)) * 20_000
    numbers = [float(each) for each in range(100_000)]
    assert there(lambda data, numbers: (data[::-1], numbers), data, numbers) == (data[::-1], numbers)


def test_frames_may_come_twice_and_in_any_order() -> None:
    from twingraph.platforms.worker import framed

    call = placed(len)
    frames = envelope.Frames(call)
    body = b"".join(hashlib.sha256(bytes([each])).digest() for each in range(250))
    lines = framed(body, call.id)
    assert len(lines) > 1
    for line in [lines[-1], *lines, lines[0]]:
        frames.line(line.decode())
    assert frames.answer == body


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"twingraph": 1, "id": "another"}', b"[1]"])
def test_what_is_no_answer_of_the_call_is_said_to_be_none(answer: bytes) -> None:
    outcome = envelope.unpack(answer, placed(len, [1]))
    assert isinstance(outcome, Raised)
    assert isinstance(outcome.error, PlatformError)
    assert "not its answer" in str(outcome.error)
