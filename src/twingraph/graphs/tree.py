"""An execution as indented lines for a terminal; nested pipelines hold their calls."""

from __future__ import annotations

from collections.abc import Iterator

from lokki.layout import clean
from twingraph.executions.records import Node
from twingraph.graphs.run import RunGraph, took

_SIGNS = {
    "completed": "✓", "cached": "⟳", "failed": "✗", "skipped": "○", "stopped": "■", "running": "▶", "retrying": "▶",
    "pending": "·",
}  # fmt: skip
_ASCII = str.maketrans(dict(zip("├└─│·✓✗⟳○■▶", "|`-|.+x=o#>", strict=True)) | {"…": "..."})
_LONGEST = 100


def tree(run: RunGraph) -> str:
    """The execution as lines."""
    told = run.execution
    long = f" in {took(told.duration)}" if told.duration is not None else ""
    head = f"{clean(told.name)}  {told.id}  {told.status}{long}"
    return "\n".join([head, *_branches(run, "", run.follows(), _inside(run))])


def in_ascii(text: str) -> str:
    """A tree for terminals that know ASCII only."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def _inside(run: RunGraph) -> dict[str, list[Node]]:
    """The nodes by the node that they are part of; those whose pipeline is not here stand at the top."""
    known = {node.node_id for node in run.nodes}
    inside: dict[str, list[Node]] = {}
    for node in run.nodes:
        inside.setdefault(node.within if node.within in known and node.within != node.node_id else "", []).append(node)
    return inside


def _branches(
    run: RunGraph, within: str, follows: dict[str, list[str]], inside: dict[str, list[Node]]
) -> Iterator[str]:
    nodes = inside.get(within, [])
    for at, node in enumerate(nodes):
        last = at == len(nodes) - 1
        before = [nodes[at - 1].node_id] if at else []
        yield ("└─ " if last else "├─ ") + _line(node, follows[node.node_id], before, run.outside(node))
        yield from (("   " if last else "│  ") + line for line in _branches(run, node.node_id, follows, inside))


def _line(node: Node, follows: list[str], before: list[str], outside: list[str]) -> str:
    notes = [took(node.duration)] if node.duration is not None else [node.status]
    if node.platform not in ("", "local"):
        notes.append(node.platform)
    if node.attempts > 1:
        notes.append(f"{node.attempts} attempts")
    if node.status in ("cached", "skipped", "stopped"):
        notes.append(node.status)
    if follows != before or outside:
        parents = [*map(clean, follows), *(f"{each[:12]}…" for each in outside)]
        notes.append(f"after {_some(parents)}" if parents else "from the start")
    error = f"  {_short(node.error)}" if node.error else ""
    return f"{_SIGNS.get(node.status, '?')} {clean(node.node_id)}  ({', '.join(notes)}){error}"


def _some(parents: list[str]) -> str:
    shown = parents if len(parents) <= 4 else [*parents[:3], f"{len(parents) - 3} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _short(error: str) -> str:
    text = clean(error.strip().partition("\n")[0])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
