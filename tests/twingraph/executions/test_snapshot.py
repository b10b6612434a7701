"""A value as it is recorded."""

from __future__ import annotations

import collections
import datetime as dt
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from twingraph.executions import secrets
from twingraph.executions.objects import Objects
from twingraph.executions.snapshot import OBJECT_ROOM, Snapshot, description, identity_of, readable, restored, snapshot


class Bird(NamedTuple):
    name: str
    eggs: int


class Colour(Enum):
    RED = 1


@dataclass
class Account:
    user: str
    password: str


class Wild:
    """Nothing that is asked of it goes well."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")


@pytest.fixture
def back(tmp_path: Path) -> Callable[[Snapshot], dict[str, Any]]:
    """The values of a snapshot, by way of the files that it needs."""
    objects = Objects(str(tmp_path / "objects"))

    def read(taken: Snapshot) -> dict[str, Any]:
        for identity, frame in taken.objects:
            objects.keep(identity, frame)
        return restored(taken.text, objects.load)

    return read


PLAIN = [
    None, True, 3, -(2**80), 2.5, float("inf"), "text \0 \ud800", [], [1, [2]], (1, (2,)), {}, {"a": {"b": 1}}, {1: 2},
    {"$tuple": 1}, {1, 2}, frozenset("ab"), b"\xff", dt.datetime(2026, 1, 2, 3), dt.timedelta(1),
    Decimal("1.50"), Path("a/b"),
]  # fmt: skip
OTHERS = [
    Bird("owl", 2), Colour.RED, bytearray(b"x"), collections.OrderedDict(a=1), collections.Counter("aab"), 2**20_000,
    np.float64(1.5), complex(1, 2), range(3), json.dumps,
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=[f"{at} {type(each).__name__}" for at, each in enumerate(PLAIN)])
def test_plain_data_is_json_and_comes_back(value: Any, back: Callable[[Snapshot], dict[str, Any]]) -> None:
    taken = snapshot({"value": value})
    assert (taken.whole, taken.objects, "$pickle" in taken.text) == (True, (), False)
    assert back(taken) == {"value": value}
    assert type(back(taken)["value"]) is type(value)


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_what_is_not_plain_comes_back_too(value: Any, back: Callable[[Snapshot], dict[str, Any]]) -> None:
    taken = snapshot({"value": value})
    found = back(taken)["value"]
    assert (taken.whole, taken.objects, found == value, type(found)) == (True, (), True, type(value))


def test_large_values_are_files_and_larger_ones_described(back: Callable[[Snapshot], dict[str, Any]]) -> None:
    array = np.arange(20_000)
    taken = snapshot({"list": list(range(30_000)), "array": array, "small": 1})
    assert (taken.whole, len(taken.objects)) == (True, 2)
    found = back(taken)
    assert found["list"] == list(range(30_000))
    assert (found["array"] == array).all()

    values = {
        "list": [0.1] * 1_000_000,
        "bytes": bytes(OBJECT_ROOM + 1),
        "array": np.zeros((1_000, 1_000)),
        "frame": pd.DataFrame({"a": np.zeros(10**6)}),
        "nested": {"a": [bytearray(OBJECT_ROOM), 1]},
        "text": "x" * 3_000_000,
    }
    taken = snapshot(values)
    assert (taken.whole, taken.objects) == (False, ())
    assert len(taken.text) < 4_000
    shown = readable(taken.text)
    assert (shown["list"]["type"], shown["list"]["length"]) == ("list", 1_000_000)
    assert (shown["array"]["type"], shown["array"]["shape"]) == ("numpy.ndarray", [1_000, 1_000])
    assert shown["frame"]["shape"] == [10**6, 1]
    assert all(0 < len(each["repr"]) <= 120 for each in shown.values())

    kept = snapshot(values, keep=True)
    assert kept.whole
    assert back(kept)["text"] == values["text"]
    assert (back(kept)["array"] == values["array"]).all()


def test_what_cannot_be_pickled_or_asked_is_described() -> None:
    def birds() -> Iterator[int]:
        yield 1

    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    values = {"wild": Wild(), "lock": threading.Lock(), "generator": birds(), "in a list": [Wild()], "deep": deep}
    taken = snapshot({**values, "loop": loop}, keep=True)
    shown = readable(taken.text)
    assert not taken.whole
    assert shown["wild"] == {"type": f"{__name__}.Wild", "repr": f"<{__name__}.Wild>"}
    assert {name: each["type"] for name, each in shown.items()} == {
        "wild": f"{__name__}.Wild", "lock": "_thread.lock", "generator": "generator", "in a list": "list",
        "deep": "list", "loop": "list",
    }  # fmt: skip


def test_a_value_is_what_it_was_at_that_moment(back: Callable[[Snapshot], dict[str, Any]]) -> None:
    value = {"birds": [1]}
    taken = snapshot({"value": value})
    value["birds"].append(2)
    assert back(taken) == {"value": {"birds": [1]}}


def test_secrets_are_hidden() -> None:
    values = {
        "password": "hunter2",
        "API-Key": "hunter2",
        "nested": [{"clientSecret": {"a": "hunter2"}}],
        "account": Account("ada", "hunter2"),
        "accounts": [Account("ada", "hunter2")] * 30_000,
        "frame": {"token": "hunter2", "data": np.zeros(10)},
        "url": "postgresql://ada:hunter2@db/birds",
        "arrays": {"url": "postgresql://ada:hunter2@db/birds", "data": np.zeros(10)},
        "reference": "secret://hunter2",
        "many": {f"key {at}": {"passwd": "hunter2"} for at in range(10_000)},
    }
    taken = snapshot(values, keep=True)
    assert not taken.whole
    assert "hunter2" not in taken.text
    assert not any(b"hunter2" in frame for _, frame in taken.objects)
    shown = readable(taken.text)
    assert (shown["password"], shown["url"], shown["reference"]) == ("***", "postgresql://ada:***@db/birds", "***")
    assert shown["nested"] == [{"clientSecret": "***"}]


def test_what_only_sounds_secret_is_not_hidden() -> None:
    values = {"max_tokens": 10, "token_count": 3, "author": "ada", "has_password": True, "passage": "x", "token": None}
    assert readable(snapshot(values).text) == values


def test_a_named_secret_is_hidden_wherever_it_turns_up() -> None:
    secrets.hide("correct horse", "correct horse battery")
    try:
        values = {"a": "the correct horse battery", "b": Bird("correct horse", 1), "c": ["a correct horse"]}
        taken = snapshot(values)
        assert "horse" not in taken.text
        assert (readable(taken.text)["a"], readable(taken.text)["c"]) == ("the ***", ["a ***"])
    finally:
        secrets.named().clear()


def test_equal_values_are_found_by_the_same_digest() -> None:
    taken = snapshot({"a": {"x": [1, 2, 3], "y": 1}, "b": 3, "c": np.arange(3_000)}, digests=True)
    made = dict(taken.made)
    assert made.keys() == {"a", "c"}  # 3 says nothing
    assert made["a"] == identity_of({"y": 1, "x": [1, 2, 3]})
    assert made["c"] == identity_of(np.arange(3_000))
    assert identity_of(3) == ""


def test_describing_large_bytes_takes_no_room() -> None:
    for value in (bytes(10_000_000), [bytearray(10_000_000)], {"a": bytes(10_000_000)}):
        tracemalloc.start()
        description(value, small=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
