"""An execution with its nodes and edges, as every form of it needs them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from lokki.frozen import field, frozen
from twingraph.executions.records import Edge, Execution, Node

if TYPE_CHECKING:
    from twingraph.executions.repository import Repository


@frozen(eq=False)
class RunGraph:
    """One execution.

    Attributes:
        execution: what is recorded of it as a whole.
        nodes: its nodes, in the order in which they came to be.
        parents: for each node's hash the hashes that it follows, those of other executions too.
        contents: the content hashes of all nodes here and of those of other executions that these follow.
        sources: the texts of the nodes' code by its hash.
    """

    execution: Execution
    nodes: tuple[Node, ...]
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def ids(self) -> dict[str, str]:
        """The id of each node here by its hash."""
        return {node.hash: node.node_id for node in self.nodes}

    def follows(self) -> dict[str, list[str]]:
        """For each node's id the ids of the nodes here that it follows."""
        place = {node.hash: at for at, node in enumerate(self.nodes)}
        return {
            node.node_id: [
                self.nodes[at].node_id
                for at in sorted(place[each] for each in self.parents.get(node.hash, ()) if each in place)
            ]
            for node in self.nodes
        }

    def outside(self, node: Node) -> list[str]:
        """The hashes of other executions that a node follows."""
        return [each for each in self.parents.get(node.hash, ()) if each not in self.ids]


def load(graph: Repository, named: str) -> RunGraph:
    """The execution with this id, its unique beginning, or `latest`."""
    execution = graph.find(named)
    nodes = graph.nodes(execution.id)
    edges = graph.edges(execution.id)
    contents = {node.hash: node.content_hash for node in nodes}
    contents.update(graph.contents({edge.parent for edge in edges} - contents.keys()))
    sources = graph.sources({node.code_hash for node in nodes})
    return RunGraph(execution, tuple(nodes), _by_child(edges), contents, sources)


def _by_child(edges: list[Edge]) -> dict[str, tuple[str, ...]]:
    parents: dict[str, list[str]] = {}
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge.parent)
    return {child: tuple(found) for child, found in parents.items()}


def instant(seconds: float | None) -> str | None:
    """A time as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def took(seconds: float | None) -> str:
    """A duration as people read it."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
