"""Components by name: what a workflow's definition may call for.

A name stands for a component, a plain function, or a subclass of `BaseComponent`, which is made with the configuration
of the node that names it. Installed packages add names through the entry points `twingraph.components`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lokki.errors import nearest
from twingraph.base import BaseComponent
from twingraph.decorators import Component, component, component_of
from twingraph.errors import ComponentError, ComponentTypeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

_GROUP = "twingraph.components"
_known: dict[str, Any] = {}
_lock = threading.Lock()


@overload
def register_component(name: str, thing: T) -> T: ...
@overload
def register_component(name: str) -> Callable[[T], T]: ...
def register_component(name: str, thing: Any = None) -> Any:
    """Give a component, function or class a name; one that was known by it is replaced. Also a decorator."""
    if not isinstance(name, str) or not name.strip():
        raise ComponentTypeError(f"A component is registered under a name, not under {name!r}.")
    if thing is None:
        return lambda decorated: register_component(name, decorated)
    if not callable(thing):
        raise ComponentTypeError(f"Component {name!r}: it is a component, function or class, not {thing!r:.60}.")
    with _lock:
        _known[name] = thing
    return thing


def get_component(name: str) -> Any:
    """What was registered under this name."""
    found = find(name)
    if found is None:
        near = nearest(name, list_components()) or "."
        raise ComponentError(
            f"There is no component {name!r}{near} Register it with register_component({name!r}, ...)."
        )
    return found


def find(name: str) -> Any:
    """What was registered under this name, or None."""
    if name not in _known and name in (offered := _offered()):
        register_component(name, offered[name].load())
    return _known.get(name)


def list_components() -> dict[str, Any]:
    """All that has a name, in the order of the names."""
    for name in _offered():
        find(name)
    with _lock:
        return dict(sorted(_known.items()))


def made(thing: Any, config: Mapping[str, Any], name: str = "") -> Component:
    """The component that something with a name stands for; a class is made with the configuration."""
    if isinstance(thing, Component):
        return thing
    if isinstance(thing, type) and issubclass(thing, BaseComponent):
        return component_of(thing(dict(config)))
    if isinstance(thing, BaseComponent):
        return component_of(thing)
    made: Component = component(name=name or None)(thing)
    return made


@lru_cache(maxsize=1)
def _offered() -> Mapping[str, EntryPoint]:
    """What installed packages have; each is loaded when it is asked for."""
    from importlib.metadata import entry_points

    return {each.name: each for each in entry_points(group=_GROUP)}
