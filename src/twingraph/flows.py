"""A flow of lokki as a workflow, and a workflow that is a chain as a flow of lokki.

A step becomes a node that gets the result of the step before for its first parameter. A map becomes one node; what it
runs for each item are calls within it. The other way, each node must be connected to the first parameter of the next
one, because a chain hands on one value.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from lokki.chain import MapBlock, StepNode
from lokki.decorators import Flow
from lokki.graph import ITEM, Call, Const, FlowGraph, Input, Map, Param, Ref, Step
from lokki.params import bind
from lokki.policy import RetryConfig
from lokki.runtime.invoke import picked, settled
from lokki.runtime.items import sequence
from twingraph.calls import inside, needed
from twingraph.decorators import Component, component
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.placement import Placement
from twingraph.results import Result
from twingraph.retries import Retries
from twingraph.runs import inside_of
from twingraph.scopes import Scope, current
from twingraph.wiring import GENERIC, Node, Wire

Parts = tuple[tuple[Node, ...], tuple[Wire, ...]]


def graph_of(flow: Any, params: Mapping[str, Any]) -> FlowGraph:
    """The graph of a flow with these parameters."""
    match flow:
        case Flow():
            return flow.graph(bind(flow.parameters, dict(params), flow=flow.__name__))
        case FlowGraph():
            return flow.with_params(params)
        case StepNode():
            raise ComponentTypeError("Workflow.from_flow() takes a flow, not a step: write @flow over a function.")
        case _:
            kind = type(flow).__name__
            raise ComponentTypeError(f"Workflow.from_flow() takes a flow or its graph, not {kind}.")


def parts(graph: FlowGraph) -> Parts:
    """The nodes and connections of the workflow that a flow is."""
    nodes = tuple(
        _call(node, graph.params) if isinstance(node, Call) else _map(node, graph.params) for node in graph.nodes
    )
    return nodes, tuple(wire for node in graph.nodes for wire in _wires(node))


def _call(call: Call, params: Mapping[str, Any]) -> Node:
    runs = step_component(call.step)
    config = {name: each.value for name, each in _arguments(call, runs) if isinstance(each, Const)}
    config |= {name: params[each.name] for name, each in _arguments(call, runs) if isinstance(each, Param)}
    inputs = {name: each.name for name, each in _arguments(call, runs) if isinstance(each, Param)}
    return Node(call.id, runs, config, inputs)


def _wires(node: Call | Map) -> list[Wire]:
    if isinstance(node, Map):
        return [Wire(node.over.node, node.id, input="items")]
    runs = step_component(node.step)
    return [Wire(each.node, node.id, input=name) for name, each in _arguments(node, runs) if isinstance(each, Ref)]


def _arguments(call: Call, runs: Component) -> list[tuple[str, Input]]:
    """All arguments of a call, by name."""
    return [*zip(runs.signature.parameters, call.inputs, strict=False), *call.kwargs.items()]


def step_component(step: Step) -> Component:
    """The component that runs a step here, tried again as the step says."""
    retry = step.retry
    policy = Retries(
        retries=retry.retries,
        delay=retry.delay,
        backoff=retry.backoff,
        max_delay=retry.max_delay,
        names=_names(retry),
    )
    return Component(step.fn, step.name, Placement(timeout=0), policy)


def _names(retry: RetryConfig) -> tuple[str, ...]:
    if Exception in retry.exceptions or BaseException in retry.exceptions:
        return ()
    return tuple(f"{each.__module__}.{each.__qualname__}" for each in retry.exceptions)


def _map(node: Map, params: Mapping[str, Any]) -> Node:
    return Node(node.id, each_of(node.id, lambda item: _started(node.body, item, params), node.concurrency_limit))


def each_of(name: str, start: Callable[[Any], Any], limit: int | None) -> Component:
    """The component that starts something for every item, all of them before it waits for the first."""

    def each_item(items: Any) -> list[Any]:
        outer = current.get()
        if outer is None:
            raise AssertionError("a map runs in a workflow")
        scope = Scope(outer.run, name, outer.handling, limit=limit or outer.limit, within=inside.get(), outer=outer)
        given = sequence(settled(items), name)
        made: list[Any] = inside_of(scope, lambda: [_done(each) for each in [start(each) for each in given]])
        return made

    return component(name=name, timeout=0)(each_item)


def _done(made: Any) -> Any:
    return needed(made) if isinstance(made, Result) else made


def chain_of(bodies: Sequence[Component]) -> Callable[[Any], Any]:
    """What starts these components for an item, each with what the one before it gave."""

    def start(item: Any) -> Any:
        for runs in bodies:
            item = runs.submit(item)
        return item

    return start


def _started(body: FlowGraph, item: Any, params: Mapping[str, Any]) -> Any:
    made: dict[str, Any] = {ITEM: item}
    for node in body.nodes:
        if isinstance(node, Call):
            runs = step_component(node.step)
            arguments = {name: _value(each, made, params) for name, each in _arguments(node, runs)}
        else:
            runs = _map(node, params).component
            arguments = {"items": _value(node.over, made, params)}
        made[node.id] = runs.submit(**arguments)
    return _value(body.output, made, params)


class _Held:
    """A value as the kernel's `picked` wants it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _value(given: Input, made: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    match given:
        case Ref(node=node, path=()):
            return made[node]
        case Ref():
            source = made[given.node]
            return picked(given, {given.node: source if isinstance(source, Result) else _Held(source)})
        case Param():
            return params[given.name]
        case Const():
            return given.value


