"""A flow as people look at it: `tree` for a terminal, `svg` for a page.

Both only read the graph. The picture is laid out in rows: a node stands below everything whose result it uses, and a
line that passes a row on its way down gets a lane of its own in it, so that no arrow runs through a box. Sizes come
from the text, in cells of a monospaced font. Nothing in the picture refers to anything outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, TypeAlias, assert_never
from unicodedata import east_asian_width

from lokki.frozen import frozen
from lokki.graph import ITEM, Call, FlowGraph, Map, Node, Ref, Step

_LONGEST_VALUE = 40
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_ASCII = str.maketrans({"├": "|", "└": "`", "─": "-", "│": "|", "…": "..."})


def tree(graph: FlowGraph, *, unicode: bool = True) -> str:
    """The flow as indented lines; with `unicode=False`, in ASCII only."""
    parameters = ", ".join(_parameters(graph))
    notes = [*([parameters] if parameters else []), *_circumstances(graph)]
    text = "\n".join([_clean(graph.name) + _in_brackets("  ", notes, "; "), *_branches(graph)])
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
            return _clean(node.id)
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
    return [f"{_clean(name)}={_shown(value)}" for name, value in graph.params.items()]


def _circumstances(graph: FlowGraph) -> Iterator[str]:
    if graph.schedule is not None:
        yield f"schedule {_clean(graph.schedule)}"
    if graph.traced:
        yield "traced"


def _shown(value: Any) -> str:
    """The value on one short line, without the memory addresses that differ from run to run."""
    text = " ".join(_clean(re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))).split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _source(ref: Ref) -> str:
    name = "the item" if ref.node == ITEM else _clean(ref.node)
    return name + "".join(f"[{_clean(repr(part))}]" for part in ref.path)


def _refs(node: Node) -> list[Ref]:
    match node:
        case Call():
            return [each for each in node.arguments() if isinstance(each, Ref)]
        case Map():
            return [node.over]
        case _:
            assert_never(node)


def _clean(text: str) -> str:
    """The text without what neither a terminal nor XML should get: control characters, halves of characters."""
    return "".join(each if each.isprintable() else " " if each.isspace() else _UNPRINTABLE for each in text)


def _in_brackets(space: str, notes: Sequence[str], comma: str) -> str:
    return f"{space}({comma.join(notes)})" if notes else ""


# Lengths in pixels. Every width is even, so that the middle of a thing is a whole number.
_NAME, _SMALL = 14, 12
_LINE = 18
_PAD = 14
_MARGIN = 24
_BETWEEN_ROWS = 34
_BESIDE = 28
_LANE = 8
_STACK = 5

_LIGHT = {
    "back": "fill: #ffffff",
    "name": "fill: #1c2530",
    "note": "fill: #566472",
    "step": "fill: #f5f7fa; stroke: #8595a8",
    "batch": "fill: #fff6e3; stroke: #b9852b",
    "frame": "fill: #e9f1fd; stroke: #6c92cf",
    "line": "stroke: #66758a",
    "head": "fill: #66758a",
}
_DARK = {
    "back": "fill: #14191f",
    "name": "fill: #e7ecf1",
    "note": "fill: #9fadbb",
    "step": "fill: #222b35; stroke: #64768a",
    "batch": "fill: #33290f; stroke: #c9963d",
    "frame": "fill: #18253a; stroke: #5579b5",
    "line": "stroke: #93a1b2",
    "head": "fill: #93a1b2",
}
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@frozen
class _Block:
    """A finished part of the picture, drawn from its own top left corner."""

    width: int
    height: int
    lines: tuple[str, ...] = ()


_Key: TypeAlias = str | tuple[str, str, int]
"""A node by its id, or the lane of the line (from, to) through a row."""
_Place: TypeAlias = tuple[int, int]


@frozen
class _Row:
    """Nodes and lanes side by side."""

    keys: tuple[_Key, ...]
    blocks: Mapping[_Key, _Block]

    @property
    def width(self) -> int:
        return sum(self.blocks[key].width for key in self.keys) + _BESIDE * (len(self.keys) - 1)

    @property
    def height(self) -> int:
        return max(self.blocks[key].height for key in self.keys)


def svg(graph: FlowGraph) -> str:
    """The flow as an SVG document of its own, for light and dark pages; the same graph always gives the same text."""
    heading, body = _heading(graph), _rows_block(graph)
    width = max(heading.width, body.width) + 2 * _MARGIN
    height = heading.height + body.height + 2 * _MARGIN
    size, view = f'width="{width}" height="{height}"', f'viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lokki-flow" role="img" {size} {view}>',
            f"  <title>{escape(_clean(graph.name))}</title>",
            *(f"  {line}" for line in _style()),
            f'  <rect class="back" {size} rx="10"/>',
            *_placed(heading, (width - heading.width) // 2, _MARGIN),
            *_placed(body, (width - body.width) // 2, _MARGIN + heading.height),
            "</svg>\n",
        ]
    )


def _style() -> Iterator[str]:
    yield "<style>"
    yield f"  .lokki-flow text {{ font-family: {_FONT}; text-anchor: middle }}"
    yield f"  .lokki-flow .name {{ font-size: {_NAME}px }}"
    yield f"  .lokki-flow .note {{ font-size: {_SMALL}px }}"
    yield "  .lokki-flow .flow { font-weight: bold }"
    yield "  .lokki-flow .line { fill: none; stroke-width: 1.5 }"
    yield from (f"  .lokki-flow .{name} {{ {look} }}" for name, look in _LIGHT.items())
    yield "  @media (prefers-color-scheme: dark) {"
    yield from (f"    .lokki-flow .{name} {{ {look} }}" for name, look in _DARK.items())
    yield "  }"
    yield "</style>"


def _heading(graph: FlowGraph) -> _Block:
    name = _clean(graph.name)
    notes = [*_parameters(graph), *_circumstances(graph)]
    width = _text_width(name, notes)
    lines = _text_lines(width // 2, [("name flow", name), *(("note", note) for note in notes)])
    return _Block(width, _LINE * (1 + len(notes)) + _PAD, tuple(lines))


def _node_block(node: Node) -> _Block:
    match node:
        case Call():
            return _step_block(node)
        case Map():
            return _map_block(node)
        case _:
            assert_never(node)


def _step_block(node: Call) -> _Block:
    title, notes = _title(node), _notes(node)
    width = _text_width(title, [_listed(notes)]) + 2 * _PAD
    texts = [("name", title), *(("note", each) for each in [_listed(notes)] if each)]
    height = _LINE * len(texts) + _PAD
    kind = "batch" if node.step.resources.job_type == "batch" else "step"
    box = f'<rect class="{kind}" width="{width}" height="{height}" rx="6"/>'
    return _Block(width, height, (box, *_text_lines(width // 2, texts, _PAD // 2)))


def _map_block(node: Map) -> _Block:
    """The body in a frame, with the edge of a second frame behind it: there is one per item."""
    body, options = _rows_block(node.body), _listed(_notes(node))
    texts = [("name", _title(node)), *(("note", each) for each in [options] if each)]
    top = _PAD // 2 + _LINE * len(texts) + _PAD
    width = max(body.width, _text_width(_title(node), [options])) + 2 * _PAD
    height = top + body.height + _PAD
    frame = f'width="{width}" height="{height}" rx="10"/>'
    lines = (
        f'<rect class="frame" x="{_STACK}" y="{_STACK}" {frame}',
        f'<rect class="frame" {frame}',
        *_text_lines(width // 2, texts, _PAD // 2),
        *_placed(body, (width - body.width) // 2, top),
    )
    return _Block(width, height + _STACK, lines)


def _rows_block(graph: FlowGraph) -> _Block:
    rows, links = _rows(graph)
    width = max(row.width for row in rows)
    places: dict[_Key, _Place] = {}
    tops, top = [], 0
    for row in rows:
        left = (width - row.width) // 2
        for key in row.keys:
            places[key] = (left + row.blocks[key].width // 2, top)
            left += row.blocks[key].width + _BESIDE
        tops.append(top)
        top += row.height + _BETWEEN_ROWS
    lines = [line for row in rows for key in row.keys for line in _in_row(row, key, places[key])]
    for link in links:
        start = rows[tops.index(places[link[0]][1])].blocks[link[0]].height
        lines.extend(_arrow([places[key] for key in link], start, rows, tops))
    return _Block(width, top - _BETWEEN_ROWS, tuple(lines))


def _in_row(row: _Row, key: _Key, place: _Place) -> Iterator[str]:
    block = row.blocks[key]
    return _placed(block, place[0] - block.width // 2, place[1])


def _rows(graph: FlowGraph) -> tuple[list[_Row], list[tuple[_Key, ...]]]:
    """The rows from the top, and each line as the places that it goes through."""
    rank: dict[str, int] = {}
    links: list[tuple[_Key, ...]] = []
    for node in graph.nodes:
        sources = dict.fromkeys(ref.node for ref in _refs(node) if ref.node != ITEM)
        rank[node.id] = max((rank[each] + 1 for each in sources), default=0)
        for each in sources:
            lanes = [(each, node.id, row) for row in range(rank[each] + 1, rank[node.id])]
            links.append((each, *lanes, node.id))
    blocks: dict[_Key, _Block] = {node.id: _node_block(node) for node in graph.nodes}
    levels: list[list[_Key]] = [[] for _ in range(max(rank.values()) + 1)]
    for id_, level in rank.items():
        levels[level].append(id_)
    for lane in (key for link in links for key in link[1:-1]):
        blocks[lane] = _Block(_LANE, 0)
        levels[int(lane[2])].append(lane)
    return [_Row(tuple(keys), blocks) for keys in _untangled(levels, links)], links


def _untangled(levels: list[list[_Key]], links: Sequence[tuple[_Key, ...]]) -> Iterator[list[_Key]]:
    """Each row in the order of what it hangs on, which keeps most lines from crossing."""
    above: dict[_Key, list[_Key]] = {}
    for link in links:
        for upper, lower in pairwise(link):
            above.setdefault(lower, []).append(upper)
    position: dict[_Key, float] = {}
    for keys in levels:
        wished = {key: sum(position[each] for each in above.get(key, [])) / len(above.get(key, [0])) for key in keys}
        ordered = sorted(keys, key=wished.__getitem__)
        position.update({key: at - (len(ordered) - 1) / 2 for at, key in enumerate(ordered)})
        yield ordered


def _arrow(places: Sequence[_Place], start: int, rows: Sequence[_Row], tops: Sequence[int]) -> Iterator[str]:
    """A line down through `places`, from `start` below the first: straight within a row, bent between two."""
    (x, y), *rest = places
    path = f"M{x} {y + start}"
    for to_x, to_y in rest:
        at = tops.index(to_y) - 1
        bottom, middle = tops[at] + rows[at].height, to_y - _BETWEEN_ROWS // 2
        path += f"V{to_y}" if to_x == x else f"V{bottom}C{x} {middle} {to_x} {middle} {to_x} {to_y}"
        x, y = to_x, to_y
    yield f'<path class="line" d="{path}"/>'
    yield f'<path class="head" d="M{x - 4} {y - 8}h8l-4 8z"/>'


def _text_lines(middle: int, texts: Sequence[tuple[str, str]], top: int = 0) -> Iterator[str]:
    for at, (kind, text) in enumerate(texts):
        yield f'<text class="{kind}" x="{middle}" y="{top + _LINE * at + _LINE - 5}">{escape(text)}</text>'


def _text_width(title: str, notes: Sequence[str]) -> int:
    widths = [_cells(title) * _NAME, *(_cells(note) * _SMALL for note in notes)]
    return -(-max(widths) * 31 // 100) * 2  # a cell is at most 0.62 of the font size wide


def _cells(text: str) -> int:
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def _listed(notes: Sequence[str]) -> str:
    return " · ".join(notes)


def _placed(block: _Block, x: int, y: int) -> Iterator[str]:
    if block.lines:
        yield f'<g transform="translate({x} {y})">'
        yield from (f"  {line}" for line in block.lines)
        yield "</g>"
