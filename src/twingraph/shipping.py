"""Components sent with a workflow: what a client defines, as data that a server makes components of again.

    {"python": "3.11", "components": {name: {"kind", "value", "name", "placement", "retry", "cache"}},
     "definitions": [...], "pickle": ""}

They travel as source text and the definitions of all that they use (`twingraph.travel`), together, so that what two of
them share is one thing there too. What has no source, such as a function of a notebook that is gone, makes all of them
one pickle of `cloudpickle`, which only the same minor version of Python opens.
"""

from __future__ import annotations

import base64
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
    shipped: dict[str, Any] = {"python": _python(), "components": told, "definitions": [], "pickle": ""}
    try:
        with installed_there():
            for name, each in components.items():
                luggage.component = name
                told[name]["value"] = luggage.value(_code(each), "its function")
        shipped["definitions"] = luggage.listed
    except TravelError as error:
        shipped["pickle"] = _pickled({name: _code(each) for name, each in components.items()}, error)
    return shipped


def unship(shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The components again, by name; their modules can be imported from now on."""
    told = shipped.get("components") or {}
    values = _unpickled(shipped) if shipped.get("pickle") else _defined(shipped)
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


def _code(thing: Any) -> Any:
    return thing.fn if isinstance(thing, Component) else thing


def _pickled(values: Mapping[str, Any], why: TravelError) -> str:
    try:
        import cloudpickle
    except ImportError:
        raise TravelError(f"{why} With cloudpickle it may be sent: pip install 'lokki-twingraph[processes]'.") from None
    try:
        return base64.b64encode(cloudpickle.dumps(dict(values))).decode()
    except Exception as error:  # what cloudpickle raises depends on the object
        raise TravelError(f"{why} Neither can it be pickled: {error}.") from error


def _unpickled(shipped: Mapping[str, Any]) -> Any:
    if shipped.get("python") != _python():
        raise ComponentError(
            f"The components that were sent with the workflow have no source text, only a pickle of Python "
            f"{shipped.get('python')}, and this is Python {_python()}: define them in a file, or use the same Python."
        )
    import pickle

    try:
        return pickle.loads(base64.b64decode(shipped["pickle"]))
    except Exception as error:
        raise _unusable(error) from error


def _defined(shipped: Mapping[str, Any]) -> dict[str, Any]:
    try:
        definitions = Definitions(list(shipped.get("definitions") or ()), pickles=False)
        sys.modules.update(definitions.modules)  # also __main__: classes of it are pickled by that name
        definitions.fill()
        return {name: definitions.read(about["value"]) for name, about in shipped["components"].items()}
    except Untravelled as error:
        raise ComponentError(f"A component that was sent with the workflow: {error}.") from error
    except Exception as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> ComponentError:
    why = f"{type(error).__name__}: {error}"
    return ComponentError(
        f"The components that were sent with the workflow cannot be made on Python {_python()}: {why}"
    )


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
