"""An execution as GraphML, for Gephi, yEd, NetworkX and the like."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from lokki.layout import clean
from twingraph.executions.records import Node, parsed
from twingraph.graphs.run import RunGraph, instant

_KEYS = {
    "component": "string", "status": "string", "platform": "string", "kind": "string", "within": "string",
    "hash": "string", "content_hash": "string", "started_at": "string", "completed_at": "string",
    "duration": "double", "attempts": "int", "error": "string", "labels": "string",
}  # fmt: skip


def graphml(run: RunGraph) -> str:
    """The execution as a document; what other executions made is there as nodes without more than their hash."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: RunGraph) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    for name, kind in _KEYS.items():
        yield f'  <key id="{name}" for="node" attr.name="{name}" attr.type="{kind}"/>'
    yield f'  <graph id={_attribute(run.execution.id)} edgedefault="directed">'
    names = {node.hash: node.node_id for node in run.nodes}
    outside = dict.fromkeys(each for node in run.nodes for each in run.outside(node))
    for node in run.nodes:
        yield f"    <node id={_attribute(node.node_id)}>"
        yield from (f'      <data key="{name}">{escape(clean(text))}</data>' for name, text in _data(node))
        yield "    </node>"
    for each in outside:
        yield f'    <node id={_attribute(each)}><data key="hash">{escape(clean(each))}</data></node>'
    for node in run.nodes:
        for parent in run.parents.get(node.hash, ()):
            ends = f"source={_attribute(names.get(parent, parent))} target={_attribute(node.node_id)}"
            yield f"    <edge {ends}/>"
    yield "  </graph>"
    yield "</graphml>"


def _data(node: Node) -> Iterator[tuple[str, str]]:
    told = {
        **{name: getattr(node, name, None) for name in _KEYS},
        "started_at": instant(node.started_at),
        "completed_at": instant(node.finished_at),
        "labels": ", ".join(f"{key}={value}" for key, value in parsed(node.labels).items()),
    }
    return ((name, str(value)) for name, value in told.items() if value not in (None, ""))


def _attribute(text: str) -> str:
    return quoteattr(clean(text))
