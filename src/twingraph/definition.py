"""A workflow's definition: JSON-able data, as the server and the web UI keep it.

    {"name": ..., "definition": {"nodes": [{"id", "type", "component", "config"}],
                                 "edges": [{"source", "target", "sourceHandle", "targetHandle"}]},
     "metadata": {"description", "tags"}}

What else is said of nodes and edges, such as where they lie in a picture, is kept.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any

from lokki.frozen import frozen
from lokki.jsonable import plain, revive
from twingraph.decorators import Component
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.wiring import GENERIC, Node, Wire, called

OPTIONS = ("description", "tags", "max_parallel", "timeout", "error_handler", "error_config", "notifications")
"""What the metadata may say of how a workflow runs, besides what it is."""
_SAID = ("id", "type", "component", "config", "inputs")


@frozen
class Definition:
    """What a definition says: the workflow's name, its nodes and connections, and what else it is made with."""

    name: str
    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...]
    options: Mapping[str, Any]


def written(name: str, nodes: Iterable[Node], wires: Iterable[Wire], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a workflow."""
    definition = {"nodes": [_node(each) for each in nodes], "edges": [_edge(each) for each in wires]}
    try:
        return {"name": name, "definition": definition, "metadata": plain(dict(metadata))}
    except TypeError as error:
        raise ComponentTypeError(f"Workflow {name!r} cannot be written as JSON: {error}.") from error


def _node(node: Node) -> dict[str, Any]:
    made: dict[str, Any] = {"id": node.id, "type": "component", "component": node.called}
    if node.each:
        made = {"id": node.id, "type": "map", "component": [called(each) for each in node.each]}
        made["concurrency_limit"] = node.limit
    try:
        made["config"] = plain(dict(node.config))
    except TypeError as error:
        raise ComponentTypeError(f"Node {node.id!r} cannot be written as JSON: {error}.") from error
    if node.inputs:
        made["inputs"] = dict(node.inputs)
    return {**node.about, **made}


def _edge(wire: Wire) -> dict[str, Any]:
    return {
        "source": wire.source,
        "target": wire.target,
        "sourceHandle": wire.output,
        "targetHandle": wire.input,
    }


def read(data: Mapping[str, Any], components: Mapping[str, Any]) -> Definition:
    """What a definition says; components are taken from `components` by name."""
    if not isinstance(data, Mapping):
        raise ComponentTypeError(f"A workflow's definition is a dict, not {type(data).__name__}.")
    definition = data.get("definition", data)
    if not isinstance(definition, Mapping):
        raise ComponentTypeError(f"'definition' of a workflow is a dict, not {type(definition).__name__}.")
    metadata = {**_dict(definition, "metadata"), **_dict(data, "metadata")}
    options = {name: metadata[name] for name in OPTIONS if metadata.get(name) is not None}
    nodes = tuple(_from_node(each, components) for each in _list(definition, "nodes"))
    return Definition(data.get("name") or "workflow", nodes, tuple(map(_wire, _list(definition, "edges"))), options)


def _wire(data: Any) -> Wire:
    _check(data, "edge", ("source", "target"))
    source, target = _handle(data, "sourceHandle", GENERIC[0]), _handle(data, "targetHandle", GENERIC[1])
    return Wire(data["source"], data["target"], source, target)


def _from_node(data: Any, components: Mapping[str, Any]) -> Node:
    _check(data, "node", ("id",))
    if data.get("type") == "map":
        return _from_map(data, components)
    name = data.get("component") or data["id"]
    thing: Any = components.get(name, name)
    if data.get("code") and name not in components:
        thing = _of_code(data["id"], name, data["code"], data.get("language", "python"))
    about = {key: value for key, value in data.items() if key not in _SAID}
    return Node(data["id"], thing, revive(_dict(data, "config")), _dict(data, "inputs"), about=about)


def _from_map(data: Mapping[str, Any], components: Mapping[str, Any]) -> Node:
    named = data.get("component")
    names: list[Any] = named if isinstance(named, list) else [named]
    if not names or not all(isinstance(each, str) and each for each in names):
        raise ComponentError(f"Map {data['id']!r} needs a component, or a list of them, not {named!r:.80}.")
    bodies = tuple(components.get(each, each) for each in names)
    about = {key: value for key, value in data.items() if key not in (*_SAID, "concurrency_limit")}
    return Node(data["id"], "map", each=bodies, limit=data.get("concurrency_limit"), about=about)


def _handle(edge: Mapping[str, Any], name: str, usual: str) -> str:
    handle = edge.get(name)
    return usual if handle in GENERIC else str(handle)


def _check(data: Any, what: str, needed: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise ComponentTypeError(f"A workflow's {what} is a dict, not {type(data).__name__}.")
    for each in needed:
        if not isinstance(data.get(each), str) or not data[each]:
            raise ComponentError(f"A workflow's {what} needs {each!r}, a text: {dict(data)!r:.100}")


def _list(data: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = data.get(name) or []
    if not isinstance(found, list | tuple):
        raise ComponentTypeError(f"{name!r} of a workflow's definition is a list, not {type(found).__name__}.")
    return found


def _dict(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name) or {}
    if not isinstance(found, Mapping):
        raise ComponentTypeError(f"{name!r} of a workflow's definition is a dict, not {type(found).__name__}.")
    return dict(found)


def _of_code(node: str, name: str, code: Any, language: str) -> Callable[..., Any] | Component:
    """The function that the text of a node defines: the one of the component's name, or the only one."""
    if language != "python" or not isinstance(code, str):
        raise ComponentError(f"Node {node!r}: code is text in python, not in {language!r}.")
    file = f"<node {node}>"
    names: dict[str, Any] = {"__name__": f"node_{node}"}
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # so that its source can be had
    try:
        exec(compile(code, file, "exec"), names)  # noqa: S102 - who may write definitions may run code
    except Exception as error:
        raise ComponentError(f"Node {node!r}: its code cannot be run: {type(error).__name__}: {error}") from error
    found = {key: each for key, each in names.items() if isinstance(each, FunctionType | Component)}
    if name in found:
        return found[name]
    if len(found) != 1:
        raise ComponentError(f"Node {node!r}: its code defines {len(found)} functions; name one of them {name!r}.")
    return next(iter(found.values()))
