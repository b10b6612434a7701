"""A small Gremlin server for tests: TinkerPop's protocol over a real WebSocket, and a graph that it keeps in memory.

It knows GraphSON 3, traversals as bytecode made of the steps below, authentication by PLAIN, and can be told to fail.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.server import Server, ServerConnection, serve

MIME = "application/vnd.gremlin-v3.0+json"


@dataclass(eq=False)
class Vertex:
    label: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Edge:
    label: str
    start: Vertex
    end: Vertex


@dataclass(frozen=True)
class Traverser:
    """Where a traversal is: at a thing, having passed others that were given names."""

    at: Any
    passed: tuple[tuple[str, Any], ...] = ()

    def to(self, at: Any) -> Traverser:
        return Traverser(at, self.passed)

    def named(self, name: str) -> Any:
        return dict(self.passed).get(name)


class GremlinServer:
    """The graph, and how the server behaves."""

    def __init__(self) -> None:
        self.vertices: list[Vertex] = []
        self.edges: list[Edge] = []
        self.refusing = 0  # so many requests are answered with an error
        self.login: tuple[str, str] | None = None
        self.requests = 0
        self.changed = threading.Condition()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def found(self, label: str, **wanted: Any) -> list[dict[str, Any]]:
        """The properties of the vertices with a label and some properties."""
        some = [each.properties for each in self.vertices if each.label == label]
        return [each for each in some if wanted.items() <= each.items()]

    def links(self, label: str, key: str = "node_id") -> set[tuple[Any, Any]]:
        """The edges with a label, as a property of their ends."""
        return {
            (each.start.properties.get(key), each.end.properties.get(key)) for each in self.edges if each.label == label
        }

    def answer(self, connection: ServerConnection) -> None:
        """Answer requests until the client goes away."""
        logged_in = self.login is None
        for message in connection:
            assert isinstance(message, bytes)
            size = message[0]
            assert message[1 : 1 + size].decode() == MIME
            request = json.loads(message[1 + size :])
            identity = request["requestId"]["@value"]
            if request["op"] == "authentication":
                _, user, password = base64.b64decode(request["args"]["sasl"]).decode().split("\0")
                logged_in = (user, password) == self.login
                status = (204, "") if logged_in else (401, "Authentication failed")
                if logged_in:
                    self._carried_out(request["args"])
            elif not logged_in:
                status = (407, "")
                self._asked = request
            else:
                status = self._carried_out(request["args"])
            told = {"requestId": identity, "status": {"code": status[0], "message": status[1], "attributes": {}}}
            result = {"data": {"@type": "g:List", "@value": []}, "meta": {"@type": "g:Map", "@value": []}}
            connection.send(json.dumps({**told, "result": result}))

    def _carried_out(self, arguments: dict[str, Any]) -> tuple[int, str]:
        with self.changed:
            self.requests += 1
            if self.refusing:
                self.refusing -= 1
                return 500, "The graph is out of order\n\tat a place in Java"
            steps = arguments["gremlin"] if "gremlin" in arguments else self._asked["args"]["gremlin"]
            self.run(steps, [Traverser(None)])
            self.changed.notify_all()
            return 200, ""

    def run(self, bytecode: dict[str, Any], traversers: list[Traverser]) -> list[Traverser]:
        """Where a traversal leads from somewhere."""
        assert bytecode["@type"] == "g:Bytecode"
        for name, *arguments in bytecode["@value"]["step"]:
            step: Callable[..., list[Traverser]] = getattr(self, f"step_{name}")
            traversers = step(traversers, *arguments)
        return traversers

    def step_V(self, traversers: list[Traverser]) -> list[Traverser]:  # noqa: N802 - it is the step's name
        return [each.to(vertex) for each in traversers for vertex in self.vertices]

    def step_has(self, traversers: list[Traverser], label: str, key: str, value: str) -> list[Traverser]:
        return [each for each in traversers if each.at.label == label and each.at.properties.get(key) == value]

    def step_fold(self, traversers: list[Traverser]) -> list[Traverser]:
        return [Traverser([each.at for each in traversers])]

    def step_unfold(self, traversers: list[Traverser]) -> list[Traverser]:
        return [each.to(one) for each in traversers for one in each.at]

    def step_coalesce(self, traversers: list[Traverser], *choices: dict[str, Any]) -> list[Traverser]:
        reached = []
        for each in traversers:
            reached += next(filter(None, (self.run(choice, [each]) for choice in choices)), [])
        return reached

    def step_addV(self, traversers: list[Traverser], label: str) -> list[Traverser]:  # noqa: N802 - the step's name
        made = [each.to(Vertex(label)) for each in traversers]
        self.vertices += [each.at for each in made]
        return made

    def step_property(
        self, traversers: list[Traverser], cardinality: dict[str, str], key: str, value: Any
    ) -> list[Traverser]:
        assert cardinality == {"@type": "g:Cardinality", "@value": "single"}
        for each in traversers:
            each.at.properties[key] = value["@value"] if isinstance(value, dict) else value
        return traversers

    def step_as(self, traversers: list[Traverser], name: str) -> list[Traverser]:
        return [Traverser(each.at, (*each.passed, (name, each.at))) for each in traversers]

    def step_outE(self, traversers: list[Traverser], label: str) -> list[Traverser]:  # noqa: N802 - the step's name
        return [
            each.to(edge) for each in traversers for edge in self.edges if edge.label == label and edge.start is each.at
        ]

    def step_inV(self, traversers: list[Traverser]) -> list[Traverser]:  # noqa: N802 - it is the step's name
        return [each.to(each.at.end) for each in traversers]

    def step_where(self, traversers: list[Traverser], condition: dict[str, Any]) -> list[Traverser]:
        """A name at the end of a condition stands for what has that name already."""
        *steps, (last, name) = condition["@value"]["step"]
        assert last == "as"
        inner = {"@type": "g:Bytecode", "@value": {"step": steps}}
        return [each for each in traversers if any(one.at is each.named(name) for one in self.run(inner, [each]))]

    def step_addE(self, traversers: list[Traverser], label: str) -> list[Traverser]:  # noqa: N802 - the step's name
        return [each.to((label, each.at)) for each in traversers]

    def step_to(self, traversers: list[Traverser], name: str) -> list[Traverser]:
        self.edges += [Edge(each.at[0], each.at[1], each.named(name)) for each in traversers]
        return [each.to(self.edges[-1]) for each in traversers]

    def step_count(self, traversers: list[Traverser]) -> list[Traverser]:
        return [Traverser(len(traversers))]


@contextmanager
def gremlin_server(port: int = 0, graph: GremlinServer | None = None) -> Iterator[GremlinServer]:
    """A server that answers on loopback, with a graph of its own or one that is given."""
    kept = graph or GremlinServer()
    with serve(kept.answer, "127.0.0.1", port) as server:
        kept._server = server
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
