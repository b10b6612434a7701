"""A filter as data: `{"color": "red", "price": {"<": 10}}` becomes conditions, which each index says in its own words.

A field holds a value or a list of values, and a condition holds when one of the values fits. What has no such field
fits only what is the opposite of something: `!=`, `not in`, `not`, and `None`, which asks for nothing to be there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

from lokki.errors import nearest
from lokki.frozen import frozen
from twingraph.errors import ComponentError, ComponentTypeError

Plain: TypeAlias = "str | int | float | bool"
Order: TypeAlias = Literal["<", "<=", ">", ">="]

ORDERS: tuple[Order, ...] = ("<", "<=", ">", ">=")
OPERATORS = ("=", "!=", *ORDERS, "in", "not in")
JOINED = ("and", "or", "not")
RESERVED = "_id"

_NAME = re.compile(r'[^."\[\]\x00]+')


@frozen
class OneOf:
    """The field has one of these values."""

    field: str
    values: tuple[Plain, ...]


@frozen
class Compared:
    """The field has a number that is on this side of another."""

    field: str
    order: Order
    number: int | float


@frozen
class Empty:
    """The field is not there, or is null or an empty list."""

    field: str


@frozen
class Every:
    """All of these hold; of none, always."""

    parts: tuple[Condition, ...]


@frozen
class Either:
    """One of these holds; of none, never."""

    parts: tuple[Condition, ...]


@frozen
class Not:
    """This does not hold."""

    part: Condition


Condition: TypeAlias = OneOf | Compared | Empty | Every | Either | Not


def condition(where: Mapping[str, Any] | None) -> Condition | None:
    """The conditions that a filter says; None if it says none."""
    if where is None:
        return None
    found = _all_of(where)
    return found if found.parts else None


def field_name(name: Any) -> str:
    """The name of a field as metadata may have it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ComponentError(
            f"A field of metadata has a name without dots, quotes and brackets, not {name!r}: rename it."
        )
    return name


def _all_of(where: Any) -> Every:
    if not isinstance(where, Mapping):
        raise ComponentTypeError(
            f"A filter is a dict such as {{'color': 'red', 'price': {{'<': 10}}}}, not {type(where).__name__}."
        )
    return Every(tuple(_of_field(name, value) for name, value in where.items()))


def _of_field(name: Any, value: Any) -> Condition:
    if name in JOINED and isinstance(value, list | tuple) and all(isinstance(each, Mapping) for each in value):
        all_of = tuple(_all_of(each) for each in value)
        return Every(all_of) if name == "and" else Either(all_of) if name == "or" else Not(Either(all_of))
    if not isinstance(name, str) or not all(_NAME.fullmatch(each) for each in name.split(".")):
        raise ComponentError(f"A filter has names of fields with dots between them for what is nested, not {name!r}.")
    if not isinstance(value, Mapping):
        return _said(name, "in" if isinstance(value, list | tuple | set | frozenset) else "=", value)
    if not value:
        raise ComponentError(f"The filter says nothing of {name!r}: give a value or, for example, {{'<': 10}}.")
    parts = tuple(_said(name, operator, wanted) for operator, wanted in value.items())
    return parts[0] if len(parts) == 1 else Every(parts)


def _said(name: str, operator: Any, value: Any) -> Condition:
    match operator:
        case "=" | "==":
            return _equal(name, value)
        case "!=":
            return Not(_equal(name, value))
        case "in":
            return _among(name, value)
        case "not in":
            return Not(_among(name, value))
        case "<" | "<=" | ">" | ">=":
            return Compared(name, cast("Order", operator), _number(name, operator, value))
    near = nearest(str(operator), OPERATORS) or f"; there are {', '.join(OPERATORS)}."
    raise ComponentError(f"The filter of {name!r} has an operator that is not known, {operator!r}{near}")


def _equal(name: str, value: Any) -> Condition:
    return Empty(name) if value is None else OneOf(name, (_plain(name, value),))


def _among(name: str, values: Any) -> Condition:
    if isinstance(values, str) or not isinstance(values, Sequence | set | frozenset):
        raise ComponentTypeError(f"The filter of {name!r}: 'in' takes a list of values, not {values!r:.40}.")
    return OneOf(name, tuple(_plain(name, each) for each in values))


def _plain(name: str, value: Any) -> Plain:
    value = value.item() if hasattr(value, "item") else value  # a number of NumPy
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ComponentTypeError(
        f"The filter of {name!r} compares with a text, a finite number, True, False or None, not {value!r:.40}."
    )


def _number(name: str, operator: str, value: Any) -> int | float:
    number = _plain(name, value)
    if isinstance(number, bool | str):
        raise ComponentTypeError(
            f"The filter of {name!r}: {operator} compares numbers, not {number!r:.40}; keep dates as numbers."
        )
    return number
