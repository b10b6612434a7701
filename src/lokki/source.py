"""Has a step's code changed? A fingerprint of what the function does, not of how its file looks.

It covers the compiled code, the defaults, the values that a closure holds, and the functions and classes of the same
module that it uses, so that a repaired helper counts as a change and a new comment does not. The values of module
globals are left out: they may differ from run to run without the step being another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from lokki.codec import content_hash, digest
from lokki.errors import StoreError


def fingerprint(fn: Callable[..., Any]) -> bytes:
    """Sixteen bytes that change when the code of `fn` does."""
    return digest(b"\0".join(_parts(fn, set())))


def _parts(fn: Any, seen: set[int]) -> Iterator[bytes]:
    fn = getattr(fn, "fn", fn)  # a step used inside another counts as its function
    if id(fn) in seen:
        return
    seen.add(id(fn))
    match fn:
        case FunctionType():
            yield from _function(fn, seen)
        case MethodType():
            yield from _parts(fn.__func__, seen)
            yield _value(fn.__self__).encode()
        case functools.partial():
            yield from _parts(fn.func, seen)
            yield _value((fn.args, fn.keywords)).encode()
        case type():
            yield from _class(fn, seen)
        case _ if isinstance(vars(type(fn)).get("__call__"), FunctionType):
            yield from _class(type(fn), seen)
            yield _value(fn).encode()
        case _:
            yield repr(getattr(fn, "__qualname__", type(fn).__qualname__)).encode()


def _function(fn: FunctionType, seen: set[int]) -> Iterator[bytes]:
    yield from _code(fn.__code__)
    yield _value((fn.__defaults__, fn.__kwdefaults__)).encode()
    for cell in fn.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # a cell that is filled later
            continue
        if callable(content):
            yield from _parts(content, seen)
        else:
            yield _value(content).encode()
    for name in sorted(_names(fn.__code__)):
        used = fn.__globals__.get(name)
        if isinstance(getattr(used, "fn", used), FunctionType | type) and used.__module__ == fn.__module__:
            yield from _parts(used, seen)


def _class(cls: type, seen: set[int]) -> Iterator[bytes]:
    for name, member in vars(cls).items():
        yield name.encode()
        inner = getattr(member, "__func__", member)
        if isinstance(inner, FunctionType):
            yield from _parts(inner, seen)


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_flags)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _value(constant).encode()


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for each in inner for name in _names(each))}


def _value(value: Any) -> str:
    try:
        return content_hash(value)
    except StoreError:  # a closure may hold what no pickle takes (a lock, a client): its type must do
        return type(value).__qualname__
