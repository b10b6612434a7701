"""What a type hint asks for, as a small tree of frozen kinds, and how kinds and values are written down.

`kind_of` reads a hint once; what turns text or JSON into values (`lokki.conversion`) or describes a parameter to a
person (`expected`) or to a form (`schema_of`) dispatches on the kind. `text_of` writes a value as a person would type
it and `json_of` as JSON holds it.
"""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Callable, Iterable
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, NewType, TypeAlias, Union, assert_never, get_args, get_origin, is_typeddict

from lokki.frozen import frozen

# By name, so that a flow without paths, dates or decimals does not pay for importing their modules.
_SCALARS = {
    "builtins.NoneType": ("none", "none"),
    "builtins.str": ("text", "text"),
    "builtins.int": ("integer", "a valid integer"),
    "builtins.float": ("number", "a valid number"),
    "builtins.bool": ("boolean", "a valid boolean (true or false)"),
    "datetime.date": ("date", "a valid date (YYYY-MM-DD)"),
    "datetime.datetime": ("datetime", "a valid datetime (YYYY-MM-DDTHH:MM:SS)"),
    "decimal.Decimal": ("decimal", "a valid decimal number"),
    **dict.fromkeys(("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath"), ("path", "a path")),
    **dict.fromkeys(("pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"), ("path", "a path")),
}
_LISTS: dict[object, Callable[[Iterable[object]], object]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    tuple: tuple,
    frozenset: frozenset,
}
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


@frozen
class Scalar:
    """One value with a spelling of its own: text, a number, a date, a path, None."""

    type: type[Any]
    noun: str
    expected: str  # what follows "is not"


@frozen
class Choice:
    """One of a closed set, an Enum or a Literal: which values and which texts stand for which member."""

    members: tuple[object, ...]
    exact: tuple[tuple[object, object], ...]
    spelled: tuple[tuple[str, object], ...]


@frozen
class Many:
    """A list, tuple or set: any number of `items[0]`, or exactly `items` when `fixed`."""

    accepts: type[Any]
    build: Callable[[Iterable[object]], object]
    items: tuple[Kind, ...]
    fixed: bool = False


@frozen
class Table:
    """A dict."""

    accepts: type[Any]
    key: Kind
    value: Kind


@frozen
class Either:
    """A union; `members` are in the order in which text is tried."""

    members: tuple[Kind, ...]


@frozen
class Anything:
    """No type is asked for."""


@frozen
class Foreign:
    """A class that neither text nor JSON can make: only its own instances pass."""

    type: type[Any]


Kind: TypeAlias = Scalar | Choice | Many | Table | Either | Anything | Foreign

# In a union the pickiest reading comes first and text, which takes everything, last.
_READING_ORDER: tuple[object, ...] = (
    *("none", Choice, "integer", "number", "decimal", "boolean", "date", "datetime", Foreign, Table, Many, "path"),
    *(Anything, "text"),
)


def kind_of(hint: object, aliases: tuple[object, ...] = ()) -> Kind:
    """What `hint` asks for; `aliases` are the type aliases it was reached through (one may contain itself)."""
    hint = _without_names(hint)
    if hasattr(hint, "__value__"):
        inside = any(hint is alias for alias in aliases)
        return Anything() if inside else kind_of(hint.__value__, (*aliases, hint))
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Literal:
        return _literal(arguments)
    inner = tuple(kind_of(argument, aliases) for argument in arguments)
    if origin in (Union, UnionType):
        return _either(inner)
    return _class_kind(origin, inner, Ellipsis in arguments) if isinstance(origin, type) else Anything()


def _without_names(hint: object) -> object:
    """The hint under Annotated and NewType, with None as the type that it means."""
    if get_origin(hint) is Annotated:
        return _without_names(get_args(hint)[0])
    if isinstance(hint, NewType):
        return _without_names(hint.__supertype__)
    return type(None) if hint is None else hint


def _class_kind(origin: type[Any], inner: tuple[Kind, ...], endless: bool) -> Kind:
    if origin in _LISTS:
        fixed = origin is tuple and bool(inner) and not endless
        return Many(origin, _LISTS[origin], inner if fixed else inner[:1] or (Anything(),), fixed)
    if origin in _MAPPINGS or is_typeddict(origin):
        key, value = inner if len(inner) == 2 else (Anything(), Anything())
        return Table(origin if origin in _MAPPINGS else dict, key, value)
    if origin in (Any, object) or getattr(origin, "_is_protocol", False):
        return Anything()
    return _enum(origin) if issubclass(origin, Enum) else _scalar(origin) or Foreign(origin)


def _scalar(cls: type[Any]) -> Scalar | None:
    # Python 3.13 keeps Path in pathlib._local.
    known = _SCALARS.get(f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}")
    return Scalar(cls, *known) if known else None


def _enum(cls: type[Enum]) -> Choice:
    """Its members by themselves, by name, and by value; a text is a name before it is a value."""
    members = cls.__members__.values()
    exact = [(member, member) for member in members]
    raw = [(member.value, member) for member in members if not isinstance(member.value, str)]
    values = [(text_of(member.value), member) for member in members]
    return Choice(tuple(cls), (*exact, *raw), (*cls.__members__.items(), *values))


def _literal(values: tuple[object, ...]) -> Kind:
    some = tuple(value for value in values if value is not None)
    spelled = tuple((text, value) for value in some for text in (text_of(value), str(value)))
    choice = Choice(some, tuple(zip(some, some, strict=True)), spelled)
    return choice if len(some) == len(values) else _either((kind_of(None), choice))


