"""A kind and something given -> a value of that kind.

`read` takes text as a person types it. `convert` takes what came from JSON or from Python: a value that already fits
passes as it is, text is read, and the few types that JSON lacks are made from what it has. Both raise `Mismatch`, which
says what was given and what was expected; who asked knows the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from lokki.kinds import Anything, Choice, Either, Foreign, Kind, Many, Scalar, Table, expected, is_nothing

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_NOTHINGS = ("none", "null")
_LONGEST_SHOWN = 100


class Mismatch(Exception):
    """A value is not what its kind asks for."""

    def __init__(self, value: object, wanted: str) -> None:
        shown = repr(value)
        super().__init__(f"{shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + '...'} is not {wanted}")


def read(kind: Kind, text: str) -> object:
    """The value that `text` spells, or Mismatch."""
    match kind:
        case Scalar():
            return _read_scalar(kind, text)
        case Choice():
            return _read_choice(kind, text)
        case Many():
            return _read_many(kind, text)
        case Table():
            return _read_table(kind, text)
        case Either():
            return _by_members(kind, text, read)[0]
        case Anything():
            return text
        case Foreign():
            raise Mismatch(text, f"{expected(kind)}, which cannot be given as text")
        case _:
            assert_never(kind)


def convert(kind: Kind, value: object) -> object:
    """`value` itself when it is already of the kind, else what it becomes, or Mismatch."""
    match kind:
        case Scalar():
            return _convert_scalar(kind, value)
        case Choice():
            return _convert_choice(kind, value)
        case Many():
            return _convert_many(kind, value)
        case Table():
            return _convert_table(kind, value)
        case Either():
            found = _by_members(kind, value, convert)
            return value if any(result is value for result in found) else found[0]
        case Anything():
            return value
        case Foreign():
            return value if isinstance(value, kind.type) else _refuse(kind, value)
        case _:
            assert_never(kind)


def _refuse(kind: Kind, value: object) -> object:
    raise Mismatch(value, expected(kind))


def _read_scalar(kind: Scalar, text: str) -> object:
    word = text.strip().lower()
    if kind.noun == "none":
        return None if word in _NOTHINGS else _refuse(kind, text)
    if kind.noun == "boolean":
        return _BOOLEANS[word] if word in _BOOLEANS else _refuse(kind, text)
    return _made(kind, text, getattr(kind.type, "fromisoformat", kind.type))


def _made(kind: Scalar, value: Any, make: Callable[[Any], object]) -> object:
    try:
        return make(value)
    except (ValueError, ArithmeticError):
        raise Mismatch(value, kind.expected) from None


def _convert_scalar(kind: Scalar, value: object) -> object:
    if isinstance(value, bool) and kind.noun != "boolean":  # True is an int to Python only
        return _refuse(kind, value)
    if isinstance(value, kind.type):
        return value
    if isinstance(value, str):
        return _read_scalar(kind, value)
    if isinstance(value, int | float):
        return _convert_number(kind, value)
    return _refuse(kind, value)


def _convert_number(kind: Scalar, value: float) -> object:
    if kind.noun == "decimal":
        return _made(kind, str(value), kind.type)  # the digits that were written, not the nearest binary fraction
    if kind.noun == "number" or (kind.noun == "integer" and float(value).is_integer()):  # 5.0 is an integer in JSON
        return _made(kind, value, kind.type)
    return _refuse(kind, value)


def _read_choice(kind: Choice, text: str) -> object:
    matching = [member for name, member in kind.spelled if name == text]
    return matching[0] if matching else _refuse(kind, text)


def _convert_choice(kind: Choice, value: object) -> object:
    for known, member in kind.exact:
        if type(known) is type(value) and known == value:
            return member
    return _read_choice(kind, value) if isinstance(value, str) else _refuse(kind, value)


def _read_many(kind: Many, text: str) -> object:
    """A JSON list (the only way to write items that hold lists, dicts or commas), else commas between the items."""
    loaded = _from_json(text) if text.lstrip().startswith("[") else None
    if isinstance(loaded, list):
        return _convert_many(kind, loaded)
    pieces = [piece for piece in map(str.strip, text.split(",")) if piece]
    if pieces and any(map(_is_nested, kind.items)):
        raise Mismatch(text, "a valid JSON list")
    items = [read(item, piece) for item, piece in zip(_item_kinds(kind, pieces, text), pieces, strict=True)]
    return _built(kind, items, text)


def _convert_many(kind: Many, value: object) -> object:
    if isinstance(value, str):
        return _read_many(kind, value)
    if not isinstance(value, list | tuple | set | frozenset):
        return value if isinstance(value, kind.accepts) else _refuse(kind, value)  # a range is a Sequence as it is
    given = list(value)
    items = [convert(item, old) for item, old in zip(_item_kinds(kind, given, value), given, strict=True)]
    unchanged = all(new is old for new, old in zip(items, given, strict=True))
    return value if unchanged and isinstance(value, kind.accepts) else _built(kind, items, value)


def _is_nested(kind: Kind) -> bool:
    return any(map(_is_nested, kind.members)) if isinstance(kind, Either) else isinstance(kind, Many | Table)


def _item_kinds(kind: Many, items: Sequence[object], given: object) -> Sequence[Kind]:
    if not kind.fixed:
        return kind.items * len(items)
    if len(kind.items) != len(items):
        raise Mismatch(given, expected(kind))
    return kind.items


def _built(kind: Many, items: list[object], given: object) -> object:
    try:
        return kind.build(items)
    except TypeError:  # a set of lists
        raise Mismatch(given, expected(kind)) from None


def _read_table(kind: Table, text: str) -> object:
    table = _from_json(text)
    return _convert_table(kind, table) if isinstance(table, dict) else _refuse(kind, text)


def _convert_table(kind: Table, value: object) -> object:
    if isinstance(value, str):
        return _read_table(kind, value)
    if not isinstance(value, kind.accepts) or not isinstance(value, Mapping):
        return _refuse(kind, value)
    pairs = [(convert(kind.key, key), convert(kind.value, inner)) for key, inner in value.items()]
    unchanged = all(new[0] is old[0] and new[1] is old[1] for new, old in zip(pairs, value.items(), strict=True))
    return value if unchanged else dict(pairs)


def _from_json(text: str) -> object:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return None


def _by_members(kind: Either, value: Any, how: Callable[[Kind, Any], object]) -> list[object]:
    """What the members of a union make of a value, in reading order."""
    found: list[object] = []
    failures: list[Mismatch] = []
    for member in kind.members:
        try:
            found.append(how(member, value))
        except Mismatch as failure:
            failures.append(failure)
    if found:
        return found
    some = [failure for member, failure in zip(kind.members, failures, strict=True) if not is_nothing(member)]
    raise some[0] if len(some) == 1 else Mismatch(value, expected(kind))
