"""What differs between two executions, and where it begins.

Nodes with the same id are compared by content: the hash of code, inputs and the content of parents. Where that differs,
the parts say why; the first node that differs although its parents do not is where the difference comes from.
"""

from __future__ import annotations

from typing import NamedTuple

from lokki.frozen import frozen
from twingraph.executions.records import Node
from twingraph.graphs.run import RunGraph

CODE, INPUTS, PARENTS, OUTPUTS, STATUS = "code", "inputs", "parents", "outputs", "status"
ONLY_FIRST, ONLY_SECOND = "only in the first", "only in the second"


class Difference(NamedTuple):
    """One node that differs.

    `reasons` are what is different: "code", "inputs", "parents" (what it follows differs), "outputs" (although all else
    is the same), "status", "only in the first" or "only in the second". `origin` says that no parent differs.
    """

    node: str
    reasons: tuple[str, ...]
    origin: bool
    first: Node | None
    second: Node | None


@frozen
class Comparison:
    """Two executions, node by node.

    Attributes:
        same: how many nodes are the same in both.
        differences: the others, in the order of the second execution; what only the first has comes last.
    """

    same: int
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """Where the difference begins: the first node that differs and follows no other that does."""
        return next((each for each in self.differences if each.origin), None)


def compare(one: RunGraph, other: RunGraph) -> Comparison:
    """What differs between two executions."""
    before = {node.node_id: node for node in one.nodes}
    after = {node.node_id: node for node in other.nodes}
    follows = {**one.follows(), **other.follows()}
    found: dict[str, Difference] = {}
    for node in [*after, *(each for each in before if each not in after)]:
        reasons = _reasons(one, other, before.get(node), after.get(node))
        if reasons:
            origin = PARENTS not in reasons and not any(each in found for each in follows[node])
            found[node] = Difference(node, reasons, origin, before.get(node), after.get(node))
    return Comparison(len({**before, **after}) - len(found), tuple(found.values()))


def _reasons(one: RunGraph, other: RunGraph, first: Node | None, second: Node | None) -> tuple[str, ...]:
    if first is None:
        return (ONLY_SECOND,)
    if second is None:
        return (ONLY_FIRST,)
    reasons = []
    if first.content_hash != second.content_hash:
        parts = {
            CODE: first.code_hash != second.code_hash,
            PARENTS: _contents(one, first) != _contents(other, second),
            INPUTS: first.inputs != second.inputs,
        }
        reasons = [part for part, differs in parts.items() if differs] or [INPUTS]
    elif first.outputs != second.outputs and first.status == second.status:
        reasons = [OUTPUTS]
    if _ended(first) != _ended(second):
        reasons.append(STATUS)
    return tuple(reasons)


def _ended(node: Node) -> str:
    return "completed" if node.status == "cached" else node.status


def _contents(run: RunGraph, node: Node) -> list[str]:
    """What the parents of a node are, whichever execution they are of."""
    return sorted(run.contents.get(each) or each for each in run.parents.get(node.hash, ()))
