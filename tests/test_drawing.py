"""A flow as lines in a terminal and as a picture: what both show, and that the picture can be read anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from lokki.decorators import StepNode, flow, step
from lokki.drawing import svg, tree
from lokki.graph import ITEM, Call, FlowGraph, Map, Node, Ref


@step
def get_birds() -> Any: ...


@step
def flap_bird(bird: Any) -> Any: ...


@step
def join_birds(birds: Any) -> Any: ...


@step(retry={"retries": 3}, job_type="batch", vcpu=4, memory_mb=8192)
def fetch(url: Any) -> Any: ...


@step(retry={"retries": 1}, timeout_seconds=60)
def measure(value: Any) -> Any: ...


@flow
def birds_flow() -> StepNode:
    return get_birds().map(flap_bird, concurrency_limit=10, batch_size=7).agg(join_birds)


@flow(schedule="cron(0 12 * * ? *)")
def weather_flow(start: str = "<today & on>", days: int = 3) -> StepNode:
    inner = flap_bird.map([fetch, measure], 5).agg(join_birds)
    return get_birds().map(inner, direct_pass=True).agg(measure).next(measure)


@flow
def open_flow() -> Any:
    return get_birds().map(flap_bird)


def call(name: str, *inputs: Ref, **kwargs: Ref) -> Call:
    return Call(name, replace(get_birds.step, name=name), inputs, kwargs)


def by_hand(*nodes: Node, **attributes: Any) -> FlowGraph:
    return FlowGraph(**{"name": "by-hand", "nodes": nodes, "output": Ref(nodes[-1].id), **attributes})


def body(*nodes: Node) -> FlowGraph:
    return FlowGraph("body", nodes, Ref(nodes[-1].id))


REPORT = by_hand(
    call("orders"),
    call("customers"),
    call("clean", Ref("orders")),
    call("summary", Ref("clean")),
    Map("rows", Ref("clean", ("rows", 0)), body(call("score", Ref(ITEM)), call("rank", Ref("score"), of=Ref(ITEM)))),
    call("report", Ref("rows"), customers=Ref("customers"), orders=Ref("orders")),
    call("log", Ref("report")),
    output=Ref("report"),
    traced=True,
)


def chain(length: int) -> FlowGraph:
    return by_hand(call("step_0"), *(call(f"step_{at}", Ref(f"step_{at - 1}")) for at in range(1, length)))


@pytest.mark.parametrize(
    ("graph", "lines"),
    [
        (
            birds_flow(),
            """
            birds-flow
            ├─ get_birds
            ├─ map over get_birds (at most 10 at once, 7 per child)
            │  └─ flap_bird
            └─ join_birds
            """,
        ),
        (
            weather_flow(),
            """
            weather-flow  (start='<today & on>', days=3; schedule cron(0 12 * * ? *))
            ├─ get_birds
            ├─ map over get_birds (steps in one place)
            │  ├─ flap_bird
            │  ├─ map over flap_bird (at most 5 at once)
            │  │  ├─ fetch  (3 retries, batch, 4 vCPU, 8192 MB)
            │  │  └─ measure  (1 retry, at most 60 s)
            │  └─ join_birds
            ├─ measure-2  (1 retry, at most 60 s)
            └─ measure-3  (1 retry, at most 60 s)
            """,
        ),
        (
            open_flow(),
            """
            open-flow
            ├─ get_birds
            └─ map over get_birds
               └─ flap_bird
            """,
        ),
        (
            REPORT,
            """
            by-hand  (traced)
            ├─ orders
            ├─ customers  (from the start)
            ├─ clean  (from orders)
            ├─ summary
            ├─ map over clean['rows'][0]
            │  ├─ score
            │  └─ rank  (from score and the item)
            ├─ report  (from rows and customers and orders, the result)
            └─ log
            """,
        ),
        (
            by_hand(Map("m", Ref(ITEM), body(call("free"))), call("end", Ref("m", ("x",)))),
            """
            by-hand
            ├─ map over the item
            │  └─ free
            └─ end  (from m['x'])
            """,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, FlowGraph) else "",
)
def test_a_flow_is_shown_as_a_tree(graph: FlowGraph, lines: str) -> None:
    assert tree(graph).splitlines() == [line[12:] for line in lines.splitlines()[1:-1]]


def test_a_tree_can_be_drawn_in_ascii() -> None:
    graph = replace(open_flow(), name="vögel-flow", params={"names": "goose, " * 9})
    assert tree(graph, unicode=False).splitlines() == [
        r"v\xf6gel-flow  (names='goose, goose, goose, goose, goose, goo...)",
        "|- get_birds",
        "`- map over get_birds",
        "   `- flap_bird",
    ]


class Client:
    """Has the representation that every object has."""


@dataclass
class Table:
    rows: str = "1 2\n3 4"

    def __repr__(self) -> str:
        return f"Table\n{self.rows}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb", r"'a\nb'"),
        (Client(), f"<{__name__}.Client object>"),
        (Table(), "Table 1 2 3 4"),
        (Table("\x1b[31mred"), "Table �[31mred"),
        ("x" * 38, f"'{'x' * 38}'"),
        ("x" * 39, f"'{'x' * 38}…"),
    ],
)
def test_a_parameter_is_shown_on_one_short_line(value: Any, shown: str) -> None:
    graph = replace(birds_flow(), params={"it": value})
    assert tree(graph).splitlines()[0] == f"birds-flow  (it={shown})"
    assert f"it={shown}" in list(texts(ET.fromstring(svg(graph))))


# The picture. Its parts are found by their class, and placed by adding up the groups that they are in.

SVG = "{http://www.w3.org/2000/svg}"


def texts(root: ET.Element) -> Iterator[str]:
    for element in root.iter(f"{SVG}text"):
        yield element.text or ""


@dataclass(frozen=True)
class Box:
    kind: str
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def touches(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def boxes(element: ET.Element, x: float = 0, y: float = 0) -> Iterator[Box]:
    """The rectangles of the picture, outer before inner, and a box for each text."""
    if move := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
        x, y = x + float(move[1]), y + float(move[2])
    if element.tag == f"{SVG}rect":
        left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
        yield Box(
            element.attrib["class"],
            left,
            top,
            left + float(element.attrib["width"]),
            top + float(element.attrib["height"]),
        )
    if element.tag == f"{SVG}text":
        half = len(element.text or "") * (8.4 if "name" in element.attrib["class"] else 7.2) / 2
        middle, base = x + float(element.attrib["x"]), y + float(element.attrib["y"])
        yield Box("text", middle - half, base - 11, middle + half, base + 3)
    for inner in element:
        yield from boxes(inner, x, y)


def lines(element: ET.Element, x: float = 0, y: float = 0) -> Iterator[tuple[tuple[float, float], ...]]:
    """The points that each arrow goes through."""
    if move := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
        x, y = x + float(move[1]), y + float(move[2])
    if element.get("class") == "line":
        yield tuple(points(element.attrib["d"], x, y))
    for inner in element:
        yield from lines(inner, x, y)


def points(path: str, x: float, y: float) -> Iterator[tuple[float, float]]:
    at = (0.0, 0.0)
    for letter, rest in re.findall(r"([MVC])([^MVC]*)", path):
        numbers = [float(number) for number in rest.split()]
        at = (at[0], numbers[0]) if letter == "V" else (numbers[-2], numbers[-1])
        yield at[0] + x, at[1] + y


GRAPHS = [birds_flow(), weather_flow(), open_flow(), REPORT, replace(chain(1), name="a" * 60), chain(12)]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{graph.name}-{len(graph.nodes)}")
def test_in_the_picture_everything_has_room(graph: FlowGraph) -> None:
    root = ET.fromstring(svg(graph))
    back, *parts = list(boxes(root))
    assert (back.right, back.bottom) == (float(root.attrib["width"]), float(root.attrib["height"]))
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    assert all(back.holds(part) for part in parts)
    steps = [part for part in parts if part.kind in ("step", "batch")]
    assert len(steps) == len(list(graph.calls()))
    assert not [(one, two) for one in steps for two in steps if one is not two and one.touches(two)]
    for text in (part for part in parts if part.kind == "text"):
        assert all(box.holds(text) for box in parts if box.kind != "text" and box.touches(text))


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{graph.name}-{len(graph.nodes)}")
def test_in_the_picture_an_arrow_for_each_input_leads_down_and_through_no_box(graph: FlowGraph) -> None:
    root = ET.fromstring(svg(graph))
    drawn = list(lines(root))
    expected = sum(len({ref.node for ref in refs(node)} - {ITEM}) for node in graph.walk())
    assert len(drawn) == expected == len(list(root.iter(f"{SVG}path"))) / 2
    solid = [box for box in boxes(root) if box.kind in ("step", "batch")]
    for line in drawn:
        for (x, top), (to_x, bottom) in pairwise(line):
            assert top < bottom or (x, top) == (to_x, bottom)
            if x == to_x:
                piece = Box("line", x - 0.5, top + 0.5, x + 0.5, bottom - 0.5)
                assert not [box for box in solid if box.touches(piece)]


def refs(node: Node) -> list[Ref]:
    return [node.over] if isinstance(node, Map) else [each for each in node.arguments() if isinstance(each, Ref)]


def test_nodes_stand_below_what_they_hang_on() -> None:
    crossed = by_hand(call("a"), call("b"), call("below_b", Ref("b")), call("below_a", Ref("a")))
    drawn = sorted(lines(ET.fromstring(svg(crossed))))
    assert [line[-1] for line in drawn] == sorted(line[-1] for line in drawn)


def test_the_picture_says_what_the_tree_says() -> None:
    root = ET.fromstring(svg(weather_flow()))
    assert list(texts(root)) == [
        *("weather-flow", "start='<today & on>'", "days=3", "schedule cron(0 12 * * ? *)"),
        *("get_birds", "map over get_birds", "steps in one place"),
        *("flap_bird", "map over flap_bird", "at most 5 at once"),
        *("fetch", "3 retries · batch · 4 vCPU · 8192 MB", "measure", "1 retry · at most 60 s"),
        *("join_birds", "measure-2", "1 retry · at most 60 s", "measure-3", "1 retry · at most 60 s"),
    ]
    assert [box.kind for box in boxes(root)].count("batch") == 1
    assert root.findtext(f"{SVG}title") == "weather-flow"


def test_a_wide_character_gets_the_room_of_two() -> None:
    def width(name: str) -> float:
        return next(
            box.right - box.left for box in boxes(ET.fromstring(svg(by_hand(call(name))))) if box.kind == "step"
        )

    assert width("鳥の歌") == width("abcdef") > width("abc")


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{graph.name}-{len(graph.nodes)}")
def test_the_picture_stands_alone_and_is_always_the_same(graph: FlowGraph) -> None:
    picture = svg(graph)
    assert picture == svg(graph)
    assert picture.endswith("</svg>\n")
    root = ET.fromstring(picture)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "g",
        "rect",
        "text",
        "path",
    }
    assert not [name for element in root.iter() for name in element.attrib if "href" in name or name.startswith("on")]
    assert re.findall(r"https?://[^\"]*|url\(|@import", picture) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


def test_names_from_outside_cannot_break_the_picture() -> None:
    hostile = "</text><script>alert(1)</script>\x00\x1b\ud800&\"'"
    graph = by_hand(call(hostile), Map("m", Ref(hostile), body(call("b", Ref(ITEM)))), name=hostile, schedule=hostile)
    shown = "</text><script>alert(1)</script>���&\"'"
    root = ET.fromstring(svg(graph).encode("utf-8"))
    assert list(texts(root)) == [shown, f"schedule {shown}", shown, f"map over {shown}", "b"]
    assert tree(graph).splitlines()[1] == f"├─ {shown}"
