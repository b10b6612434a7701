"""The intermediate form of a flow: a frozen graph of calls and maps with explicit inputs.

Authoring produces it, the type check and the drawings read it, the runner walks it, the builder compiles it. A chain
is the simplest graph; a node may refer to any node before it. The body of a `Map` is a graph of its own, whose input
`Ref(ITEM)` is the item. Ids are unique in the whole flow, bodies included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import zip_longest
from typing import Any, NamedTuple, assert_never

from lokki.errors import GraphTypeError, GraphValidationError
from lokki.frozen import field, frozen, named, replace
from lokki.importing import locate, reference
from lokki.jsonable import plain, revive
from lokki.policy import NO_RETRY, Resources, RetryConfig

ITEM = "$item"
"""The node that stands for the item inside the body of a map."""


@frozen
class Step:
    """A function with what is said about it: the definition that every use of the step shares."""

    fn: Callable[..., Any]
    name: str
    retry: RetryConfig = NO_RETRY
    resources: Resources = Resources()

    def __reduce__(self) -> tuple[Any, ...]:
        return reference(self)


@frozen
class Ref:
    """The result of another node, or the part of it that `path` picks."""

    node: str
    path: tuple[str | int, ...] = ()


@frozen
class Param:
    """The value of a flow parameter."""

    name: str


@frozen
class Const:
    """A value given where the step is used."""

    value: Any


Input = Ref | Param | Const


@frozen
class Call:
    """One use of a step."""

    id: str
    step: Step
    inputs: tuple[Input, ...] = ()
    kwargs: Mapping[str, Input] = field(default_factory=dict)

    def arguments(self) -> Iterator[Input]:
        """All inputs, by place and by name."""
        yield from self.inputs
        yield from self.kwargs.values()


@frozen
class Map:
    """The body, run once per item of `over`; its result is the list of the bodies' results, in order."""

    id: str
    over: Ref
    body: FlowGraph
    concurrency_limit: int | None = None
    batch_size: int = 1
    direct_pass: bool = False

    @property
    def label(self) -> str:
        """The name of the first step inside, which is how people know the map."""
        return next(self.body.calls()).step.name


Node = Call | Map


class TaskEntry(NamedTuple):
    """In `FlowGraph.entries`: a step outside any map."""

    node: Call


class MapOpenEntry(NamedTuple):
    """In `FlowGraph.entries`: a map begins over the result of `source`."""

    node: Map
    source: str
    inner_steps: tuple[Step, ...]
    concurrency_limit: int | None


class MapCloseEntry(NamedTuple):
    """In `FlowGraph.entries`: a map ends; `agg_step` receives the list, or is None when the flow ends open."""

    node: Map
    agg_step: Step | None


Entry = TaskEntry | MapOpenEntry | MapCloseEntry