def flow_of(
    name: str,
    nodes: Iterable[Node],
    wires: Sequence[Wire],
    runs: Callable[[Node], Component],
    bodies: Callable[[Node], Sequence[Component]],
) -> Flow:
    """The flow that a workflow is which is a chain of components and maps."""
    chain: StepNode | MapBlock | None = None
    for node in _in_a_chain(name, list(nodes), wires, runs):
        if node.each:
            if not isinstance(chain, StepNode):
                raise ComponentError(f"Workflow {name!r}: before map {node.id!r} there has to be a component.")
            chain = chain.map([_as_step(each) for each in bodies(node)], concurrency_limit=node.limit)
        elif chain is None:
            chain = _as_step(runs(node))(**node.config)
        elif isinstance(chain, MapBlock):
            chain = chain.agg(_as_step(runs(node)), **node.config)
        else:
            chain = chain.next(_as_step(runs(node)), **node.config)
    made = chain

    def flow() -> Any:
        return made

    flow.__module__ = chain.step.fn.__module__ if isinstance(chain, StepNode) else __name__
    flow.__name__ = flow.__qualname__ = re.sub(r"\W+", "_", name).strip("_").lower()
    return Flow(flow)


def _as_step(runs: Component) -> StepNode:
    return StepNode(Step(runs.fn, runs.name, _policy(runs)))


def _policy(runs: Component) -> RetryConfig:
    """The component's retries in the kernel's words, which know classes and a factor."""
    retry = runs.retry
    if retry.retries and retry.growth == "linear":
        raise ComponentError(
            f"Component {runs.name!r}: the waits of a flow's step grow by a factor, so backoff is 'exponential' or "
            "'fixed' there, not 'linear'."
        )
    exceptions = tuple(_exception(runs, each) for each in retry.names) or (Exception,)
    backoff = 1.0 if retry.growth == "fixed" else retry.backoff
    return RetryConfig(retry.retries, retry.delay, backoff, retry.max_delay, exceptions)


def _exception(runs: Component, name: str) -> type[BaseException]:
    """The class of a name: of Python, of the component's module, or of the module that the name begins with."""
    module, _, last = name.rpartition(".")
    found: Any = getattr(runs.fn, "__globals__", {}).get(name, getattr(builtins, name, None))
    if found is None and module:
        with suppress(ImportError):
            found = getattr(import_module(module), last, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    raise ComponentError(
        f"Component {runs.name!r}: a flow's step is tried again for classes of exceptions, and {name!r} is none "
        "that can be found: import it in the component's module, or give the class itself."
    )


def _in_a_chain(
    name: str, nodes: Sequence[Node], wires: Sequence[Wire], runs: Callable[[Node], Component]
) -> list[Node]:
    after = {wire.source: wire for wire in wires}
    targets = {wire.target for wire in wires}
    firsts = [node for node in nodes if node.id not in targets]
    if len(firsts) != 1 or len(after) != len(wires) or len(targets) != len(wires):
        raise ComponentError(
            f"Workflow {name!r} is not a chain: each node but the first comes after exactly one other."
        )
    known = {node.id: node for node in nodes}
    found = [firsts[0]]
    while (wire := after.get(found[-1].id)) is not None:
        node = known[wire.target]
        first = next(iter(runs(node).signature.parameters), None)
        if wire.output not in GENERIC or wire.input != first:
            how = f"connect({wire.source!r}, {wire.target!r}, input={first!r})"
            raise ComponentError(f"Workflow {name!r}: a chain hands its one value to the first parameter; write {how}.")
        found.append(node)
    return found
