"""From a chain to a graph: walks back from the chain's end, gives every use of a step an id, checks its arguments."""

from __future__ import annotations

from lokki.binding import flow_parameters
from lokki.chain import MapBlock, StepNode
from lokki.graph import ITEM, Call, Const, FlowGraph, Input, Map, Node, Param, Ref


class Lowering:
    """Turns a chain into nodes, giving each a readable id of its own."""

    def __init__(self, parameters: tuple[str, ...]) -> None:
        self._parameters = parameters
        self._used: set[str] = set()
        self._last: dict[str, int] = {}  # by name, the number given last

    def chain(self, end: StepNode | MapBlock, entry: Ref | None) -> tuple[tuple[Node, ...], Ref]:
        """The nodes of the chain that ends here, fed by `entry`; and the last one's result."""
        nodes: list[Node] = []
        for link in _links(end):
            made = self._call(link, entry) if isinstance(link, StepNode) else self._map(link, entry)
            nodes.append(made)
            entry = Ref(made.id)
        assert entry is not None
        return tuple(nodes), entry

    def _call(self, node: StepNode, entry: Ref | None) -> Call:
        piped: tuple[Input, ...] = () if entry is None else (entry,)
        inputs = (*piped, *(Const(each) for each in node.args))
        received = flow_parameters(
            node.name,
            node.fn,
            positional=len(inputs),
            piped=entry is not None,
            keywords=node.kwargs,
            parameters=self._parameters,
        )
        given: dict[str, Input] = {name: Const(value) for name, value in node.kwargs.items()}
        return Call(self._id(node.name), node.step, inputs, {**given, **{name: Param(name) for name in received}})

    def _map(self, block: MapBlock, entry: Ref | None) -> Map:
        assert entry is not None
        id_ = self._id(f"{entry.node.lstrip('$')}-map")
        nodes: list[Node] = []
        item = Ref(ITEM)
        for each in block.body:
            made, item = self.chain(each, item)
            nodes.extend(made)
        body = FlowGraph(id_, tuple(nodes), item)
        return Map(id_, entry, body, block.concurrency_limit, block.batch_size, block.direct_pass)

    def _id(self, name: str) -> str:
        unique = name
        while unique in self._used:
            self._last[name] = number = self._last.get(name, 1) + 1
            unique = f"{name}-{number}"
        self._used.add(unique)
        return unique


def _links(end: StepNode | MapBlock) -> list[StepNode | MapBlock]:
    """The chain from its first step to `end`."""
    links: list[StepNode | MapBlock] = []
    here: StepNode | MapBlock | None = end
    while here is not None:
        links.append(here)
        here = here.source if isinstance(here, MapBlock) else here.after
    return links[::-1]
