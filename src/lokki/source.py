"""Has a step's code changed? A fingerprint of what the function does, not of how its file looks.

It covers the compiled code, the defaults, the values that a closure holds, and the functions and classes that it uses
of its own and of other modules that are not installed libraries, so that a repaired helper counts as a change and a new
comment does not. Of a module's globals it covers those whose value is written out in the file (`LIMIT = 10`); others
may differ from run to run without the step being another.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from lokki.codec import content_hash, digest, encode
from lokki.errors import StoreError

if TYPE_CHECKING:
    import ast

_LIBRARIES = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(os.path.abspath(__file__)) + os.sep)
_parsing = threading.RLock()
_PLAIN = (str, int, float, bytes, tuple, list, dict, set, type(None))
_MEMBERS = ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")  # where descriptors keep their functions


Own = Collection[str] | None
"""The modules that are one's own, by the names at their top; None: those that were not installed as a library."""

_own: ContextVar[Own] = ContextVar("own", default=None)
_doubts: ContextVar[list[str] | None] = ContextVar("doubts", default=None)


def fingerprint(fn: Callable[..., Any], own: Own = None) -> bytes:
    """Sixteen bytes that change when the code of `fn` does."""
    with _only(own):
        return digest(b"\0".join(_parts(fn, set())))


def sure_fingerprint(fn: Callable[..., Any]) -> tuple[bytes, bool]:
    """The fingerprint, and whether it tells all apart: not where a closure or object holds what no pickle takes."""
    doubts: list[str] = []
    token = _doubts.set(doubts)
    try:
        return fingerprint(fn), not doubts
    finally:
        _doubts.reset(token)


def argument_hash(value: Any, own: Own = None, known: Callable[[Any], bytes | None] | None = None) -> str:
    """The hash of an argument; functions in it count as their code, and what cannot be pickled is a StoreError.

    `known` identifies values that pickles do not; None for others.
    """

    def other(each: Any) -> dict[str, str]:
        made = known and known(each)
        made = made or digest(b"\0".join(_parts(each, set())) if callable(each) else encode(each))
        return {"$other": made.hex()}

    with _only(own):
        return content_hash(value, other)


@contextmanager
def _only(own: Own) -> Iterator[None]:
    before = _own.set(own)
    try:
        yield
    finally:
        _own.reset(before)


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
            yield from _parts(type(fn.__self__), seen)
            yield _value(fn.__self__, seen)
        case functools.partial():
            yield from _parts(fn.func, seen)
            yield _value((fn.args, fn.keywords), seen)
        case type():
            yield from _class(fn, seen)
        case _ if isinstance(getattr(fn, "__wrapped__", None), FunctionType):  # what functools.cache made
            yield from _parts(fn.__wrapped__, seen)
        case _ if callable(fn) and isinstance(type(fn).__call__, FunctionType):
            yield from _class(type(fn), seen)
            yield _pickled(fn)
        case _ if hasattr(fn, "__qualname__"):
            yield repr(fn.__qualname__).encode()
            owner = getattr(fn, "__self__", None)  # of a method that is not written in Python
            if owner is not None and not isinstance(owner, ModuleType | type):
                yield _value(owner, seen)
        case _:
            yield repr(type(fn).__qualname__).encode()
            yield _pickled(fn)


def _function(fn: FunctionType, seen: set[int]) -> Iterator[bytes]:
    yield from _code(fn.__code__)
    yield _value((fn.__defaults__, fn.__kwdefaults__), seen)
    for cell in fn.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # a cell that is filled later
            continue
        if callable(content):
            yield from _parts(content, seen)
        else:
            yield _value(content, seen)
    for name in sorted(_names(fn.__code__)):
        used = fn.__globals__.get(name)
        if isinstance(used, _PLAIN) and name in (written := _written_out(fn.__code__.co_filename)):
            yield _value((name, written[name]), seen)
    for each in _used(fn):
        yield from _parts(each, seen)


