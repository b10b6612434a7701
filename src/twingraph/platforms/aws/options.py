"""What a component's `config=` and `resources=` say, checked: each value of the kind and size that AWS takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.placed import Placed

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MILLI = re.compile(r"\s*(\d+)m\s*")


def text(call: Placed, name: str) -> str:
    """A text; empty if it is not given."""
    value = call.placement.config.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ComponentTypeError(f"{_where(call, name)} takes a text, not {value!r}.")
    return value


def flag(call: Placed, name: str) -> bool:
    """Whether something is asked for."""
    value = call.placement.config.get(name, False)
    if not isinstance(value, bool):
        raise ComponentTypeError(f"{_where(call, name)} takes True or False, not {value!r}.")
    return value


def whole(call: Placed, name: str, low: int, high: int) -> int | None:
    """A whole number between two others; None if it is not given."""
    value = call.placement.config.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ComponentTypeError(f"{_where(call, name)} takes a whole number, not {value!r}.")
    return _between(call, name, value, low, high)


def texts(call: Placed, name: str) -> list[str] | None:
    """A list of texts; None if it is not given."""
    value = call.placement.config.get(name)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ComponentTypeError(f"{_where(call, name)} takes a list of texts, not {value!r}.")
    return list(value)


def mapping(call: Placed, name: str) -> dict[str, str] | None:
    """Texts by name; None if it is not given."""
    value = call.placement.config.get(name)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ComponentTypeError(f"{_where(call, name)} takes a dict, not {value!r}.")
    return {str(key): str(each) for key, each in value.items()}


def mebibytes(call: Placed, name: str, low: int, high: int) -> int | None:
    """MiB of memory: a number of them, or a text such as "2G"; else what `resources` says in bytes or as a text."""
    value = call.placement.config.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return _between(call, name, value, low, high)
    if value is not None:
        return _between(call, name, _size(call, f"config[{name!r}]", value), low, high)
    asked = call.placement.resources.get("memory")
    return None if asked is None else max(low, min(high, _size(call, "resources['memory']", asked)))


def processors(call: Placed, name: str) -> float | None:
    """How many processors: what `config` says, else `resources`; "500m" is half of one."""
    for where, value in ((f"config[{name!r}]", call.placement.config.get(name)),
                         ("resources['cpu']", call.placement.resources.get("cpu"))):  # fmt: skip
        if value is not None:
            return _number(call, where, value)
    return None


def graphics(call: Placed) -> int:
    """How many GPUs; True is one."""
    value = call.placement.config.get("gpu", call.placement.resources.get("gpu"))
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if value is None or (isinstance(value, int) and value >= 0):
        return int(value or 0)
    raise ComponentTypeError(f"{_where(call, 'gpu')} takes a number of GPUs, not {value!r}.")


def _size(call: Placed, where: str, value: Any) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return max(1, round(value / 1024**2))
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ComponentTypeError(f"{call.who}: {where} takes a size such as '2G', not {value!r}.")
    return max(1, round(float(found[1]) * 1024.0 ** (_POWERS[found[2].lower()] - 2)))


def _number(call: Placed, where: str, value: Any) -> float:
    if isinstance(value, str) and (milli := _MILLI.fullmatch(value)):
        return int(milli[1]) / 1000
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ComponentTypeError(f"{call.who}: {where} takes a number such as 2, not {value!r}.")
    return number


def _between(call: Placed, name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ComponentError(f"{_where(call, name)} is between {low} and {high}, not {value}.")
    return value


def _where(call: Placed, name: str) -> str:
    return f"{call.who}: config[{name!r}]"
