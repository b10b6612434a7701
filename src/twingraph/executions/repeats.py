"""What of an execution another one uses again: outputs of the nodes that are done and do not follow what is run anew.

What is run anew is what failed and, where a start is named, that, with all that follows. A node of a workflow is known
by its id. A call that a pipeline made, or a map, is known by its content: ids of such depend on what ran before.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twingraph.executions.records import Kept, Node
from twingraph.executions.repository import Repository
from twingraph.executions.snapshot import restored

_DONE = ("completed", "cached")


class Repeated:
    """The outputs of an execution that are used again; `load` gives the value of an object file."""

    def __init__(
        self, graph: Repository, load: Callable[[str], Any], execution: str, start: Sequence[str], by_id: bool
    ) -> None:
        self._load = load
        self._by_id: dict[str, Node] = {}
        self._by_content: dict[str, deque[Node]] = defaultdict(deque)
        nodes = graph.nodes(execution)
        anew = _anew(nodes, [(each.parent, each.child) for each in graph.edges(execution)], start)
        contents = {each.content_hash for each in nodes if each.node_id in anew and each.node_id in start}
        for each in nodes:
            if each.status not in _DONE or not each.reusable or each.node_id in anew:
                continue
            if by_id and not each.within:
                self._by_id[each.node_id] = each
            elif each.content_hash not in contents:
                self._by_content[each.content_hash].append(each)

    def __call__(self, node: str, within: str, content: str) -> Kept | None:
        """What a node gave then, where that is used again."""
        held = None if within else self._by_id.get(node)
        if held is None and self._by_content.get(content):
            several = self._by_content[content]
            held = several.popleft() if len(several) > 1 else several[0]
        if held is None:
            return None
        try:
            return Kept(restored(held.outputs, self._load), held.form)
        except Exception:  # noqa: BLE001 - values are made by their own types; what cannot be had again is run again
            return None


def _anew(nodes: Sequence[Node], edges: Iterable[tuple[str, str]], start: Sequence[str]) -> set[str]:
    """The ids of the nodes that are run again."""
    ids = {each.hash: each.node_id for each in nodes}
    around = {each.node_id: each.within for each in nodes}
    after: dict[str, list[str]] = defaultdict(list)
    for parent, child in edges:
        if parent in ids and child in ids:
            after[ids[parent]].append(ids[child])
    inner: dict[str, list[str]] = defaultdict(list)
    for each in nodes:
        if each.within:
            inner[each.within].append(each.node_id)
    found: set[str] = set()
    waiting = [*start, *(each.node_id for each in nodes if each.status not in _DONE)]
    whole = set(start)
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        waiting += after[node]
        if around.get(node):
            waiting.append(around[node])
        if node in whole:
            whole.update(inner[node])
            waiting += inner[node]
    return found
