"""Requests to a Gremlin endpoint: traversals as bytecode in GraphSON 3, in the frames of TinkerPop's protocol."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from twingraph.errors import GraphError

MIME = "application/vnd.gremlin-v3.0+json"
_AT_ONCE = 64  # requests that wait for their answers
_SECONDS = 30.0
_DONE, _PARTIAL, _CHALLENGE = (200, 204), 206, 407
Step = list[Any]


def vertex(label: str, key: str, value: str, properties: Mapping[str, Any]) -> list[Step]:
    """The traversal that makes a vertex, where none with this key is there, and sets its properties."""
    found = _bytecode([["unfold"]])
    made = _bytecode([["addV", label], ["property", _single(), key, value]])
    steps: list[Step] = [["V"], ["has", label, key, value], ["fold"], ["coalesce", found, made]]
    return [*steps, *(["property", _single(), name, _typed(held)] for name, held in properties.items())]


def edge(start: tuple[str, str, str], label: str, end: tuple[str, str, str]) -> list[Step]:
    """The traversal that makes an edge between two vertices, where there is none."""
    found = _bytecode([["outE", label], ["where", _bytecode([["inV"], ["as", "end"]])]])
    made = _bytecode([["addE", label], ["to", "end"]])
    return [["V"], ["has", *end], ["as", "end"], ["V"], ["has", *start], ["coalesce", found, made]]


class Wire:
    """A connection to an endpoint."""

    def __init__(self, url: str, login: tuple[str, str]) -> None:
        try:
            from websockets.sync.client import connect
        except ImportError as error:
            raise GraphError("it needs a client: pip install 'lokki-twingraph[gremlin]'") from error

        self._login = login
        self._at_once = 1  # the first request is where an endpoint asks for the password
        self._open = ExitStack()
        opened = connect(url, open_timeout=_SECONDS, close_timeout=1, max_size=None, proxy=None)
        self._socket = self._open.enter_context(opened)

    def ask(self, traversals: Sequence[list[Step]]) -> None:
        """Have traversals carried out, many at once; an error of any is raised."""
        asked: set[str] = set()
        for each in traversals:
            asked.add(self._send(each))
            while len(asked) >= self._at_once:
                self._await(asked)
        while asked:
            self._await(asked)

    def close(self) -> None:
        """Close the connection."""
        self._open.close()

    def _send(self, steps: list[Step]) -> str:
        # Of what was made only a number comes back.
        arguments = {"gremlin": _bytecode([*steps, ["count"]]), "aliases": {"g": "g"}}
        return self._frame(str(uuid.uuid4()), "bytecode", arguments)

    def _frame(self, identity: str, op: str, arguments: Mapping[str, Any]) -> str:
        about = {"requestId": {"@type": "g:UUID", "@value": identity}, "processor": "traversal", "op": op}
        request = json.dumps({**about, "args": arguments})
        self._socket.send(bytes([len(MIME)]) + MIME.encode() + request.encode())
        return identity

    def _await(self, asked: set[str]) -> None:
        asked.discard(self._answered(asked))
        self._at_once = _AT_ONCE

    def _answered(self, asked: set[str]) -> str:
        """The request whose last answer has come."""
        while True:
            answer = json.loads(self._socket.recv(_SECONDS))
            identity, status = _plain(answer["requestId"]), answer["status"]
            if status["code"] == _CHALLENGE:
                secret = base64.b64encode("\0".join(["", *self._login]).encode()).decode()
                self._frame(identity, "authentication", {"sasl": secret, "saslMechanism": "PLAIN"})
            elif status["code"] != _PARTIAL and status["code"] not in _DONE:
                raise GraphError(
                    f"it answered {status['code']}: {str(status.get('message', '')).partition(chr(10))[0]}"
                )
            elif status["code"] in _DONE and identity in asked:
                return str(identity)


def _bytecode(steps: list[Step]) -> dict[str, Any]:
    return {"@type": "g:Bytecode", "@value": {"step": steps}}


def _single() -> dict[str, str]:
    return {"@type": "g:Cardinality", "@value": "single"}


def _typed(value: Any) -> Any:
    match value:
        case bool() | str():
            return value
        case int():
            return {"@type": "g:Int64", "@value": value}
        case float():
            return {"@type": "g:Double", "@value": value}
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    return value["@value"] if isinstance(value, dict) else value
