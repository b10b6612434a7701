"""A value as it is recorded: what it was at that moment, within a budget of time and room.

Plain data becomes JSON with its types kept (`lokki.jsonable`). What is not plain, or large, becomes its pickle: short
ones stand in the JSON, longer ones in an object file, and what is beyond the limit is only described. The walk through
a value stops where its budget ends, and pickling stops with the first byte beyond the limit, so that a value of any
size costs about the same. Secrets are never kept.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lokki.codec import decode, digest
from lokki.jsonable import plain, revive
from twingraph.arrow import is_frame
from twingraph.executions.secrets import HIDDEN, is_secret, named, veiled
from twingraph.executions.tables import columns, is_table, is_unread, table

PLAIN_ROOM = 1 << 16
"""Bytes that the values of one call may take as JSON."""
OBJECT_ROOM = 1 << 20
"""Bytes that a value may take as an object file, unless it must be kept whole."""

_SHORT_PICKLE = 4_096
_TELLING = 8  # characters; a shorter value, such as 3 or true, is found by nobody
_DEEPEST = 40
_RESULTS = "twingraph.results"  # what is defined there is a dict with manners; it is not asked to wait for anything
_HUGE_INT = 10_000  # bits; JSON refuses longer ones
_ENOUGH_LOOKS = 2_000
_SHOWN = 120
_KNOWN_REPR = ("numpy", "pandas", "polars", "pyarrow", "datetime", "decimal", "uuid", "pathlib", "enum")


class Snapshot(NamedTuple):
    """Values by name as they are recorded.

    Attributes:
        text: JSON of them.
        whole: whether all of them can be had again.
        objects: what must be stored besides: pickles by their digest.
        made: the digest of each value that says something, by name.
    """

    text: str
    whole: bool = True
    objects: tuple[tuple[str, bytes], ...] = ()
    made: tuple[tuple[str, str], ...] = ()


NOTHING = Snapshot("{}")
_read = json.JSONDecoder().raw_decode  # a graph has many of them, and all are ours


def snapshot(values: Mapping[str, Any], *, keep: bool = False, digests: bool = False) -> Snapshot:
    """The values as they are now; with `keep`, whole whatever their size, and with `digests`, to be found again."""
    if not values:
        return NOTHING
    walk = _Walk(keep)
    told, made = {}, []
    for name, value in values.items():
        held, identity = walk.named(str(name), value, digests)
        told[str(name)] = held
        if identity:
            made.append((str(name), identity))
    return Snapshot(json.dumps(told), walk.whole, tuple(walk.objects), tuple(made))


def identity_of(value: Any) -> str:
    """The digest by which a value is found again; empty for one that is too short to tell."""
    return _Walk(keep=True).named("", value, True)[1]


def restored(text: str, load: Callable[[str], Any]) -> dict[str, Any]:
    """The values of a snapshot that is whole; `load` gives the value with a digest."""
    return {name: _revived(held, load) for name, held in json.loads(text).items()} if text else {}


def readable(text: str) -> Any:
    """A snapshot as plain JSON for people and other programs: types that JSON has no word for become near ones."""
    if not text:
        return {}
    told, _ = _read(text)
    if '"$' in text:
        told = {name: _shown(held) for name, held in told.items()}
    if "\\ud" not in text:
        return told
    whole = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")  # without halves of characters
    return json.loads(whole)


class _Large(Exception):
    """The budget is used up."""


class _Other(Exception):
    """Not plain data."""


class _Walk:
    """One snapshot in the making."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.whole = True
        self.objects: list[tuple[str, bytes]] = []
        self._room = PLAIN_ROOM

    def named(self, name: str, value: Any, digests: bool) -> tuple[Any, str]:
        """A value as JSON, and its digest."""
        if is_secret(name) and value is not None and type(value) is not bool:
            self.whole = False
            return HIDDEN, ""
        room, whole = self._room, self.whole
        try:
            held = self._plain(value, 0)
        except (_Large, _Other):
            self._room, self.whole = room, whole
            return self._pickled(value)
        except Exception:  # noqa: BLE001 - a value may be changed by another thread meanwhile, and has methods of its own
            self.whole = False
            return {"$described": {"type": _kind(value)}}, ""
        return held, _digest(held) if digests else ""

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self._take(len(value) + 2)
            return self._text(value)
        if kind is int:
            if value.bit_length() > _HUGE_INT:
                raise _Other
            self._take(8)
            return value
        if kind is float:
            self._take(16)
            return value if value - value == 0 else plain(value)
        if value is None or kind is bool:
            self._take(4)
            return value
        return self._container(kind, value, depth)

    def _container(self, kind: type, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise _Other
        if kind is dict or kind.__module__ == _RESULTS:
            return self._mapping(value if kind.__name__ != "Result" else dict.__getitem__(value, "outputs"), depth + 1)
        if kind is list or kind is tuple:
            self._take(2 * len(value) + 2)
            held = [self._plain(each, depth + 1) for each in value]
            return held if kind is list else {"$tuple": held}
        if kind is set or kind is frozenset:
            self._take(2 * len(value) + 2)
            return {f"${kind.__name__}": sorted((self._plain(each, depth + 1) for each in value), key=repr)}
        if kind is bytes:
            self._take(2 * len(value) + 16)
            return plain(value)
        if isinstance(value, float | list | tuple | dict | set | frozenset | bytes | bytearray):
            raise _Other  # it would come back as another type
        self._take(32)
        return plain(value, _refuse)

    def _mapping(self, value: dict[Any, Any], depth: int) -> Any:
        self._take(4 * len(value) + 2)
        if all(type(key) is str and not key.startswith("$") for key in value):
            held = {}
            for key, each in value.items():
                self._take(len(key))
                held[key] = self._entry(key, each, depth)
            return held
        return {"$dict": [[self._plain(key, depth), self._entry(key, each, depth)] for key, each in value.items()]}

    def _entry(self, key: Any, value: Any, depth: int) -> Any:
        if type(key) is str and is_secret(key) and value is not None and type(value) is not bool:
            self.whole = False
            return HIDDEN
        return self._plain(value, depth)

    def _text(self, value: str) -> str:
        if named() or "://" in value:
            shown = veiled(value)
            if shown is not value and shown != value:
                self.whole = False
            return shown
        return value

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise _Large

    def _pickled(self, value: Any) -> tuple[Any, str]:
        """A value that is not plain, or large."""
        if _holds_secret(value) or is_unread(value):
            self.whole = False
            return {"$described": {"type": _kind(value), **table(value)}}, ""
        frame = _frame(value, None if self.keep else OBJECT_ROOM)
        if frame is None or any(secret.encode() in frame for secret in named()):
            self.whole = False
            return {"$described": description(value, small=False)}, ""
        identity = digest(frame).hex()
        about = {**description(value, small=len(frame) <= OBJECT_ROOM), "size": len(frame)}
        if len(frame) <= _SHORT_PICKLE:
            return {"$pickle": {**about, "data": base64.b64encode(frame).decode()}}, identity
        self.objects.append((identity, frame))
        return {"$object": {**about, "digest": identity}}, identity


def _refuse(_: Any) -> Any:
    raise _Other


def _digest(held: Any) -> str:
    text = json.dumps(held, sort_keys=True)
    return digest(text.encode()).hex() if len(text) >= _TELLING else ""


class _Sink:
    """What the pickler writes to, up to a limit."""

    def __init__(self, room: int | None) -> None:
        self._room = room
        self.parts: list[bytes] = []

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.spend(size)
        self.parts.append(bytes(data))
        return size

    def spend(self, size: int) -> None:
        if self._room is not None:
            self._room -= size
            if self._room < 0:
                raise _Large


def _frame(value: Any, room: int | None) -> bytes | None:
    """The pickle of a value; None when there is none, or none so small."""

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        if room is not None and buffer.raw().nbytes > room:
            raise _Large  # before the pickler makes a copy of it
        return True

    size = _size_told(value)
    if room is not None and size is not None and size > room:
        return None
    sink = _Sink(room)
    try:
        pickle.Pickler(sink, 5, buffer_callback=in_band).dump(value)
    except Exception:  # noqa: BLE001 - pickling runs the methods of the value, which may raise anything
        return None
    return b"".join(sink.parts)


def _size_told(value: Any) -> int | None:
    """What an array or the like says of its size."""
    if type(value).__module__.partition(".")[0] not in _KNOWN_REPR:
        return None
    if is_frame(value) and hasattr(value, "estimated_size"):
        return int(value.estimated_size())
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else None


def description(value: Any, *, small: bool) -> dict[str, Any]:
    """What can be said of a value for little: its type, length, shape and, unless that may be long, its repr."""
    about: dict[str, Any] = {"type": _kind(value)}
    try:
        if isinstance(value, str | bytes | bytearray | list | tuple | dict | set | frozenset):
            about["length"] = len(value)
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and len(shape) <= 32 and all(isinstance(each, int) for each in shape):
            about["shape"] = list(shape)
        about |= table(value)
        about.setdefault("repr", _short_repr(value, small))
    except Exception:  # noqa: BLE001 - these are methods of the value, which may raise anything
        about.setdefault("repr", f"<{about['type']}>")
    return about


def _short_repr(value: Any, small: bool) -> str:
    import reprlib

    bounded = isinstance(value, str | bytes | bytearray | list | tuple | dict | set | frozenset)
    if bounded and type(value).__module__ == "builtins":
        shower = reprlib.Repr()
        shower.maxstring = shower.maxother = _SHOWN
        for kind in ("bytes", "bytearray"):  # it would show them whole before it cuts them, also within a list
            setattr(shower, f"repr_{kind}", lambda each, _: repr(bytes(each[:_SHOWN])))
        return veiled(shower.repr(value))[:_SHOWN]
    if small or type(value).__module__.partition(".")[0] in _KNOWN_REPR:
        return veiled(" ".join(repr(value).split()))[:_SHOWN]
    return f"<{_kind(value)}>"


def _kind(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _holds_secret(value: Any) -> bool:
    """Whether a value has something in it, not too deep, that a name says is secret."""
    waiting, looks = [value], 0
    while waiting and looks < _ENOUGH_LOOKS:
        each = waiting.pop()
        looks += 1
        if isinstance(each, str) and "://" in each and len(each) < PLAIN_ROOM and veiled(each) != each:
            return True
        if isinstance(each, dict):
            inner = each
        elif is_table(each):
            inner = dict.fromkeys(columns(each), "")
        elif isinstance(each, list | tuple | set | frozenset):
            waiting.extend(list(each)[:_ENOUGH_LOOKS] if len(each) < PLAIN_ROOM else ())
            continue
        else:
            inner = getattr(each, "__dict__", None) or {}
        for key, held in list(inner.items())[:_ENOUGH_LOOKS] if len(inner) < PLAIN_ROOM else ():
            if isinstance(key, str) and is_secret(key) and isinstance(held, str | bytes):
                return True
            waiting.append(held)
    return False


def _revived(held: Any, load: Callable[[str], Any]) -> Any:
    if isinstance(held, dict) and len(held) == 1:
        if "$pickle" in held:
            return decode(base64.b64decode(held["$pickle"]["data"]))
        if "$object" in held:
            return load(held["$object"]["digest"])
    return revive(held)


def _shown(held: Any) -> Any:
    match held:
        case list():
            return [_shown(each) for each in held]
        case dict() if len(held) == 1 and next(iter(held)).startswith("$"):
            return _shown_tag(*next(iter(held.items())))
        case dict():
            return {key: _shown(each) for key, each in held.items()}
        case _:
            return held


def _shown_tag(kind: str, held: Any) -> Any:
    match kind:
        case "$tuple" | "$set" | "$frozenset":
            return [_shown(each) for each in held]
        case "$dict":
            return {str(_shown(key)): _shown(each) for key, each in held}
        case "$described" | "$pickle" | "$object":
            return {key: each for key, each in held.items() if key not in ("data", "digest")}
        case _:
            return held  # the text that stands for it
