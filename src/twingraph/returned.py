"""What a call returned, told beside its outputs so that it can be had again from them: its *form*.

A single value and a plain dict need none: they are their outputs. Of a named tuple, a dataclass or another mapping it
is the class; of the rest, one word.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from twingraph.results import Outputs

_LOST = "lost"


def form_of(value: Any, given: Outputs) -> str:
    """The form of a value that gave these outputs."""
    kind = type(value)
    if kind is dict:
        return "dict" if given.keys() == {"result"} and "result" in value else ""
    if kind is Outputs:
        return "outputs"
    if len(given) == 1 and given.get("result") is value:
        return ""
    if not getattr(value, "__dict__", {}).keys() <= given.keys():
        return _LOST  # it holds more than its outputs
    what = "namedtuple" if isinstance(value, tuple) else "mapping" if isinstance(value, Mapping) else "dataclass"
    return f"{what} {kind.__module__} {kind.__qualname__}"


def remade(form: str, given: Mapping[str, Any]) -> Any:
    """The value of this form with these outputs; ValueError where it is not to be had here."""
    kind, *place = form.split(" ")
    match kind:
        case "":
            return given["result"] if given.keys() == {"result"} else dict(given)
        case "dict":
            return dict(given)
        case "outputs":
            return Outputs(given)
        case "namedtuple":
            return _namedtuple(place, given)
        case "mapping":
            return _mapping(place, given)
        case "dataclass":
            return _dataclass(place, given)
    raise ValueError(f"no value of the form {form!r} can be made")


def _namedtuple(place: list[str], given: Mapping[str, Any]) -> Any:
    module, qualname = place
    found: Any = _class(place)
    if getattr(found, "_fields", None) == tuple(given):
        return found._make(given.values())
    # it was made in a function, or is another one by now
    return namedtuple(qualname.rpartition(".")[2], list(given), module=module)(**given)


def _mapping(place: list[str], given: Mapping[str, Any]) -> Any:
    found: Any = _class(place)
    try:
        made = found(given)
        return made if made == given else dict(given)
    except Exception:  # noqa: BLE001 - it is the user's class, and may take something else
        return dict(given)


def _dataclass(place: list[str], given: Mapping[str, Any]) -> Any:
    found: Any = _class(place)
    if set(getattr(found, "__dataclass_fields__", ())) != set(given):
        raise ValueError(f"there is no dataclass {'.'.join(place)} with these fields")
    made = object.__new__(found)
    for name, value in given.items():
        object.__setattr__(made, name, value)
    return made


def _class(place: list[str]) -> type | None:
    from twingraph.envelope import known_class

    return known_class(*place)