@frozen
class FlowGraph:
    """A flow, ready to run or compile.

    Attributes:
        name: the flow's name, as in `birds-flow`.
        nodes: the calls and maps, each after those that it refers to.
        output: the node whose result is the flow's.
        params: the values of the flow's parameters that this graph was made with.
        schedule: when the deployed flow starts by itself, or None.
        traced: made by running a pipeline, so its shape may differ next time and it cannot be compiled.
        remake: builds the graph again with other parameters; None when it did not come from a flow function.
    """

    name: str
    nodes: tuple[Node, ...]
    output: Ref
    params: Mapping[str, Any] = field(default_factory=dict)
    schedule: str | None = None
    traced: bool = False
    remake: Callable[..., FlowGraph] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise GraphValidationError(f"Flow {self.name!r} has no step.")
        known = {ITEM}
        for node in self.nodes:
            for ref in _refs(node):
                if ref.node not in known:
                    use = f"{node.id!r} uses the result of {ref.node!r}, which does not come before it"
                    raise GraphValidationError(f"In flow {self.name!r}, {use}.")
            known.add(node.id)
        if self.output.node not in known:
            raise GraphValidationError(f"Flow {self.name!r} ends in {self.output.node!r}, which it does not have.")
        ids = [ITEM, *(node.id for node in self.walk())]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise GraphValidationError(f"Flow {self.name!r} has two nodes with the id {twice!r}.")

    @property
    def step_names(self) -> tuple[str, ...]:
        """The names of the steps in order, each once."""
        return tuple(dict.fromkeys(call.step.name for call in self.calls()))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The flat view: tasks, and where maps open and close."""
        return tuple(_entries(self.nodes))

    @property
    def fingerprint(self) -> str:
        """A hash of the flow's shape: its nodes and how they are joined, not the values they are given."""
        return sha256(repr((self.name, _shape(self))).encode()).hexdigest()

    def calls(self) -> Iterator[Call]:
        """Every call, those inside maps included."""
        for node in self.walk():
            if isinstance(node, Call):
                yield node

    def walk(self) -> Iterator[Node]:
        """Every node, those inside maps included."""
        for node in self.nodes:
            yield node
            if isinstance(node, Map):
                yield from node.body.walk()

    def node(self, id: str) -> Node:  # noqa: A002 - it is an id
        """The node with this id."""
        found = {each.id: each for each in self.walk()}
        if id not in found:
            raise GraphValidationError(f"No node named {id!r} in flow {self.name!r}; it has {', '.join(found)}.")
        return found[id]

    def with_params(self, params: Mapping[str, Any]) -> FlowGraph:
        """The same flow with these parameters in place of its own; arguments computed from them follow."""
        changed = {key: each for key, each in params.items() if key not in self.params or self.params[key] is not each}
        if not changed:
            return self
        merged = {**self.params, **changed}
        return replace(self, params=merged) if self.remake is None else self.remake(**merged)

    def to_dict(self) -> dict[str, Any]:
        """The graph as JSON-able data."""
        return {
            "version": 1,
            "name": self.name,
            "schedule": self.schedule,
            "traced": self.traced,
            "params": _values(self.params, f"the parameters of flow {self.name!r}"),
            **_body_to_dict(self),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], steps: Mapping[str, Any] | None = None) -> FlowGraph:
        """The graph that `to_dict` described. Steps are taken from `steps` by name, or imported from their modules."""
        if data.get("version") != 1:
            raise GraphValidationError(f"This graph has version {data.get('version')!r}; this lokki reads version 1.")
        nodes, output = _nodes_from(data, steps or {}), _input_from(data["output"])
        return cls(data["name"], nodes, output, revive(data["params"]), data["schedule"], data["traced"])

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        return "\n".join(["flowchart TD", *(f"    {line}" for line in _mermaid(self))]) + "\n"


def _refs(node: Node) -> Iterator[Ref]:
    match node:
        case Call():
            yield from (each for each in node.arguments() if isinstance(each, Ref))
        case Map():
            yield node.over
        case _:
            assert_never(node)


def _entries(nodes: tuple[Node, ...]) -> Iterator[Entry]:
    agg: Call | None = None
    for node, after in zip_longest(nodes, nodes[1:]):
        match node:
            case Call():
                if node is not agg:  # the entry that closes the map names it already
                    yield TaskEntry(node)
            case Map():
                inner = tuple(each.step for each in node.body.nodes if isinstance(each, Call))
                yield MapOpenEntry(node, node.over.node, inner, node.concurrency_limit)
                yield from (each for each in _entries(node.body.nodes) if not isinstance(each, TaskEntry))
                agg = after if isinstance(after, Call) and Ref(node.id) in after.inputs else None
                yield MapCloseEntry(node, agg.step if agg else None)
            case _:
                assert_never(node)


def _shape(graph: FlowGraph) -> Any:
    return [_node_shape(node) for node in graph.nodes], graph.output


def _node_shape(node: Node) -> Any:
    match node:
        case Call():
            # which parameters a step takes follows from its signature, and from what an execution is given
            names = [(name, type(each).__name__) for name, each in node.kwargs.items() if not isinstance(each, Param)]
            inputs = [each if isinstance(each, Ref) else type(each).__name__ for each in node.inputs]
            retry = {**named(node.step.retry), "exceptions": [each.__qualname__ for each in node.step.retry.exceptions]}
            return "call", node.id, node.step.name, inputs, names, retry
        case Map():
            options = (node.concurrency_limit, node.batch_size, node.direct_pass)
            return "map", node.id, node.over, options, _shape(node.body)
        case _:
            assert_never(node)


def _body_to_dict(graph: FlowGraph) -> dict[str, Any]:
    return {"nodes": [_node_to_dict(node) for node in graph.nodes], "output": _input_to_dict(graph.output, "")}


