"""What the parameters of a callable are said to be agrees with `inspect`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from lokki.signatures import EMPTY, arguments, unwrapped


def plain(a: int, b: str = "x") -> None: ...
def places(a: int, /, b: int, *rest: int, c: int, d: int = 4, **more: str) -> None: ...
def bare() -> None: ...
def only_named(*, a: int, b: int = 2) -> None: ...
def defaults_of_places(a: int = 1, /, b: int = 2) -> None: ...


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


class Called:
    def __call__(self, x: int) -> None: ...


@pytest.mark.parametrize(
    "fn", [plain, places, bare, only_named, defaults_of_places, wrapped, Called(), Called().__call__, len,
           functools.partial(places, 1), lambda x, y=2: x + y, Called]
)  # fmt: skip
def test_they_are_those_that_inspect_finds(fn: Callable[..., Any]) -> None:
    wanted = [
        (each.name, int(each.kind), each.default, each.annotation) for each in inspect.signature(fn).parameters.values()
    ]
    empty = inspect.Parameter.empty
    assert wanted == [
        (
            each.name,
            each.way.value,
            empty if each.default is EMPTY else each.default,
            empty if each.hint is EMPTY else each.hint,
        )
        for each in arguments(fn)
    ]


def test_what_does_not_tell_is_an_error() -> None:
    with pytest.raises(ValueError, match="no signature"):
        arguments(max)


def test_the_function_below_its_decorators_is_found() -> None:
    assert unwrapped(wrapped) is plain
