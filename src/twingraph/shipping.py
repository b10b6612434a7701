"""Components sent with a workflow: what a client defines, as data that a server makes components of again.

    {"python": "3.11", "components": {name: {"kind", "value", "name", "placement", "retry", "cache"}},
     "definitions": [...]}

They travel as source text and the definitions of all that they use (`twingraph.travel`), together, so that what two of
them share is one thing there too. A function without source is sent as its code, and a class without source as a pickle
of `cloudpickle`: these only the same minor version of Python takes, and any other says so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from lokki.frozen import replace
from twingraph.decorators import Cache, Component
from twingraph.errors import ComponentError, TravelError
from twingraph.own import installed_there
from twingraph.placement import Placement
from twingraph.platforms.worker import Definitions, Reading, Refused, Untravelled, Writing
from twingraph.retries import Retries
from twingraph.travel import Luggage

_PLACED = ("platform", "image", "config", "timeout", "resources", "environment", "labels")
_TRIED = ("retries", "delay", "backoff", "max_delay", "growth", "names")


def ship(components: Mapping[str, Any]) -> dict[str, Any]:
    """Components, functions and classes by name, as JSON-able data."""
    luggage = Luggage("")
    told = {name: _about(name, each) for name, each in components.items()}
    with installed_there():
        for name, each in components.items():
            luggage.component = name
            told[name]["value"] = luggage.value(each.fn if isinstance(each, Component) else each, "its function")
    return {"python": _python(), "components": told, "definitions": luggage.listed}


def unship(shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The components again, by name; their modules can be imported from now on."""
    told = shipped.get("components") or {}
    values = _defined(shipped)
    return {name: _made(about, values[name]) for name, about in told.items()}


def _about(name: str, thing: Any) -> dict[str, Any]:
    """What is said about a component besides its code."""
    if not isinstance(thing, Component):
        return {"kind": "value"}
    write = Writing(_refuse, _refuse)
    try:
        return {
            "kind": "component",
            "name": thing.name,
            "placement": {each: write(getattr(thing.placement, each)) for each in _PLACED},
            "retry": {each: write(getattr(thing.retry, each)) for each in _TRIED},
            "cache": None if thing.cache is None else {"ttl": thing.cache.ttl},
        }
    except Refused as refused:
        raise TravelError(
            f"Component {name!r}: its configuration has {refused.kind} in it, which cannot be sent to a server: "
            "use plain data."
        ) from None


def _refuse(value: Any) -> Any:
    raise Refused(value)


def _defined(shipped: Mapping[str, Any]) -> dict[str, Any]:
    try:
        definitions = Definitions(list(shipped.get("definitions") or ()), pickles=False)
        sys.modules.update(definitions.modules)  # also __main__: classes of it are pickled by that name
        definitions.fill()
        return {name: definitions.read(about["value"]) for name, about in shipped["components"].items()}
    except Untravelled as error:
        raise ComponentError(f"A component that was sent with the workflow: {error}.") from error
    except Exception as error:  # making them runs code of theirs
        why = f"{type(error).__name__}: {error}"
        made_on = f"they were sent by Python {shipped.get('python')}"
        raise ComponentError(
            f"The components that were sent with the workflow cannot be made on Python {_python()} ({made_on}): {why}"
        ) from error


def _made(about: Mapping[str, Any], value: Any) -> Any:
    if about["kind"] != "component":
        return value
    placed = {name: _plain(each) for name, each in about["placement"].items()}
    tried = {name: _plain(each) for name, each in about["retry"].items()}
    cache = None if about["cache"] is None else Cache(about["cache"]["ttl"])
    return Component(value, about["name"], replace(Placement(), **placed), replace(Retries(), **tried), cache)


def _plain(value: Any) -> Any:
    def none(reference: Any) -> Any:
        raise ComponentError(f"The configuration of a component that was sent names {reference!r:.80}.")

    return Reading(none)(value)


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
