"""A graph that is put together by name: `Workflow`, to and from its JSON definition, run by the engine of pipelines.

    workflow = Workflow("report")
    workflow.add_component("load", load)
    workflow.add_component("sum", add_up)
    workflow.connect("load", "sum", input="rows")
    workflow.run({"source": "s3://bucket/rows.csv"}).outputs

A definition may be a draft: it can be stored with mistakes that `validate` tells; a node that cannot run fails then.
What fills the parameters of a node is decided in `twingraph.wiring`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from lokki.decorators import Flow
from lokki.errors import nearest
from lokki.frozen import replace
from lokki.graph import FlowGraph
from twingraph.base import BaseComponent
from twingraph.calls import needed
from twingraph.decorators import Component, component
from twingraph.definition import read, written
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.events import Listener
from twingraph.flows import chain_of, each_of, flow_of, graph_of, parts
from twingraph.handling import handling
from twingraph.notifications import Notifier, channels
from twingraph.registry import get_component, made
from twingraph.results import Result
from twingraph.runs import Execution, Plan, checked_count, checked_graph_config, checked_seconds, execute
from twingraph.scopes import Run, Scope, current
from twingraph.wiring import GENERIC, Node, Wire, a_dict, bodies, by_target, filled, merged, ordered, strays, unknown


class Workflow:
    """A graph of components.

    Args:
        name: what its executions are known by.
        description: what it is for.
        tags: what people find it by.
        max_parallel: how many of its nodes run at once.
        error_handler: what a failed node means, as for pipelines; with "continue", what does not need it goes on.
        error_config: for "retry" and "custom", as for pipelines.
        timeout: seconds that an execution may take; 0 for no limit.
        graph_config: where executions are recorded, as for pipelines.
        notifications: whom to tell, as for pipelines.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        tags: tuple[str, ...] | list[str] = (),
        max_parallel: int = 10,
        error_handler: str = "fail",
        error_config: Mapping[str, Any] | None = None,
        timeout: float = 3600,
        graph_config: Mapping[str, Any] | None = None,
        notifications: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ComponentTypeError(f"A workflow needs a name, and {name!r} is none.")
        self.name = name
        self.description = description
        where = f"Workflow {name!r}"
        if isinstance(tags, str):
            raise ComponentTypeError(f"{where}: tags takes a list of texts, not {tags!r}.")
        self.tags = tuple(tags)
        self.max_parallel = checked_count(where, max_parallel)
        self.timeout = timeout
        checked_seconds(where, timeout)
        self._handling = handling(error_handler, error_config, where, {})
        self._on_error: dict[str, Any] = {"error_handler": error_handler} if error_handler != "fail" else {}
        self._on_error |= {"error_config": dict(error_config)} if error_config else {}
        self._graph = checked_graph_config(where, graph_config)
        self._notified, self._channels = notifications or {}, channels(notifications, where)
        self._nodes: dict[str, Node] = {}
        self._wires: list[Wire] = []
        self._flow: Flow | None = None  # that it was made from, and is
        self._source: FlowGraph | None = None  # the graph of that flow

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order in which they were added."""
        return tuple(self._nodes.values())

    @property
    def wires(self) -> tuple[Wire, ...]:
        """The connections, in the order in which they were made."""
        return tuple(self._wires)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}, {len(self._nodes)} nodes>"

    # ---- putting it together

    def add_component(
        self,
        id: str,  # noqa: A002 - it is an id
        component: Any,
        config: Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, str] | None = None,
    ) -> Workflow:
        """Add a node; returns the workflow.

        Args:
            id: what the node is called; unique in the workflow.
            component: a component, a function, a subclass of `BaseComponent` or an instance, or the name of one.
            config: values for its parameters; for a class, its configuration.
            inputs: parameters that get an input of the workflow which has another name.
        """
        if not isinstance(component, str) and not callable(component):
            what = f"node {id!r} takes a component or a name, not {component!r:.60}"
            raise ComponentTypeError(f"Workflow {self.name!r}: {what}.")
        where = f"Workflow {self.name!r}: node {id!r}"
        settings = a_dict(where, "config", config)
        if isinstance(component, BaseComponent) and component.unchanging:  # so that it can be written down
            component, settings = type(component), {**component.config, **settings}
        return self.add(Node(id, component, settings, a_dict(where, "inputs", inputs)))

    def add_map(
        self,
        id: str,  # noqa: A002 - it is an id
        component: Any,
        concurrency_limit: int | None = None,
    ) -> Workflow:
        """Add a node that runs something for each item of what it gets; its result is the list, in order.

        Args:
            id: what the node is called; unique in the workflow.
            component: what runs for each item: a component, its name, or a list of them, one after the other.
            concurrency_limit: how many items run at once; by default as many as nodes of the workflow.
        """
        where = f"Workflow {self.name!r}, map {id!r}"
        if concurrency_limit is not None:
            checked_count(where, concurrency_limit, "concurrency_limit")
        return self.add(Node(id, "map", each=bodies(where, component), limit=concurrency_limit))

    def add(self, node: Node) -> Workflow:
        """Add a node that is made already; returns the workflow."""
        if not isinstance(node.id, str) or not node.id or "/" in node.id:
            raise ComponentError(f"Workflow {self.name!r}: the id of a node is text without '/', not {node.id!r}.")
        if node.id in self._nodes:
            raise ComponentError(f"Workflow {self.name!r} has a node {node.id!r} already; ids are unique.")
        self._nodes[node.id] = node
        self._flow = None
        return self

    def connect(
        self,
        source: str,
        target: str,
        output: str | None = None,
        input: str | None = None,  # noqa: A002 - that is what it is called in a definition
    ) -> Workflow:
        """Let a node get what another gives; returns the workflow.

        Args:
            source: the node that gives.
            target: the node that gets.
            output: which of its outputs; by default all of them.
            input: for which parameter; by default outputs go to the parameters of their names, and one that is left
                over to the one parameter that still needs a value.
        """
        wire = Wire(source, target, output or GENERIC[0], input or GENERIC[1])
        if source == target:
            raise ComponentError(f"Workflow {self.name!r}: node {source!r} cannot be connected to itself.")
        if wire not in self._wires:
            self._wires.append(wire)
            self._flow = None
            try:
                self._order()
            except ComponentError:
                self._wires.remove(wire)
                raise
        return self

    def validate(self) -> list[str]:
        """What is wrong with it, a sentence each; nothing when it can run."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        if not self._nodes:
            yield "It has no node."
        yield from strays(self._wires, self._nodes)
        into = by_target(self._wires)
        for node in self._nodes.values():
            try:
                runs = self.component(node)
            except ComponentError as error:
                yield f"Node {node.id!r}: {error}"
                continue
            known = runs.signature.parameters
            free = any(each.kind is each.VAR_KEYWORD for each in known.values())
            own = () if runs.instance is not None else node.config
            wired = (wire.input for wire in into.get(node.id, ()) if wire.input not in GENERIC)
            for each in dict.fromkeys((*own, *node.inputs, *wired)):
                if each not in known and not free:
                    yield f"Node {node.id!r}: {runs.name!r} has no parameter {each!r}{nearest(each, known) or '.'}"

    # ---- running

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        execution_id: str | None = None,
        listen: Listener | tuple[Listener, ...] = (),
        **more: Any,
    ) -> Execution:
        """Run it, and return what became of it; a failure is not raised but told.

        Args:
            inputs: values by the name of a parameter, or of one node's parameter as in `load.source`.
            execution_id: what the execution is known by; by default a new id.
            listen: called with each event of the execution.
            more: further inputs.
        """
        plan, results = self._planned({**inputs, **more} if isinstance(inputs, Mapping) else inputs or more)
        heard = listen if isinstance(listen, tuple) else (listen,)
        done = execute(replace(plan, listen=(*heard, *plan.listen)), execution_id)
        outputs = {node: each.outputs for node, each in results.items() if each.done and each.error is None}
        return replace(done, node_outputs=outputs)

    def plan(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """What an execution of it is, to be given to `twingraph.runs.execute`; arguments as for pipelines."""
        made = copy(self)
        made.max_parallel = self.max_parallel if max_parallel is None else max_parallel
        made.timeout = self.timeout if timeout is None else timeout
        return made._planned(inputs or {})[0]  # noqa: SLF001 - it is of this class

    def _planned(self, given: Mapping[str, Any]) -> tuple[Plan, Mapping[str, Result]]:
        """The plan, and the results that its nodes will have."""
        given = a_dict(f"Workflow {self.name!r}", "inputs", given)
        if not self._nodes:
            raise ComponentError(f"Workflow {self.name!r} has no node: add one with add_component().")
        self._warn_of_unknown(given)
        made = self if self._source is None else self._with(self._source, given)
        results: dict[str, Result] = {}
        plan = Plan(
            made.name,
            lambda: made._body(given, results),  # noqa: SLF001 - it is of this class
            made._scope,  # noqa: SLF001
            kind="workflow",
            inputs=given,
            config={"max_parallel": made.max_parallel, "timeout": made.timeout},
            graph=made._graph,  # noqa: SLF001
            listen=(Notifier(self._channels, self.name, "workflow"),) if self._channels else (),
        )
        return plan, results

    def _warn_of_unknown(self, inputs: Mapping[str, Any]) -> None:
        """An input that nothing takes is hardly meant, and neither is a connection to nowhere."""
        for stray in strays(self._wires, self._nodes):
            warnings.warn(f"Workflow {self.name!r}: {stray}", stacklevel=4)
        try:
            nodes = [(node, self.component(node).signature) for node in self._nodes.values()]
        except ComponentError:
            return  # what is not there may take anything
        for name, near in unknown(inputs, nodes, () if self._source is None else self._source.params):
            warnings.warn(f"Workflow {self.name!r}: no node takes an input {name!r}{near}", stacklevel=4)

    def _with(self, source: FlowGraph, inputs: Mapping[str, Any]) -> Workflow:
        """The workflow whose flow has these parameters; what was added to it stays."""
        old_nodes, old_wires = parts(source)
        nodes, wires = parts(source.with_params({key: each for key, each in inputs.items() if key in source.params}))
        ids = {each.id for each in old_nodes}
        made = copy(self)
        added = (each for each in self.nodes if each.id not in ids)
        made._nodes = {each.id: each for each in (*nodes, *added)}  # noqa: SLF001 - it is of this class
        made._wires = [*wires, *(each for each in self._wires if each not in old_wires)]  # noqa: SLF001
        return made

    def _scope(self, run: Run) -> Scope:
        return Scope(run, self.name, self._handling, limit=self.max_parallel, timeout=self.timeout)

    def _body(self, inputs: Mapping[str, Any], results: dict[str, Result]) -> dict[str, Any]:
        scope = current.get()
        if scope is None:
            raise AssertionError("a workflow runs in a scope")
        scope.run.named = frozenset(self._nodes)
        into = by_target(self._wires)
        for node in self._order():
            wires = [wire for wire in into.get(node.id, ()) if wire.source in results]
            results[node.id] = self._start(scope, node, wires, inputs, results)
        scope.finish()
        sources = {wire.source for wire in self._wires}
        ends = [each for each in self._nodes if each not in sources]
        given = {node: results[node].wait() for node in ends}
        return merged({node: each.outputs for node, each in given.items() if each.error is None})

    def _start(
        self, scope: Scope, node: Node, wires: list[Wire], inputs: Mapping[str, Any], results: Mapping[str, Result]
    ) -> Result:
        runs = self._runnable(node)
        config = {} if runs.instance is not None else node.config

        def arguments() -> Mapping[str, Any]:
            for wire in wires:
                needed(results[wire.source])
            return filled(node.id, runs.signature, wires, results, inputs, config, node.inputs)

        return scope.later(runs, node.id, [results[wire.source] for wire in wires], arguments)

    def component(self, node: Node) -> Component:
        """What a node runs; a `ComponentError` when there is no component of that name."""
        if node.each:
            return each_of(node.id, chain_of(self.bodies(node)), node.limit)
        return _found(node.component, node.config)

    def bodies(self, node: Node) -> list[Component]:
        """What a map runs for each item."""
        return [_found(each, {}) for each in node.each]

    def _runnable(self, node: Node) -> Component:
        try:
            return self.component(node)
        except ComponentError as error:
            return _unknown(node.called, error)

    def _order(self) -> list[Node]:
        return ordered(f"Workflow {self.name!r}", self._nodes, self._wires)

    # ---- as JSON

    def to_dict(self) -> dict[str, Any]:
        """The definition as JSON-able data, as the server takes it."""
        about = {"description": self.description, "tags": list(self.tags), "max_parallel": self.max_parallel}
        more = {**self._on_error, "notifications": dict(self._notified)} if self._notified else self._on_error
        return written(self.name, self.nodes, self.wires, {**about, "timeout": self.timeout, **more})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], components: Mapping[str, Any] | None = None) -> Workflow:
        """The workflow of a definition. Components are taken from `components` by name, or from the registry."""
        told = read(data, components or {})
        return cls._made(told.name, told.nodes, told.wires, **told.options)

    @classmethod
    def from_flow(cls, flow: Any, **params: Any) -> Workflow:
        """A flow of lokki as a workflow; `params` are those that it cannot be made without."""
        graph = graph_of(flow, params)
        return cls._made(graph.name, *parts(graph), flow=flow if isinstance(flow, Flow) else None, source=graph)

    @classmethod
    def _made(
        cls,
        name: str,
        nodes: Iterable[Node],
        wires: Iterable[Wire],
        *,
        flow: Flow | None = None,
        source: FlowGraph | None = None,
        **options: Any,
    ) -> Workflow:
        workflow = cls(name, **options)
        for node in nodes:
            workflow.add(node)
        workflow._wires = list(dict.fromkeys(wires))
        workflow._order()
        workflow._flow, workflow._source = flow, source
        return workflow

    def to_flow(self) -> Flow:
        """The workflow as a flow of lokki, where it is a chain: to be run, compiled and deployed as any other."""
        return self._flow or flow_of(self.name, self.nodes, self.wires, self.component, self.bodies)


def _found(thing: Any, config: Mapping[str, Any]) -> Component:
    return made(get_component(thing) if isinstance(thing, str) else thing, config)


def _unknown(name: str, error: ComponentError) -> Component:
    def missing(**_: Any) -> None:
        raise error

    return component(name=name.replace(" ", "-").replace("#", "-").replace("/", "-") or "unknown", timeout=0)(missing)
