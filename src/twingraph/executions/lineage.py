"""What led to a call, and what it led to, across executions: edges followed from hash to hash in the database.

A walk begins with the hashes of some nodes and finds all that are reached, up to a limit. What that costs depends on
how much is reached, not on how many nodes there are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import and_, literal, select

from lokki.frozen import frozen
from twingraph.errors import GraphError
from twingraph.executions import schema
from twingraph.executions.records import Edge, Node
from twingraph.executions.repository import Repository

UP, DOWN = "up", "down"
_AT_ONCE = 500
_STRIDE = 12  # edges that one query follows, where their number is limited
_MOST = 1_000  # nodes that a walk begins with


@frozen
class Relative:
    """A node that was reached: `distance` edges away, 0 for those that the walk began with.

    `node` is None for a hash that an edge leads to and that was never recorded.
    """

    hash: str
    distance: int
    node: Node | None


@frozen
class Lineage:
    """What was reached from some nodes.

    Attributes:
        relatives: the nodes that the walk began with, then all that were reached, nearest first.
        edges: the edges between them.
        complete: whether nothing was left out at the limit.
    """

    relatives: tuple[Relative, ...]
    edges: tuple[Edge, ...]
    complete: bool = True


def starting(graph: Repository, named: str, same_content: bool = False) -> list[Node]:
    """The nodes that a text names: `EXECUTION/NODE`, a hash, a content hash, the digest of a value, or their beginning.

    With `same_content`, also all others of the same content: the same code, inputs and parents.
    """
    run, slash, node = named.partition("/")
    found = [graph.node(graph.find(run).id, node)] if slash else _with_hash(graph, named)
    contents = {each.content_hash for each in found} - {""}
    if same_content and contents:
        column = schema.nodes.c.content_hash
        others = graph.read(
            select(schema.nodes).where(column.in_(sorted(contents))).order_by(schema.nodes.c.key).limit(_MOST)
        )
        known = {each.key for each in found}
        found += [Node(*row) for row in others if row[0] not in known]
    return found


def makers(graph: Repository, digest: str) -> list[Node]:
    """The nodes that made the value with this digest."""
    made = schema.values
    query = select(schema.nodes).join(made, made.c.hash == schema.nodes.c.hash).where(made.c.digest == digest)
    return list({row[0]: Node(*row) for row in graph.read(query.order_by(schema.nodes.c.key))}.values())


def lineage(
    graph: Repository, start: Sequence[Node], direction: str = UP, depth: int | None = None, limit: int = 10_000
) -> Lineage:
    """All that led to these nodes (`up`) or that they led to (`down`), at most `depth` edges away."""
    hashes = [each.hash for each in start]
    if not hashes or depth == 0:
        return Lineage(tuple(Relative(each.hash, 0, each) for each in start), ())
    edges = _met(graph, hashes, direction, depth, limit + 1)
    complete = len(edges) <= limit
    edges = edges[:limit]
    distances = _distances(hashes, edges, direction)
    nodes = {each.hash: each for each in (*_nodes(graph, [h for h in distances if h not in hashes]), *start)}
    relatives = [Relative(each, distance, nodes.get(each)) for each, distance in distances.items()]
    relatives.sort(key=lambda each: (each.distance, each.node.key if each.node else sys.maxsize))
    return Lineage(tuple(relatives), tuple(edges), complete)


def _met(graph: Repository, hashes: Sequence[str], direction: str, depth: int | None, limit: int) -> list[Edge]:
    """The edges that are met from some hashes on, so many of them at most.

    A walk that counts its steps meets a node anew at each distance from which it is reached, so a long one is made in
    strides, and only those who stand at the end of a stride make the next.
    """
    if depth is None:
        return list(dict.fromkeys(Edge(*row) for row in graph.read(_walk(hashes, direction, None).limit(limit))))
    edges: dict[Edge, None] = {}
    near, known = list(hashes), set(hashes)
    while near and depth > 0 and len(edges) < limit:
        stride = min(depth, _STRIDE)
        new = [Edge(*row) for row in graph.read(_walk(near, direction, stride).limit(limit))]
        edges |= dict.fromkeys(new)
        distances = _distances(near, new, direction)
        near = [each for each, distance in distances.items() if distance == stride and each not in known]
        known |= distances.keys()
        depth -= stride
    return list(edges)[:limit]


def _walk(hashes: Sequence[str], direction: str, depth: int | None) -> Any:
    """The edges that are met from some hashes on, nearest first."""
    edge = schema.edges
    near, far = (edge.c.child, edge.c.parent) if direction == UP else (edge.c.parent, edge.c.child)
    if depth is None:
        reached = select(far.label("hash")).where(near.in_(hashes)).cte("reached", recursive=True)
        reached = reached.union(select(far).join(reached, near == reached.c.hash))
        begun = select(edge.c.child, edge.c.parent).where(near.in_(hashes))
        return begun.union_all(select(edge.c.child, edge.c.parent).join(reached, near == reached.c.hash))
    first = select(far.label("hash"), literal(1).label("distance")).where(near.in_(hashes))
    walked = first.cte("reached", recursive=True)
    further = select(far, walked.c.distance + 1).join(walked, near == walked.c.hash)
    walked = walked.union(further.where(walked.c.distance < depth))
    begun = select(edge.c.child, edge.c.parent).where(near.in_(hashes))
    beyond = select(edge.c.child, edge.c.parent).join(walked, near == walked.c.hash).where(walked.c.distance < depth)
    return begun.union_all(beyond)


def _distances(hashes: Sequence[str], edges: Sequence[Edge], direction: str) -> dict[str, int]:
    """How far each hash is from where the walk began, nearest first."""
    onward: dict[str, list[str]] = {}
    for edge in edges:
        near, far = (edge.child, edge.parent) if direction == UP else (edge.parent, edge.child)
        onward.setdefault(near, []).append(far)
    distances = dict.fromkeys(hashes, 0)
    row = list(distances)
    while row:
        after = []
        for each in row:
            for far in onward.get(each, ()):
                if far not in distances:
                    distances[far] = distances[each] + 1
                    after.append(far)
        row = after
    return distances


def _nodes(graph: Repository, hashes: Sequence[str]) -> Iterator[Node]:
    for start in range(0, len(hashes), _AT_ONCE):
        query = select(schema.nodes).where(schema.nodes.c.hash.in_(hashes[start : start + _AT_ONCE]))
        yield from (Node(*row) for row in graph.read(query.order_by(schema.nodes.c.key)))


def _with_hash(graph: Repository, named: str) -> list[Node]:
    """Nodes by a hash of theirs, or of a value that they made, or its beginning."""
    if len(named) < 4 or not set(named) <= set("0123456789abcdef"):
        raise GraphError(f"{named!r} is no hash: write at least four hexadecimal digits of one, or EXECUTION/NODE.")
    for column in (schema.nodes.c.hash, schema.nodes.c.content_hash):
        if known := _completed(graph, column, named):
            rows = graph.read(select(schema.nodes).where(column == known).order_by(schema.nodes.c.key).limit(_MOST))
            return [Node(*row) for row in rows]
    if known := _completed(graph, schema.values.c.digest, named):
        return makers(graph, known)
    raise GraphError(f"No node and no value with the hash {named!r} is recorded here.")


def _completed(graph: Repository, column: Any, begins: str) -> str:
    """The whole hash that begins so; empty when there is none."""
    query = select(column).where(and_(column >= begins, column < begins + "g")).group_by(column).limit(2)
    found = [str(row[0]) for row in graph.read(query)]
    if len(found) > 1:
        raise GraphError(f"Several hashes begin with {begins!r}: write more of it.")
    return found[0] if found else ""
