"""An execution as an SVG document, drawn like lokki's flows, with a colour for each status."""

from __future__ import annotations

from lokki.layout import Block, Thing, box, clean, document, heading, in_rows
from twingraph.errors import GraphError
from twingraph.executions.records import Node
from twingraph.graphs.run import RunGraph, instant, took

_MOST_NODES, _MOST_CROSSINGS = 2_000, 20_000
_LOOKS = {
    "completed": ("fill: #e8f6eb; stroke: #4f9d63", "fill: #173022; stroke: #4f9d63"),
    "cached": ("fill: #e9f1fd; stroke: #6c92cf", "fill: #18253a; stroke: #5579b5"),
    "failed": ("fill: #fdeaea; stroke: #c9504c", "fill: #3a1a1a; stroke: #c9504c"),
    "running": ("fill: #fff6e3; stroke: #b9852b", "fill: #33290f; stroke: #c9963d"),
    "other": ("fill: #f5f7fa; stroke: #8595a8", "fill: #222b35; stroke: #64768a"),
}


def svg(run: RunGraph) -> str:
    """The execution as a picture of its own, for light and dark pages."""
    follows = {child: [each for each in parents if each != child] for child, parents in run.follows().items()}
    nodes = _in_order(run, follows)
    _check(run, nodes, follows)
    told = run.execution
    notes = [told.id, " ".join([told.status, *([f"in {took(told.duration)}"] if told.duration is not None else [])])]
    if told.started_at is not None:
        notes.append(f"started {instant(told.started_at)}")
    things = [Thing(node.node_id, _box(node), follows[node.node_id]) for node in nodes]
    body = in_rows(things) if things else heading("", ["no node was run"])
    return document("twingraph-run", told.name, heading(clean(told.name), notes), body, _LOOKS)


def _box(node: Node) -> Block:
    kind = {"retrying": "running"}.get(node.status, node.status)
    note = " · ".join([node.status, *([took(node.duration)] if node.duration is not None else [])])
    return box(kind if kind in _LOOKS else "other", clean(node.node_id), note)


def _in_order(run: RunGraph, follows: dict[str, list[str]]) -> list[Node]:
    """The nodes with each after those that it follows, in whatever order they were recorded."""
    nodes = {node.node_id: node for node in run.nodes}
    ordered: dict[str, Node] = {}
    for start in nodes:
        waiting = [start]
        while waiting:
            node = waiting[-1]
            missing = [each for each in follows[node] if each not in ordered and each not in waiting]
            if missing:
                waiting.append(missing[0])
            else:
                ordered.setdefault(waiting.pop(), nodes[node])
    seen: set[str] = set()
    for node in ordered:  # a cycle, which only broken records have, is cut
        follows[node] = [each for each in follows[node] if each in seen]
        seen.add(node)
    return list(ordered.values())


def _check(run: RunGraph, nodes: list[Node], follows: dict[str, list[str]]) -> None:
    rank: dict[str, int] = {}
    crossings = 0
    for node in nodes:
        parents = follows[node.node_id]
        rank[node.node_id] = max((rank.get(each, 0) + 1 for each in parents), default=0)
        crossings += sum(rank[node.node_id] - rank.get(each, 0) - 1 for each in parents)
    if len(run.nodes) > _MOST_NODES or crossings > _MOST_CROSSINGS:
        raise GraphError(
            f"Execution {run.execution.id} has {len(run.nodes):,} nodes, too many for a picture: "
            "take the format graphml, which programs for large graphs read."
        )
