"""What a field of an operation may hold: how its JSON is read, what JSON schema says so, and the words for an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lokki.frozen import frozen
from twingraph.components.expressions import Expression, parsed
from twingraph.components.expressions.datatypes import TYPES
from twingraph.components.expressions.syntax import offered

TEXT_SCHEMA: dict[str, Any] = {"type": "string"}


class Misshapen(ValueError):
    """A value that a field cannot hold; a sentence says why where the words for the field do not."""


@frozen
class Shape:
    """What a field may hold.

    Attributes:
        words: what it is, for an error.
        schema: the same as JSON schema.
        read: from JSON to the value; Misshapen for what it cannot be.
    """

    words: str
    schema: Mapping[str, Any]
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Misshapen
    return value


def _names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(each, str) and each for each in names):
        raise Misshapen
    if twice := [each for at, each in enumerate(names) if each in names[:at]]:
        raise Misshapen(f"{twice[0]!r} is named twice.")
    return tuple(names)


def _expressions(value: Any) -> tuple[Expression, ...]:
    return tuple(parsed(each) for each in _names(value))


def _named_texts(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not value:
        raise Misshapen
    if not all(isinstance(each, str) and each for pair in value.items() for each in pair):
        raise Misshapen
    return tuple(value.items())


def _named_expressions(value: Any) -> tuple[tuple[str, Expression], ...]:
    return tuple((name, parsed(text)) for name, text in _named_texts(value))


def _columns(value: Any) -> tuple[tuple[str, Expression | None], ...]:
    if isinstance(value, Mapping):
        return _named_expressions(value)
    return tuple((name, None) for name in _names(value))


def _types(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = _named_texts(value)
    for _, name in pairs:
        if name.removesuffix("?") not in TYPES:
            raise Misshapen(f"there is no type {name!r}{offered(name, TYPES)}")
    return pairs


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Misshapen
    return value


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise Misshapen
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misshapen
    return value


def _values(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise Misshapen
    return tuple(value)


def choice(*names: str) -> Shape:
    """One of several words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise Misshapen
        return value

    return Shape(f"one of {', '.join(names)}", {"enum": list(names)}, read)


_ONE_OR_MORE = {"anyOf": [TEXT_SCHEMA, {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}]}
_BY_NAME = {"type": "object", "additionalProperties": TEXT_SCHEMA, "minProperties": 1}
_EITHER = {"anyOf": [*_ONE_OR_MORE["anyOf"], _BY_NAME]}
_TYPE = {"enum": [*TYPES, *(f"{name}?" for name in TYPES)]}

TEXT = Shape("text", TEXT_SCHEMA, _text)
INPUT = Shape("the name of the input that has the other rows", TEXT_SCHEMA, _text)
NAMES = Shape("a column or a list of columns", _ONE_OR_MORE, _names)
ORDER = Shape("a column or expression, '-name' for descending order, or a list of them", _ONE_OR_MORE, _names)
EXPRESSIONS = Shape("an expression or a list of expressions", _ONE_OR_MORE, _expressions)
NAMED_TEXTS = Shape("names by names", _BY_NAME, _named_texts)
NAMED_EXPRESSIONS = Shape("expressions by the names of new columns", _BY_NAME, _named_expressions)
COLUMNS = Shape("a list of columns, or expressions by name", _EITHER, _columns)
NAMED_TYPES = Shape("types by column", {**_BY_NAME, "additionalProperties": _TYPE}, _types)
WHOLE = Shape("a whole number, 0 or more", {"type": "integer", "minimum": 0}, _whole)
SHARE = Shape("a number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1}, _share)
FLAG = Shape("true or false", {"type": "boolean"}, _flag)
VALUES = Shape("a list of values", {"type": "array", "minItems": 1}, _values)
