"""The parameters of a function, read from its code.

`inspect` costs a tenth of what a small flow takes from start to end, so it is asked only about callables that are not
plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from types import FunctionType
from typing import Any, NamedTuple

EMPTY: Any = type("EMPTY", (), {"__doc__": "Stands for a default or hint that is not there."})


class Way(Enum):
    """How an argument finds the parameter; the numbers are those of `inspect`."""

    POSITIONAL = 0
    EITHER = 1
    ANY_POSITIONAL = 2
    NAMED = 3
    ANY_NAMED = 4


class Argument(NamedTuple):
    """One parameter of a function."""

    name: str
    way: Way
    default: Any = EMPTY
    hint: Any = EMPTY


def arguments(fn: Callable[..., Any]) -> tuple[Argument, ...]:
    """The parameters of a callable; ValueError or TypeError when it does not tell."""
    if type(fn) is FunctionType and not hasattr(fn, "__wrapped__") and not hasattr(fn, "__signature__"):
        return tuple(_of_function(fn))
    import inspect

    return tuple(
        Argument(
            each.name,
            Way(int(each.kind)),
            EMPTY if each.default is each.empty else each.default,
            EMPTY if each.annotation is each.empty else each.annotation,
        )
        for each in inspect.signature(fn).parameters.values()
    )


def unwrapped(fn: Any) -> Any:
    """The function below all decorators that tell what they wrap."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return fn


def _of_function(fn: FunctionType) -> Iterator[Argument]:
    code, hints, by_name = fn.__code__, fn.__annotations__, fn.__kwdefaults__ or {}
    places, named = code.co_argcount, code.co_kwonlyargcount
    names = iter(code.co_varnames)
    defaults = (*(EMPTY,) * (places - len(fn.__defaults__ or ())), *(fn.__defaults__ or ()))
    for at, default in enumerate(defaults):
        name = next(names)
        way = Way.POSITIONAL if at < code.co_posonlyargcount else Way.EITHER
        yield Argument(name, way, default, hints.get(name, EMPTY))
    keywords = [next(names) for _ in range(named)]
    if code.co_flags & 4:
        name = next(names)
        yield Argument(name, Way.ANY_POSITIONAL, hint=hints.get(name, EMPTY))
    for name in keywords:
        yield Argument(name, Way.NAMED, by_name.get(name, EMPTY), hints.get(name, EMPTY))
    if code.co_flags & 8:
        name = next(names)
        yield Argument(name, Way.ANY_NAMED, hint=hints.get(name, EMPTY))
