"""Values as JSON with their types kept: what JSON has no word for becomes an object with one key that starts with "$".

Only data takes this road, so that a document from elsewhere can be read without running code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "$bytes": bytes.fromhex,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$float": float,
}


def _refuse(value: Any) -> Any:
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON: {value!r:.80}")


def plain(value: Any, other: Callable[[Any], Any] = _refuse) -> Any:
    """The value with nothing in it that JSON has no word for; `other` is asked about types that are not data."""
    match value:
        case None | bool() | str():
            return value if type(value) in (type(None), bool, str) else other(value)
        case int():
            return value if type(value) is int else other(value)
        case float():
            return value if value - value == 0 else {"$float": repr(value)}
        case list():
            return [plain(each, other) for each in value]
        case tuple():
            return {"$tuple": [plain(each, other) for each in value]} if type(value) is tuple else other(value)
        case dict():
            return _mapping(value, other)
        case set() | frozenset():
            kind = "$set" if isinstance(value, set) else "$frozenset"
            return {kind: sorted((plain(each, other) for each in value), key=repr)}
        case _:
            return _text(value, other)


def revive(value: Any) -> Any:
    """The value that `plain` was given."""
    match value:
        case list():
            return [revive(each) for each in value]
        case dict() if len(value) == 1 and next(iter(value)).startswith("$"):
            return _tagged(*next(iter(value.items())))
        case dict():
            return {key: revive(each) for key, each in value.items()}
        case _:
            return value


def _mapping(value: dict[Any, Any], other: Callable[[Any], Any]) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: plain(each, other) for key, each in value.items()}
    return {"$dict": [[plain(key, other), plain(each, other)] for key, each in value.items()]}


def _text(value: Any, other: Callable[[Any], Any]) -> Any:
    match value:
        case bytes() | bytearray():
            return {"$bytes": value.hex()}
        case datetime() | date() | time() if type(value) in (datetime, date, time):
            return {f"${type(value).__name__}": value.isoformat()}
        case timedelta() if type(value) is timedelta:
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        case _ if type(value).__module__.partition(".")[0] == "pathlib":
            return {"$path": str(value)}
        case _ if type(value).__module__ == "decimal" and type(value).__name__ == "Decimal":
            return {"$decimal": str(value)}
        case _:
            return other(value)


def _tagged(kind: str, held: Any) -> Any:
    match kind:
        case "$tuple":
            return tuple(revive(held))
        case "$set":
            return set(revive(held))
        case "$frozenset":
            return frozenset(revive(held))
        case "$dict":
            return {revive(key): revive(each) for key, each in held}
        case "$timedelta":
            return timedelta(*held)
        case "$path":
            from pathlib import Path

            return Path(held)
        case "$decimal":
            from decimal import Decimal

            return Decimal(held)
        case _ if kind in _FROM_TEXT:
            return _FROM_TEXT[kind](held)
        case _:
            raise ValueError(f"unknown kind of value {kind!r}")
