"""What identifies a call, and where its inputs come from: pure functions, and a tracker of values handed on.

`hash` is new for every call, so that equal calls are different nodes. The content hash is made of the component's name,
its code, its inputs and the content hashes of its parents: it is the same when nothing changed.
"""

from __future__ import annotations

import re
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from types import CodeType
from typing import Any

from lokki.codec import digest, encode
from lokki.errors import StoreError
from lokki.source import argument_hash
from twingraph.arrow import frame_digest, is_frame
from twingraph.errors import ComponentTypeError
from twingraph.executions.tables import is_unread
from twingraph.results import Result

_MANY = 10_000  # elements from which on a value is hashed as a pickle, which takes a tenth of the time
_LOOKED_AT = 256  # elements of a container that are looked at one by one
_HEAVY = 64 << 20  # bytes of values that nobody else may hold
_UNKNOWN = 1 << 20  # bytes that an object counts for which does not say its size
_WORD = re.compile(r"\w{0,40}", re.ASCII).fullmatch


def new_hash() -> str:
    """64 hexadecimal digits that no other call has."""
    return secrets.token_hex(32)


def parent_hashes(component: str, *given: Any) -> tuple[str, ...]:
    """The hashes that `parent_hash=` and `parent_hashes=` name, in order, each once."""
    return tuple(dict.fromkeys(each for value in given for each in _hashes(component, value)))


def _hashes(component: str, value: Any) -> Iterator[str]:
    match value:
        case None:
            return
        case str():
            if value:
                yield value
        case Result():
            yield value.hash
        case Mapping() if isinstance(value.get("hash"), str):
            yield value["hash"]
        case Iterable() if not isinstance(value, Mapping | bytes):
            for each in value:
                yield from _hashes(component, each)
        case _:
            raise ComponentTypeError(
                f"Component {component!r}: parent_hash takes a hash, a result, or a list of them, "
                f"not {type(value).__name__}."
            )


def content_hash(component: str, code: str, inputs: Mapping[str, Any], parents: Sequence[str]) -> tuple[str, bool]:
    """The content hash, and whether all inputs could be told apart by their content."""
    sure = True
    made = sha256(f"{component}\0{code}\0{'.'.join(parents)}".encode())
    for name in sorted(inputs):
        value = inputs[name]
        sure = sure and not any(is_unread(each) for each in (value, *_elements(value)))
        try:
            told = _value_hash(value)
        except StoreError:  # a connection or a lock: its type must do
            sure, told = False, type(value).__qualname__
        made.update(f"\0{name}\0{told}".encode())
    return made.hexdigest(), sure


def _value_hash(value: Any) -> str:
    if isinstance(value, Result):
        value = value.outputs
    if isinstance(value, list | tuple | set | dict) and len(value) > _MANY:
        return digest(encode(value)).hex()
    return argument_hash(value, known=frame_digest)


class Tracker:
    """Which call gave a value, told by the value's identity.

    Values are held so that their identity stays theirs, until nobody else holds them: that is looked after whenever
    their number or their size has doubled.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[Any, str]] = {}
        self._most = 16
        self._weight, self._heaviest = 0, _HEAVY
        self._lock = threading.Lock()

    def gave(self, hash: str, value: Any, given: Mapping[str, Any], code: CodeType | None) -> None:  # noqa: A002
        """Take note of what a call gave."""
        constants = _constants(code) if code is not None else frozenset()
        with self._lock:
            for each in _traceable((value, *given.values()), constants):
                self._held[id(each)] = (each, hash)
                self._weight += _weight(each)
            if len(self._held) > self._most or self._weight > self._heaviest:
                self._let_go()

    def sources(self, values: Iterable[Any]) -> tuple[str, ...]:
        """The calls that gave these values or their elements, in order, each once."""
        with self._lock:
            found = [self._held.get(id(each)) for value in values for each in (value, *_elements(value))]
        return tuple(dict.fromkeys(each[1] for each in found if each is not None))

    def _let_go(self) -> None:
        count, before = sys.getrefcount, -1
        while before != len(self._held):  # when a list goes, its elements may go
            before = len(self._held)
            # held by its tuple, by the loop and by the call of getrefcount
            self._held = {key: held for key, held in self._held.items() if count(held[0]) > 2}
        self._most = max(16, 2 * len(self._held))
        self._weight = sum(_weight(each) for each, _ in self._held.values())
        self._heaviest = max(_HEAVY, 2 * self._weight)


@lru_cache(maxsize=1024)
def _constants(code: CodeType) -> frozenset[int]:
    """The identities of what is written in the code itself, which is the same object each time."""
    found, waiting = set(), list(code.co_consts)
    while waiting:
        each = waiting.pop()
        found.add(id(each))
        if isinstance(each, CodeType):
            waiting.extend(each.co_consts)
        elif isinstance(each, tuple | frozenset):
            waiting.extend(each)
    return frozenset(found)


def _weight(value: Any) -> int:
    """About how many bytes a value takes, without its elements."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, list | tuple | dict | set | frozenset):
        return 64 * len(value)
    if is_frame(value) and hasattr(value, "estimated_size"):
        return int(value.estimated_size())
    size = value.nbytes if type(value).__module__ in ("numpy", "pyarrow.lib") else None
    return size if isinstance(size, int) else _UNKNOWN


def _traceable(values: Iterable[Any], constants: frozenset[int]) -> Iterator[Any]:
    for value in values:
        for each in (value, *_elements(value)):
            if id(each) not in constants and not _common(each):
                yield each


def _common(value: Any) -> bool:
    """Whether Python may use one object for all values like this."""
    match value:
        case None | bool() | int() | float() | complex() | type():
            return True
        case str():
            return _WORD(value) is not None  # words in a program's text are one object wherever they stand
        case bytes() | tuple() | frozenset():
            return len(value) < 2
        case _:
            return callable(value)


def _elements(value: Any) -> Iterable[Any]:
    if type(value) in (list, tuple) and len(value) <= _LOOKED_AT:
        return value  # type: ignore[no-any-return]
    if isinstance(value, dict) and not isinstance(value, Result) and len(value) <= _LOOKED_AT:
        return value.values()
    return ()
