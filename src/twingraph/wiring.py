"""The nodes and connections of a workflow, and what fills the parameters of a node: values and pure functions.

By the parameter's name, in this order: what other nodes give, `inputs["node.parameter"]`, `inputs["parameter"]`, the
node's configuration, the default. A connection that names an output and an input joins exactly these. One that does not
hands over all outputs by their names; one that is left over, or the table among several, then fills the one parameter
that still needs a value.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lokki.errors import nearest
from lokki.frozen import field, frozen
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.results import Outputs, Result

GENERIC: tuple[Any, ...] = ("output", "input", "outputs", "inputs", "", None)
"""Words for an output or input that mean none in particular."""

TABLES = ("data", "rows")
"""What outputs are called that hold a table; what stands beside them tells of it."""

_FREE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


@frozen
class Node:
    """A node of a workflow.

    Attributes:
        id: what it is called everywhere.
        component: what it runs, or the name of that.
        config: values for its parameters; for a component that is a class, its configuration.
        inputs: parameters that get an input of the workflow which has another name.
        each: of a map, what runs for each item, one after the other.
        limit: of a map, how many items run at once.
        about: what else its definition says, which is kept.
    """

    id: str
    component: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    each: tuple[Any, ...] = ()
    limit: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The component's name."""
        return called(self.component) or self.id


def called(component: Any) -> str:
    """The name of a component, function or class, or the name that stands for one."""
    if isinstance(component, str):
        return component
    return str(getattr(component, "name", "") or getattr(component, "__name__", ""))


@frozen
class Wire:
    """A connection of two nodes."""

    source: str
    target: str
    output: str = "output"
    input: str = "input"


def filled(
    node: str,
    signature: inspect.Signature,
    wires: Iterable[Wire],
    results: Mapping[str, Result],
    inputs: Mapping[str, Any],
    config: Mapping[str, Any],
    renamed: Mapping[str, str],
) -> dict[str, Any]:
    """The arguments of a node, by name."""
    known = {name: each for name, each in signature.parameters.items() if each.kind not in _FREE}
    free = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    exact, loose = _given(node, wires, results, known)
    given = {**_inputs(node, inputs, known, renamed, config, free), **exact}
    given.update((name, value) for name, value in loose.items() if name in known and name not in exact)
    left = {name: value for name, value in loose.items() if name not in known and name not in exact}
    needed = [name for name, each in known.items() if name not in given and each.default is inspect.Parameter.empty]
    if len(needed) == 1 and (meant := _meant(left)):
        given[needed[0]] = left.pop(meant)
    if free:
        given.update(left)
    return given


def _meant(left: Mapping[str, Any]) -> str:
    """Which of the outputs that are left over is the one; of several only a table is."""
    names = list(left) if len(left) == 1 else [name for name in left if name in TABLES]
    return names[0] if len(names) == 1 else ""


