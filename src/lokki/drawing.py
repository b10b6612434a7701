"""A flow as people look at it: `tree` for a terminal, `svg` for a page.

Both only read the graph. `layout` puts the picture together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from lokki.graph import ITEM, Call, FlowGraph, Map, Node, Ref, Step
from lokki.layout import LINE, PAD, Block, Thing, box, clean, document, heading, in_rows, placed, text_lines, text_width

_LONGEST_VALUE = 40
_ASCII = str.maketrans({"├": "|", "└": "`", "─": "-", "│": "|", "…": "..."})


def tree(graph: FlowGraph, *, unicode: bool = True) -> str:
    """The flow as indented lines; with `unicode=False`, in ASCII only."""
    parameters = ", ".join(_parameters(graph))
    notes = [*([parameters] if parameters else []), *_circumstances(graph)]
    text = "\n".join([clean(graph.name) + _in_brackets("  ", notes, "; "), *_branches(graph)])
    return text if unicode else text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def _branches(graph: FlowGraph) -> Iterator[str]:
    for at, node in enumerate(graph.nodes):
        last = at == len(graph.nodes) - 1
        space = " " if isinstance(node, Map) else "  "
        notes = _in_brackets(space, [*_notes(node), *_surprises(graph, at)], ", ")
        yield ("└─ " if last else "├─ ") + _title(node) + notes
        if isinstance(node, Map):
            yield from (("   " if last else "│  ") + line for line in _branches(node.body))


def _surprises(graph: FlowGraph, at: int) -> Iterator[str]:
    """What the order of the lines alone would say wrongly: whose result a node gets, and which one is the flow's."""
    node = graph.nodes[at]
    sources = [_source(ref) for ref in _refs(node)]
    before = [_source(Ref(graph.nodes[at - 1].id))] if at else []
    if isinstance(node, Call) and sources != before and (at or sources != [_source(Ref(ITEM))]):
        yield f"from {' and '.join(sources) or 'the start'}"
    if node.id == graph.output.node and at < len(graph.nodes) - 1:
        yield "the result"


def _title(node: Node) -> str:
    match node:
        case Call():
            return clean(node.id)
        case Map():
            return f"map over {_source(node.over)}"
        case _:
            assert_never(node)


def _notes(node: Node) -> tuple[str, ...]:
    match node:
        case Call():
            return tuple(_step_notes(node.step))
        case Map():
            return tuple(_map_notes(node))
        case _:
            assert_never(node)


def _step_notes(step: Step) -> Iterator[str]:
    retries, resources = step.retry.retries, step.resources
    if retries:
        yield f"{retries} {'retry' if retries == 1 else 'retries'}"
    if resources.job_type != "lambda":
        yield resources.job_type
    if resources.vcpu is not None:
        yield f"{resources.vcpu} vCPU"
    if resources.memory_mb is not None:
        yield f"{resources.memory_mb} MB"
    if resources.timeout_seconds is not None:
        yield f"at most {resources.timeout_seconds} s"


def _map_notes(node: Map) -> Iterator[str]:
    if node.concurrency_limit is not None:
        yield f"at most {node.concurrency_limit} at once"
    if node.batch_size > 1:
        yield f"{node.batch_size} per child"
    if node.direct_pass:
        yield "steps in one place"


def _parameters(graph: FlowGraph) -> list[str]:
    return [f"{clean(name)}={_shown(value)}" for name, value in graph.params.items()]


def _circumstances(graph: FlowGraph) -> Iterator[str]:
    if graph.schedule is not None:
        yield f"schedule {clean(graph.schedule)}"
    if graph.traced:
        yield "traced"


def _shown(value: Any) -> str:
    """The value on one short line, without the memory addresses that differ from run to run."""
    text = " ".join(clean(re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))).split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _source(ref: Ref) -> str:
    name = "the item" if ref.node == ITEM else clean(ref.node)
    return name + "".join(f"[{clean(repr(part))}]" for part in ref.path)


def _refs(node: Node) -> list[Ref]:
    match node:
        case Call():
            return [each for each in node.arguments() if isinstance(each, Ref)]
        case Map():
            return [node.over]
        case _:
            assert_never(node)


def _in_brackets(space: str, notes: Sequence[str], comma: str) -> str:
    return f"{space}({comma.join(notes)})" if notes else ""


_STACK = 5  # pixels between the two frames of a map


def svg(graph: FlowGraph) -> str:
    """The flow as an SVG document of its own, for light and dark pages; the same graph always gives the same text."""
    name = clean(graph.name)
    top = heading(name, [*_parameters(graph), *_circumstances(graph)])
    return document("lokki-flow", graph.name, top, _rows_block(graph))


def _rows_block(graph: FlowGraph) -> Block:
    return in_rows(
        [
            Thing(each.id, _node_block(each), [ref.node for ref in _refs(each) if ref.node != ITEM])
            for each in graph.nodes
        ]
    )


def _node_block(node: Node) -> Block:
    match node:
        case Call():
            return _step_block(node)
        case Map():
            return _map_block(node)
        case _:
            assert_never(node)


def _step_block(node: Call) -> Block:
    kind = "batch" if node.step.resources.job_type == "batch" else "step"
    return box(kind, _title(node), _listed(_notes(node)))


def _map_block(node: Map) -> Block:
    """The body in a frame, with the edge of a second frame behind it: there is one per item."""
    body, options = _rows_block(node.body), _listed(_notes(node))
    texts = [("name", _title(node)), *(("note", each) for each in [options] if each)]
    top = PAD // 2 + LINE * len(texts) + PAD
    width = max(body.width, text_width(_title(node), [options])) + 2 * PAD
    height = top + body.height + PAD
    frame = f'width="{width}" height="{height}" rx="10"/>'
    lines = (
        f'<rect class="frame" x="{_STACK}" y="{_STACK}" {frame}',
        f'<rect class="frame" {frame}',
        *text_lines(width // 2, texts, PAD // 2),
        *placed(body, (width - body.width) // 2, top),
    )
    return Block(width, height + _STACK, lines)


def _listed(notes: Sequence[str]) -> str:
    return " · ".join(notes)