def _used(fn: FunctionType) -> Iterator[Any]:
    """The functions and classes of one's own that a function names, also as `module.name`."""
    names = sorted(_names(fn.__code__))
    for name in names:
        used = fn.__globals__.get(name)
        if isinstance(used, ModuleType):
            yield from (each for each in map(vars(used).get, names) if _is_own(each, fn))
        elif _is_own(used, fn):
            yield used


def _is_own(used: Any, fn: FunctionType) -> bool:
    """Whether this is a function or class of the same module, or of another that was not installed as a library."""
    inner = used
    with suppress(RuntimeError):  # a proxy may stand for something that is not there
        inner = getattr(used, "fn", getattr(used, "__wrapped__", used))
    if not isinstance(inner, FunctionType | type):
        return False
    return inner.__module__ == fn.__module__ or _is_ones_own(inner.__module__)


def _is_ones_own(module: str) -> bool:
    own = _own.get()
    if own is not None:  # in a package libraries lie right beside one's own modules
        return module.partition(".")[0] in own
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    return os.path.isabs(path) and "-packages" + os.sep not in path and not path.startswith(_LIBRARIES)


def _written_out(path: str) -> dict[str, Any]:
    """The names to which a file gives a value that is written out in it, like `LIMIT = 10`."""
    try:
        return _constants(path, os.stat(path).st_mtime_ns)
    except (OSError, SyntaxError, ValueError):  # typed in, made while running, or half edited
        return {}


def parsed(text: str | bytes, path: str = "<unknown>") -> ast.Module:
    """The syntax tree of a file; one thread at a time, because CPython 3.11 mixes up the depths of two."""
    import ast

    with _parsing:
        return ast.parse(text, path)


@lru_cache(maxsize=64)
def _constants(path: str, _changed: int) -> dict[str, Any]:
    import ast

    found: dict[str, Any] = {}
    with open(path, "rb") as file:
        tree = parsed(file.read())
    for each in tree.body:
        match each:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                with suppress(ValueError, TypeError):
                    found[name] = ast.literal_eval(value)
    return found


def _class(cls: type, seen: set[int]) -> Iterator[bytes]:
    for base in cls.__mro__:
        if base.__module__ == cls.__module__ or _is_ones_own(base.__module__):
            for name, member in list(vars(base).items()):
                yield from _member(name, member, seen)


def _member(name: str, member: Any, seen: set[int]) -> Iterator[bytes]:
    inner = [getattr(member, each, None) for each in _MEMBERS]
    functions = [each for each in (member, *inner) if isinstance(each, FunctionType)]
    if functions or not name.startswith("__"):  # Python itself adds names like __slotnames__ in the course of a run
        yield name.encode()
    if not name.startswith("__") and isinstance(member, (*_PLAIN, Enum)):
        yield _value(member.value if isinstance(member, Enum) else member, seen)
    for each in functions:
        yield from _parts(each, seen)


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield code.co_exceptiontable
    yield repr((code.co_names, code.co_varnames, code.co_flags)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _value(constant, set())


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for each in inner for name in _names(each))}


def _value(value: Any, seen: set[int]) -> bytes:
    """The hash of a value; functions in it count as their code."""

    def other(each: Any) -> dict[str, str]:
        made = digest(b"\0".join(_parts(each, set(seen)))) if callable(each) else _pickled(each)
        return {"$other": made.hex()}

    try:
        return content_hash(value, other).encode()
    except StoreError:
        return _kind(value)


def _pickled(value: Any) -> bytes:
    try:
        return content_hash(value).encode()
    except StoreError:
        return _kind(value)


def _kind(value: Any) -> bytes:
    """A closure may hold what no pickle takes, such as a lock or a client: its type must do."""
    if isinstance(value, ModuleType):
        return value.__name__.encode()
    doubts = _doubts.get()
    if doubts is not None:
        doubts.append(type(value).__qualname__)
    return type(value).__qualname__.encode()
