"""What nodes can call for, and the workflows that files define: told by the process that imports them.

The server itself imports no code of users; it knows of it what this says.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lokki.errors import nearest
from lokki.frozen import field, frozen


@frozen
class Served:
    """A pipeline or workflow of a file: it can be run, and fires at its schedule.

    Attributes:
        id: what it is called in the API.
        name: its name.
        definition: its nodes and edges; of a pipeline, whose graph is made as it runs, none.
        file: where it is defined.
        schedule: what its metadata say of when it starts by itself.
        inputs: a JSON schema of its parameters.
        description: what its docstring says.
    """

    id: str
    name: str
    definition: Mapping[str, Any]
    file: str
    schedule: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@frozen
class Catalog:
    """What can be called for: components by name, each with `description`, `kind`, `platform`, `inputs`, and
    what is known of its `settings`.

    `files` are those that could be imported, and define all of `workflows`.
    """

    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workflows: tuple[Served, ...] = ()
    files: tuple[str, ...] = ()

    def problems(self, definition: Mapping[str, Any], shipped: Iterable[str] = ()) -> list[str]:
        """What keeps a definition from running, a sentence each."""
        nodes = {each["id"]: each for each in definition.get("nodes", ())}
        sent = set(shipped)
        known = {*self.components, *sent}
        told = []
        for node in nodes.values():
            called = node.get("component") or node["id"]
            for name in called if isinstance(called, list) else [called]:
                if name not in known and not node.get("code"):
                    near = nearest(name, known) or "."
                    told.append(f"Node {node['id']!r} calls for component {name!r}, which is not known here{near}")
                elif name not in sent:
                    told += _strangers(node, name, self.components.get(name, {}))
        for edge in definition.get("edges", ()):
            ends = (each for each in (edge["source"], edge["target"]) if each not in nodes)
            told += [f"A connection names node {each!r}, which the workflow does not have." for each in ends]
        return told


def _strangers(node: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> Iterator[str]:
    """What a node's configuration has that its component does not know, where it tells what it knows."""
    if "settings" not in about:
        return
    known = [each for part in ("settings", "inputs") for each in about[part]["properties"]]
    for each in node.get("config") or {}:
        if each not in known:
            near = nearest(each, known) or f"; it knows {', '.join(known)}."
            yield f"Node {node['id']!r}: {name} has no setting or input {each!r}{near}"


def circle(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[str]:
    """The nodes that wait for each other in a circle; none where there is no circle."""
    waiting = dict.fromkeys(nodes)
    into: dict[str, set[str]] = {each: set() for each in nodes}
    out: dict[str, set[str]] = {each: set() for each in nodes}
    for source, target in edges:
        if source in into and target in into:
            into[target].add(source)
            out[source].add(target)
    ready = [each for each in nodes if not into[each]]
    while ready:
        done = ready.pop()
        waiting.pop(done, None)
        for each in out[done]:
            into[each].discard(done)
            if not into[each]:
                ready.append(each)
    return list(waiting)


def described(component: Any, name: str = "") -> dict[str, Any]:
    """What the catalog says of a component, function or class that has this name."""
    from twingraph.base import BaseComponent
    from twingraph.components.built_in import BuiltIn
    from twingraph.decorators import Component
    from twingraph.schemas import inputs_of

    told = (inspect.getdoc(component) or "").strip().split("\n\n")[0]
    about = {"description": told, "kind": "function", "platform": "local"}
    if isinstance(component, type) and issubclass(component, BaseComponent):
        about |= {"kind": "class", "platform": dict(component.placement).get("platform", "local")}
        if issubclass(component, BuiltIn):
            also = {"alias_of": component.__name__} if name and name != component.__name__ else {}
            return {**about, **component.schema(), **also}
        return {**about, "inputs": inputs_of(component.execute)}
    if isinstance(component, Component):
        return {**about, "platform": component.placement.platform, "inputs": inputs_of(component.fn)}
    return {**about, "inputs": inputs_of(component)}
