"""Which lines of a pipeline's body stand inside a `try:` that has handlers, by its text and without it."""

from __future__ import annotations

import linecache
from functools import wraps
from typing import Any

import pytest

from twingraph.tries import tries

BODY = """
def body(a):
    a()
    try:
        a()
        with a() as b:
            a()
    except ValueError:
        a()
    try:
        a()
    finally:
        a()
    with a() as b:
        a()
    try:
        a()
    except:
        a()
    try:
        a([a() for b in a])
    except (KeyError, a.b) as c:
        a()
    finally:
        a()
    try:
        with a(): a()
        try: a()
        finally: a()
    except* OSError:
        a()
    return a()
"""
INSIDE = [5, 6, 7, 17, 21, 27, 28, 29]


@pytest.mark.parametrize("with_text", [True, False])
def test_lines_inside_of_a_try(with_text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_text:
        told: Any = (len(BODY), None, BODY.splitlines(keepends=True), "<body>")
        monkeypatch.setitem(linecache.cache, "<body>", told)
    names: dict[str, Any] = {}
    exec(compile(BODY, "<body>", "exec"), names)
    assert tries(names["body"]) == {names["body"].__code__: frozenset(INSIDE)}


def test_what_has_none() -> None:
    assert tries(lambda: None) == {}
    assert tries(print) == {}


def test_a_function_that_is_wrapped_counts() -> None:
    def body() -> None:
        try:
            body()
        except ValueError:
            raise

    @wraps(body)
    def wrapper() -> None:
        body()

    assert [*tries(wrapper)] == [body.__code__]