def _either(members: tuple[Kind, ...]) -> Either:
    flat = [inner for member in members for inner in (member.members if isinstance(member, Either) else (member,))]
    return Either(tuple(sorted(flat, key=_reading_rank)))


def _reading_rank(kind: Kind) -> int:
    return _READING_ORDER.index(kind.noun if isinstance(kind, Scalar) else type(kind))


def kind_of_value(value: object) -> Kind:
    """What a parameter without a hint asks for, going by its default."""
    if value is None:
        return Anything()
    if isinstance(value, dict):
        return kind_of(dict)
    if isinstance(value, list | tuple | set | frozenset) and type(value) in _LISTS:
        kinds = {type(item): kind_of_value(item) for item in value}
        return Many(type(value), _LISTS[type(value)], tuple(kinds.values()) if len(kinds) == 1 else (Anything(),))
    ancestry = map(kind_of, type(value).__mro__)  # a number of numpy's is a float, every value an object
    return next(kind for kind in ancestry if isinstance(kind, Scalar | Choice | Anything))


def is_nothing(kind: Kind) -> bool:
    return isinstance(kind, Scalar) and kind.noun == "none"


def is_switch(kind: Kind) -> bool:
    """Whether it is a yes or no, so that naming it is enough to say yes."""
    if isinstance(kind, Either):
        return all(is_nothing(member) or is_switch(member) for member in kind.members)
    return isinstance(kind, Scalar) and kind.noun == "boolean"


def expected(kind: Kind) -> str:
    """What should have been given, to follow "is not"."""
    match kind:
        case Scalar():
            return kind.expected
        case Choice():
            return f"one of: {', '.join(map(text_of, kind.members))}"
        case Many():
            return f"a list of {_plural(kind)}"
        case Table():
            return "a valid JSON object"
        case Either():
            some = [expected(member) for member in kind.members if not is_nothing(member)]
            return " or ".join(sorted(some, key=lambda words: (words.startswith("one of"), words.startswith("a list"))))
        case Anything():
            return "text"
        case Foreign():
            return f"of type {kind.type.__name__}"
        case _:
            assert_never(kind)


def _plural(kind: Many) -> str:
    item = kind.items[0]
    if kind.fixed:
        return f"{len(kind.items)} values"
    if isinstance(item, Scalar):
        return f"{item.noun}s"
    return "values" if isinstance(item, Anything) else f"values, each {expected(item)}"


def label(kind: Kind) -> str:
    """What it is, for a column of a help page."""
    if isinstance(kind, Either):
        return " or ".join(label(member) for member in kind.members if not is_nothing(member))
    return expected(kind).removeprefix("a valid ").removeprefix("of type ").removeprefix("a ")


_SCALAR_SCHEMAS: dict[str, dict[str, object]] = {
    "none": {"type": "null"},
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "decimal": {"type": ["number", "string"]},
    "path": {"type": "string"},
}


def schema_of(kind: Kind) -> dict[str, object]:
    """JSON Schema of the values that stand for it."""
    match kind:
        case Scalar():
            return dict(_SCALAR_SCHEMAS[kind.noun])
        case Choice():
            return {"enum": [json_of(member) for member in kind.members]}
        case Many():
            return {"type": "array"} | _items_schema(kind)
        case Table():
            return {"type": "object", "additionalProperties": schema_of(kind.value)}
        case Either():
            some = [schema_of(member) for member in kind.members]
            alone = [each for index, each in enumerate(some) if each not in some[:index]]  # text and a path are one
            return {"anyOf": alone} if len(alone) > 1 else alone[0]
        case Anything() | Foreign():
            return {}
        case _:
            assert_never(kind)


def _items_schema(kind: Many) -> dict[str, object]:
    items = [schema_of(item) for item in kind.items]
    if kind.fixed:
        return {"prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    return {"items": items[0]} | ({"uniqueItems": True} if issubclass(kind.accepts, abc.Set) else {})


def json_of(value: object) -> object:
    """`value` as JSON holds it, such that converting gives the value again; TypeError when JSON cannot hold it."""
    match value:
        case Enum():
            return value.name
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple() | set() | frozenset():
            return [json_of(item) for item in _ordered(value)]
        case dict():
            return {text_of(key): json_of(inner) for key, inner in value.items()}
        case _ if not isinstance(value, float) and _scalar(type(value)):
            return text_of(value)
    raise TypeError(f"JSON has no {type(value).__name__} such as {value!r}.")


def text_of(value: object) -> str:
    """`value` as a person would type it."""
    match value:
        case None | bool():
            return str(value).lower()
        case Enum():
            return value.name
        case list() | tuple() | set() | frozenset():
            parts = [(item, text_of(item)) for item in _ordered(value)]
            return ",".join(text for _, text in parts) if all(map(_stands_bare, parts)) else _json_text(value)
        case dict():
            return _json_text(value)
    return str(getattr(type(value), "isoformat", str)(value))


def _ordered(values: Iterable[object]) -> list[object]:
    return sorted(values, key=text_of) if isinstance(values, set | frozenset) else list(values)


def _stands_bare(part: tuple[object, str]) -> bool:
    """Whether an item of a list comes back when it is typed between commas."""
    item, text = part
    nested = isinstance(item, list | tuple | set | frozenset | dict)
    return not nested and text != "" and text == text.strip() and "," not in text and not text.startswith("[")


def _json_text(value: object) -> str:
    import json

    try:
        return json.dumps(json_of(value))
    except TypeError:
        return repr(value)