def _node_to_dict(node: Node) -> dict[str, Any]:
    match node:
        case Call():
            where = f"an argument of step {node.step.name!r}"
            return {
                "kind": "call",
                "id": node.id,
                "step": _step_to_dict(node.step),
                "inputs": [_input_to_dict(each, where) for each in node.inputs],
                "kwargs": {name: _input_to_dict(each, where) for name, each in node.kwargs.items()},
            }
        case Map():
            return {
                "kind": "map",
                "id": node.id,
                "over": _input_to_dict(node.over, ""),
                "concurrency_limit": node.concurrency_limit,
                "batch_size": node.batch_size,
                "direct_pass": node.direct_pass,
                "body": _body_to_dict(node.body),
            }
        case _:
            assert_never(node)


def _step_to_dict(step: Step) -> dict[str, Any]:
    exceptions = [f"{each.__module__}:{each.__qualname__}" for each in step.retry.exceptions]
    return {
        "name": step.name,
        "function": f"{step.fn.__module__}:{getattr(step.fn, '__qualname__', step.name)}",
        "retry": {**named(step.retry), "exceptions": exceptions},
        **named(step.resources),
    }


def _input_to_dict(value: Input, where: str) -> dict[str, Any]:
    match value:
        case Ref():
            return {"ref": [value.node, *value.path]}
        case Param():
            return {"param": value.name}
        case Const():
            return {"value": _values(value.value, where)}
        case _:
            assert_never(value)


def _values(value: Any, where: str) -> Any:
    try:
        return plain(dict(value) if isinstance(value, Mapping) else value)
    except TypeError as error:
        raise GraphTypeError(f"The graph cannot be written as JSON: in {where}, {error}.") from error


def _nodes_from(data: Mapping[str, Any], steps: Mapping[str, Any]) -> tuple[Node, ...]:
    return tuple(_node_from(each, steps) for each in data["nodes"])


def _node_from(data: Mapping[str, Any], steps: Mapping[str, Any]) -> Node:
    if data["kind"] == "call":
        kwargs = {key: _any_input_from(each) for key, each in data["kwargs"].items()}
        return Call(data["id"], _step_from(data["step"], steps), tuple(map(_any_input_from, data["inputs"])), kwargs)
    body = FlowGraph(data["id"], _nodes_from(data["body"], steps), _input_from(data["body"]["output"]))
    options = {name: data[name] for name in ("concurrency_limit", "batch_size", "direct_pass")}
    return Map(data["id"], _input_from(data["over"]), body, **options)


def _input_from(data: Mapping[str, Any]) -> Ref:
    node, *path = data["ref"]
    return Ref(node, tuple(path))


def _any_input_from(data: Mapping[str, Any]) -> Input:
    if "ref" in data:
        return _input_from(data)
    return Param(data["param"]) if "param" in data else Const(revive(data["value"]))


def _step_from(data: Mapping[str, Any], steps: Mapping[str, Any]) -> Step:
    found = steps.get(data["name"]) or locate(data["function"])
    fn = getattr(found, "fn", found)
    retry = {**data["retry"], "exceptions": tuple(map(locate, data["retry"]["exceptions"]))}
    resources = Resources(data["job_type"], data["vcpu"], data["memory_mb"], data["timeout_seconds"])
    return Step(fn, data["name"], RetryConfig(**retry), resources)


def _mermaid(graph: FlowGraph) -> Iterator[str]:
    for node in graph.nodes:
        match node:
            case Call():
                yield f'{_mermaid_id(node.id)}["{_mermaid_text(node.id)}"]'
            case Map():
                over = "the item" if node.over.node == ITEM else _mermaid_text(node.over.node)
                yield f'subgraph {_mermaid_id(node.id)}["each item of {over}"]'
                yield from (f"    {line}" for line in _mermaid(node.body))
                yield "end"
            case _:
                assert_never(node)
        for source in (ref.node for ref in _refs(node) if ref.node != ITEM):
            yield f"{_mermaid_id(source)} --> {_mermaid_id(node.id)}"


def _mermaid_id(id: str) -> str:  # noqa: A002 - it is an id
    return "n_" + "".join(each if each.isalnum() or each in "_-" else f"_{ord(each):x}_" for each in id)


def _mermaid_text(text: str) -> str:
    return text.replace('"', "#quot;")
