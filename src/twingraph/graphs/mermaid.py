"""An execution as a Mermaid flowchart: what GitHub and many wikis draw."""

from __future__ import annotations

from lokki.layout import clean
from twingraph.executions.records import Node
from twingraph.graphs.run import RunGraph, took

_COLOURS = {
    "completed": "#d8f0dd", "cached": "#dceaf8", "failed": "#f9d6d5", "skipped": "#eceff1", "stopped": "#eceff1",
    "running": "#fff2cc", "retrying": "#fff2cc", "pending": "#ffffff",
}  # fmt: skip


def mermaid(run: RunGraph) -> str:
    """The execution as a flowchart."""
    names = {node.node_id: f"n{at}" for at, node in enumerate(run.nodes)}
    lines = ["flowchart TD"]
    lines += [f'    {names[node.node_id]}["{_label(node)}"]:::{node.status}' for node in run.nodes]
    for child, parents in run.follows().items():
        lines += [f"    {names[parent]} --> {names[child]}" for parent in parents]
    used = {node.status for node in run.nodes}
    lines += [
        f"    classDef {status} fill:{colour},stroke:#66758a,color:#1c2530"
        for status, colour in _COLOURS.items()
        if status in used
    ]
    return "\n".join(lines) + "\n"


def _label(node: Node) -> str:
    text = "".join(each if each.isalnum() or each in " ._-/()" else f"#{ord(each)};" for each in clean(node.node_id))
    return f"{text}<br/>{node.status}{f' {took(node.duration)}' if node.duration is not None else ''}"
