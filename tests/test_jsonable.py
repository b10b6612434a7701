"""Values go through JSON and come back as what they were, or are refused by name."""

from __future__ import annotations

import collections
import enum
import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.jsonable import plain, revive

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.just(Path("data") / "birds.csv")
)
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["$set", "$dict", "$"]), inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
    ),
    max_leaves=12,
)


def through_json(value: Any) -> Any:
    return revive(json.loads(json.dumps(plain(value), allow_nan=False)))


def kinds(value: Any) -> Any:
    """The types of the value and of all that it holds."""
    if isinstance(value, dict):
        return dict, [(kinds(key), kinds(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [kinds(each) for each in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(kinds(each)) for each in value)
    return type(value)


@given(VALUES)
@settings(deadline=None)
def test_data_comes_back_as_what_it_was(value: Any) -> None:
    back = through_json(value)
    assert back == value
    assert kinds(back) == kinds(value)


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN")])
def test_what_is_no_number_stays_none(value: Any) -> None:
    back = through_json([value])[0]
    assert type(back) is type(value)
    assert back.is_nan() if isinstance(back, Decimal) else math.isnan(back)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"limit": 3, "names": ["goose", None]}, {"limit": 3, "names": ["goose", None]}),
        (("goose", 1.5), {"$tuple": ["goose", 1.5]}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        ({1: "one"}, {"$dict": [[1, "one"]]}),
        ({"$ref": "node"}, {"$dict": [["$ref", "node"]]}),
        (math.inf, {"$float": "inf"}),
        (b"\x00\xff", {"$bytes": "00ff"}),
        (datetime(2024, 1, 15, 10, 30, tzinfo=UTC), {"$datetime": "2024-01-15T10:30:00+00:00"}),
        (date(2024, 1, 15), {"$date": "2024-01-15"}),
        (time(10, 30, tzinfo=timezone(timedelta(hours=2))), {"$time": "10:30:00+02:00"}),
        (timedelta(days=1, seconds=2, microseconds=3), {"$timedelta": [1, 2, 3]}),
        (Decimal("1.10"), {"$decimal": "1.10"}),
        (PurePosixPath("a/b"), {"$path": "a/b"}),
    ],
)
def test_plain_data_looks_plain_and_the_rest_names_its_type(value: Any, written: Any) -> None:
    assert plain(value) == written
    assert revive(written) == value


class Size(enum.IntEnum):
    SMALL = 1


class Color(enum.StrEnum):
    RED = "red"


class Stamp(datetime):
    pass


class Span(timedelta):
    pass


class Price(Decimal):
    pass


class Folder:
    def __fspath__(self) -> str:
        return "folder"


Point = collections.namedtuple("Point", ["x", "y"])


@pytest.mark.parametrize(
    "value",
    [
        object(),
        1j,
        len,
        Size.SMALL,
        Color.RED,
        Point(1, 2),
        Stamp(2024, 1, 1),
        Span(1),
        Price(1),
        Folder(),
        {Color.RED: 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_refused_or_handed_on(value: Any) -> None:
    kind = type(next(iter(value)) if isinstance(value, dict) else value).__name__
    with pytest.raises(TypeError, match=f"a value of type {kind} cannot be written as JSON: "):
        plain({"deep": [value]})
    assert kind in repr(plain([value], other=lambda unknown: f"a {type(unknown).__name__}"))


def test_an_unknown_kind_is_an_error_and_not_a_dict() -> None:
    with pytest.raises(ValueError, match=r"unknown kind of value '\$code'"):
        revive([{"$code": "import os"}])