def _given(
    node: str, wires: Iterable[Wire], results: Mapping[str, Result], known: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What other nodes give: to parameters that a connection names, and by the outputs' own names."""
    exact: dict[str, Any] = {}
    loose: dict[str, Any] = {}
    for wire in wires:
        result = results[wire.source]
        whole = wire.output in GENERIC and wire.output not in result.outputs
        value = result.value if whole else _output(node, result, wire)
        if wire.input not in GENERIC or wire.input in known:
            exact[wire.input] = value
        elif whole:
            loose.update(result.outputs)
        else:
            loose[wire.output] = value
    return exact, loose


def _output(node: str, result: Result, wire: Wire) -> Any:
    given = result.outputs
    if wire.output not in given:
        near = nearest(wire.output, given) or f"; it gave {', '.join(given) or 'nothing'}."
        raise ComponentError(f"Node {node!r} wants output {wire.output!r} of {wire.source!r}, which has none{near}")
    return given[wire.output]


def _inputs(
    node: str,
    inputs: Mapping[str, Any],
    known: Mapping[str, Any],
    renamed: Mapping[str, str],
    config: Mapping[str, Any],
    free: bool,
) -> dict[str, Any]:
    """What the workflow's inputs and the node's configuration give."""
    given = {name: value for name, value in config.items() if name in known or free}
    for name in {**known, **renamed}:
        if renamed.get(name, name) in inputs:
            given[name] = inputs[renamed.get(name, name)]
    for name, value in inputs.items():
        place, dot, parameter = name.rpartition(".")
        if dot and place == node:
            given[parameter] = value
        elif free and not dot:
            given.setdefault(name, value)
    return given


def a_dict(where: str, name: str, value: Any) -> dict[str, Any]:
    """An argument that takes a dict, or None for none."""
    if value is not None and not isinstance(value, Mapping):
        raise ComponentTypeError(f"{where}: {name} takes a dict, not {type(value).__name__}.")
    return dict(value or {})


def bodies(where: str, component: Any) -> tuple[Any, ...]:
    """What a map runs for each item: one component or name, or several of them."""
    several = tuple(component) if isinstance(component, list | tuple) else (component,)
    if not several:
        raise ComponentError(f"{where}: it needs something to run for each item.")
    for each in several:
        if not isinstance(each, str) and not callable(each):
            raise ComponentTypeError(f"{where}: it takes components or names, not {each!r:.60}.")
    return several


def strays(wires: Iterable[Wire], nodes: Iterable[str]) -> Iterator[str]:
    """Connections with an end that is no node, a sentence each."""
    known = list(nodes)
    for end in dict.fromkeys(end for wire in wires for end in (wire.source, wire.target)):
        if end not in known:
            yield f"A connection names node {end!r}, which it does not have{nearest(end, known) or '.'}"


def unknown(
    inputs: Iterable[str], nodes: Iterable[tuple[Node, inspect.Signature]], more: Iterable[str]
) -> list[tuple[str, str]]:
    """The inputs that no node takes, each with the name that is near; `more` are names that are taken besides."""
    known = set(more)
    for node, signature in nodes:
        if any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
            return []
        known.update(node.inputs.values())
        for name in signature.parameters:
            known.update((name, f"{node.id}.{name}"))
    return [(name, nearest(name, known) or ".") for name in inputs if name not in known]


def merged(outputs: Mapping[str, Outputs]) -> dict[str, Any]:
    """The outputs of several nodes as one: names that two of them have move under the nodes' ids."""
    names = [name for each in outputs.values() for name in each]
    made: dict[str, Any] = {}
    for node, each in outputs.items():
        apart = {name: value for name, value in each.items() if names.count(name) > 1}
        made.update({name: value for name, value in each.items() if name not in apart})
        if apart:
            made[node] = apart
    return made


def by_target(wires: Iterable[Wire]) -> dict[str, list[Wire]]:
    """The connections into each node, in their order."""
    into: dict[str, list[Wire]] = {}
    for wire in wires:
        into.setdefault(wire.target, []).append(wire)
    return into


def ordered(where: str, nodes: Mapping[str, Node], wires: Iterable[Wire]) -> list[Node]:
    """The nodes, each after those that it gets something from; a circle is a `ComponentError`."""
    needs = dict.fromkeys(nodes, 0)
    after: dict[str, list[str]] = {}
    for wire in wires:
        if wire.source == wire.target:
            raise ComponentError(f"{where}: node {wire.source!r} cannot be connected to itself.")
        if wire.source in needs and wire.target in needs:
            needs[wire.target] += 1
            after.setdefault(wire.source, []).append(wire.target)
    places = {name: place for place, name in enumerate(nodes)}
    done: list[Node] = []
    ready = [each for each, count in needs.items() if not count]
    while ready:
        done += [nodes[each] for each in ready]
        freed = []
        for target in (target for each in ready for target in after.get(each, ())):
            needs[target] -= 1
            if not needs[target]:
                freed.append(target)
        ready = sorted(freed, key=places.__getitem__)
    if len(done) < len(nodes):
        left = ", ".join(each for each, count in needs.items() if count)
        raise ComponentError(f"{where}: {left} wait for each other in a circle.")
    return done
