"""A picture in rows, as an SVG document for light and dark pages: what `drawing` lays flows out with.

A thing stands below everything that it follows, and a line that passes a row on its way down gets a lane of its own in
it, so that no arrow runs through a box. Sizes come from the text, in cells of a monospaced font. Nothing in the picture
refers to anything outside of it, and the same things always give the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple, TypeAlias
from unicodedata import east_asian_width

from lokki.frozen import frozen

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

# Lengths in pixels. Every width is even, so that the middle of a thing is a whole number.
_NAME, _SMALL = 14, 12
LINE = 18
PAD = 14
_MARGIN = 24
_BETWEEN_ROWS = 34
_BESIDE = 28
_LANE = 8

LIGHT = {
    "back": "fill: #ffffff",
    "name": "fill: #1c2530",
    "note": "fill: #566472",
    "step": "fill: #f5f7fa; stroke: #8595a8",
    "batch": "fill: #fff6e3; stroke: #b9852b",
    "frame": "fill: #e9f1fd; stroke: #6c92cf",
    "line": "stroke: #66758a",
    "head": "fill: #66758a",
}
DARK = {
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
class Block:
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
    blocks: Mapping[_Key, Block]

    @property
    def width(self) -> int:
        return sum(self.blocks[key].width for key in self.keys) + _BESIDE * (len(self.keys) - 1)

    @property
    def height(self) -> int:
        return max(self.blocks[key].height for key in self.keys)


class Thing(NamedTuple):
    """What is placed: its name, how it looks, and the names of the things before it that it follows."""

    id: str
    block: Block
    follows: Sequence[str]


def document(kind: str, title: str, heading: Block, body: Block, looks: Mapping[str, tuple[str, str]] = {}) -> str:
    """The whole picture; `kind` is its class, `looks` are more of them: how each looks on light and on dark pages."""
    width = max(heading.width, body.width) + 2 * _MARGIN
    height = heading.height + body.height + 2 * _MARGIN
    size, view = f'width="{width}" height="{height}"', f'viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" {size} {view}>',
            f"  <title>{escape(clean(title))}</title>",
            *(f"  {line}" for line in _style(kind, looks)),
            f'  <rect class="back" {size} rx="10"/>',
            *placed(heading, (width - heading.width) // 2, _MARGIN),
            *placed(body, (width - body.width) // 2, _MARGIN + heading.height),
            "</svg>\n",
        ]
    )


def _style(kind: str, looks: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    light = LIGHT | {name: look[0] for name, look in looks.items()}
    dark = DARK | {name: look[1] for name, look in looks.items()}
    yield "<style>"
    yield f"  .{kind} text {{ font-family: {_FONT}; text-anchor: middle }}"
    yield f"  .{kind} .name {{ font-size: {_NAME}px }}"
    yield f"  .{kind} .note {{ font-size: {_SMALL}px }}"
    yield f"  .{kind} .flow {{ font-weight: bold }}"
    yield f"  .{kind} .line {{ fill: none; stroke-width: 1.5 }}"
    yield from (f"  .{kind} .{name} {{ {look} }}" for name, look in light.items())
    yield "  @media (prefers-color-scheme: dark) {"
    yield from (f"    .{kind} .{name} {{ {look} }}" for name, look in dark.items())
    yield "  }"
    yield "</style>"


def heading(name: str, notes: Sequence[str]) -> Block:
    """What stands above the picture."""
    width = text_width(name, notes)
    lines = text_lines(width // 2, [("name flow", name), *(("note", note) for note in notes)])
    return Block(width, LINE * (1 + len(notes)) + PAD, tuple(lines))


def box(kind: str, title: str, note: str) -> Block:
    """A thing that is a box with a name and a note."""
    width = text_width(title, [note]) + 2 * PAD
    texts = [("name", title), *(("note", each) for each in [note] if each)]
    height = LINE * len(texts) + PAD
    rect = f'<rect class="{kind}" width="{width}" height="{height}" rx="6"/>'
    return Block(width, height, (rect, *text_lines(width // 2, texts, PAD // 2)))


def in_rows(things: Sequence[Thing]) -> Block:
    """Things below what they follow, with arrows between them."""
    rows, links = _rows(things)
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
    return Block(width, top - _BETWEEN_ROWS, tuple(lines))


def _in_row(row: _Row, key: _Key, place: _Place) -> Iterator[str]:
    block = row.blocks[key]
    return placed(block, place[0] - block.width // 2, place[1])


def _rows(things: Sequence[Thing]) -> tuple[list[_Row], list[tuple[_Key, ...]]]:
    """The rows from the top, and each line as the places that it goes through."""
    rank: dict[str, int] = {}
    links: list[tuple[_Key, ...]] = []
    for id_, _, follows in things:
        sources = dict.fromkeys(follows)
        rank[id_] = max((rank[each] + 1 for each in sources), default=0)
        for each in sources:
            lanes = [(each, id_, row) for row in range(rank[each] + 1, rank[id_])]
            links.append((each, *lanes, id_))
    blocks: dict[_Key, Block] = {thing.id: thing.block for thing in things}
    levels: list[list[_Key]] = [[] for _ in range(max(rank.values()) + 1)]
    for id_, level in rank.items():
        levels[level].append(id_)
    for lane in (key for link in links for key in link[1:-1]):
        blocks[lane] = Block(_LANE, 0)
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


def text_lines(middle: int, texts: Sequence[tuple[str, str]], top: int = 0) -> Iterator[str]:
    """Texts below each other, each with its class."""
    for at, (kind, text) in enumerate(texts):
        yield f'<text class="{kind}" x="{middle}" y="{top + LINE * at + LINE - 5}">{escape(text)}</text>'


def text_width(title: str, notes: Sequence[str]) -> int:
    """How wide a name and notes are."""
    widths = [_cells(title) * _NAME, *(_cells(note) * _SMALL for note in notes)]
    return -(-max(widths) * 31 // 100) * 2  # a cell is at most 0.62 of the font size wide


def _cells(text: str) -> int:
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def placed(block: Block, x: int, y: int) -> Iterator[str]:
    """A block in its place."""
    if block.lines:
        yield f'<g transform="translate({x} {y})">'
        yield from (f"  {line}" for line in block.lines)
        yield "</g>"


def clean(text: str) -> str:
    """The text without what neither a terminal nor XML should get: control characters, halves of characters."""
    return "".join(each if each.isprintable() else " " if each.isspace() else _UNPRINTABLE for each in text)
