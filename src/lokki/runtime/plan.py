"""A flow made ready for one run: parameters filled in, and for each node what its stored output must have come from.

A node's `sign` covers the step's code and the arguments known before the run. Together with the digests of the results
that the step receives it makes the tag of its output: equal tags mean that running the step again would do the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, assert_never

from lokki.codec import NO_TAG, digest
from lokki.errors import LokkiError
from lokki.graph import ITEM, Call, Const, FlowGraph, Map, Node, Param, Ref
from lokki.runtime.invoke import Invocation, prepare


class PlannedCall(NamedTuple):
    """A step to run; `drops` names the results that nobody needs after it."""

    id: str
    invocation: Invocation
    sources: tuple[str, ...]
    drops: tuple[str, ...]
    sign: bytes = NO_TAG


class PlannedMap(NamedTuple):
    """A body to run per item, and for no more than the first `most` of them."""

    id: str
    over: Ref
    body: PlannedGraph
    limit: int | None
    batch: int
    label: str
    drops: tuple[str, ...]
    sign: bytes = NO_TAG
    most: int | None = None


class PlannedGraph(NamedTuple):
    """The nodes in order, and which result is the graph's; `direct` keeps results between the nodes in memory."""

    nodes: tuple[PlannedNode, ...]
    output: Ref
    direct: bool = False
    sign: bytes = NO_TAG

    @property
    def last(self) -> PlannedNode:
        """The node whose result is the graph's."""
        return next(each for each in self.nodes if each.id == self.output.node)


PlannedNode = PlannedCall | PlannedMap


def plan(graph: FlowGraph, params: Mapping[str, Any], *, signed: bool, most: int | None = None) -> PlannedGraph:
    """Make a graph ready; `signed` computes what resuming needs, `most` is how many items each map runs at most."""
    return _Planner(params, signed, most).graph(graph, direct=False)


def planned_node(
    node: Node,
    params: Mapping[str, Any],
    *,
    signed: bool,
    most: int | None = None,
    own: Collection[str] | None = None,
) -> PlannedNode:
    """Make one node ready; `own` are the modules whose code counts, where that is not plain from where they lie."""
    return _Planner(params, signed, most, own).node(node, (), direct=isinstance(node, Map) and node.direct_pass)


class _Planner:
    def __init__(
        self, params: Mapping[str, Any], signed: bool, most: int | None, own: Collection[str] | None = None
    ) -> None:
        self._params = params
        self._own = own
        self._most = most
        self._signed = signed
        self._prints: dict[int, bytes] = {}

    def graph(self, graph: FlowGraph, *, direct: bool) -> PlannedGraph:
        """A graph, ready."""
        drops = _dropped(graph)
        nodes = tuple(self.node(node, tuple(drops.get(node.id, ())), direct) for node in graph.nodes)
        if not self._signed:
            return PlannedGraph(nodes, graph.output, direct)
        shape = repr((direct, graph.output)).encode()
        sign = digest(shape + b"".join(each.id.encode() + each.sign for each in nodes))
        return PlannedGraph(nodes, graph.output, direct, sign)

    def node(self, node: Node, drops: tuple[str, ...], direct: bool) -> PlannedNode:
        """A node, ready."""
        match node:
            case Call():
                invocation = prepare(node, self._params)
                sources = tuple(ref.node for ref in invocation.refs())
                return PlannedCall(node.id, invocation, sources, drops, self._sign(node) if self._signed else NO_TAG)
            case Map():
                body = self.graph(node.body, direct=direct or node.direct_pass)
                sign = digest(repr(node.over).encode() + body.sign) if self._signed else NO_TAG
                limits = (node.concurrency_limit, node.batch_size)
                return PlannedMap(node.id, node.over, body, *limits, node.label, drops, sign, self._most)
            case _:
                assert_never(node)

    def _sign(self, call: Call) -> bytes:
        parts = [self._print(call.step.fn)]
        for name, each in [(None, each) for each in call.inputs] + sorted(call.kwargs.items()):
            match each:
                case Ref():
                    parts.append(repr((name, each)).encode())
                case Const():
                    parts.append(f"{name}={_hash(call, name, each.value, self._own)}".encode())
                case Param():
                    parts.append(f"{name}={_hash(call, name, self._params[each.name], self._own)}".encode())
        return digest(b"\0".join(parts))

    def _print(self, fn: Any) -> bytes:
        """The fingerprint of a function; one that is used in many places is looked at once."""
        known = self._prints.get(id(fn))
        if known is None:
            from lokki.source import fingerprint

            known = self._prints[id(fn)] = fingerprint(fn, self._own)
        return known


def _dropped(graph: FlowGraph) -> dict[str, list[str]]:
    """For each node the results that nobody within the graph needs after it."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        for ref in node.arguments() if isinstance(node, Call) else (node.over,):
            if isinstance(ref, Ref) and ref.node not in (graph.output.node, ITEM):
                last[ref.node] = node.id
    drops: dict[str, list[str]] = {}
    for source, user in last.items():
        drops.setdefault(user, []).append(source)
    return drops


def _hash(call: Call, name: str | None, value: Any, own: Collection[str] | None) -> str:
    from lokki.source import argument_hash

    try:
        return argument_hash(value, own)
    except LokkiError as error:
        where = f"argument {name!r}" if name else "an argument"
        raise type(error)(f"In {where} of step {call.step.name!r}, {error}") from error
