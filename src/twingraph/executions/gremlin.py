"""Mirrors executions, their nodes and edges to a Gremlin endpoint: TinkerPop's server, Neptune and the like.

Events are noted and sent by a thread of its own; nothing waits for the endpoint, and one that cannot be reached is told
once and tried again now and then, while what is to be sent waits up to a limit. What is sent is bytecode in GraphSON 3
over `websockets`: values are data in it and need no quoting, and Neptune, which knows no bindings, takes it too. (The
client of the field, gremlinpython, would bring aiohttp and twelve more packages for two kinds of requests.)

A vertex `execution` has its id as `execution_id`, a vertex `node` its `hash`; that is what both are found by, so an
index on these makes large graphs fast. An edge `data_flow` leads from a node to one that follows it, and `part_of` from
a node to its execution.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from twingraph.errors import GraphError
from twingraph.events import (
    Event,
    ExecutionFinished,
    ExecutionStarted,
    NodeFailed,
    NodeFinished,
    NodeRetried,
    NodeStarted,
    NodeSubmitted,
)
from twingraph.executions.secrets import hide, veiled
from twingraph.executions.telling import reason

if TYPE_CHECKING:
    from twingraph.executions.graphson import Wire

_TOGETHER = 0.1
_MOST = 100_000  # vertices and edges that may wait
_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
_AT_THE_END = 5.0  # seconds that the end of the process waits for what is left
_log = logging.getLogger("twingraph")
_mirrors: dict[str, Mirror] = {}
_all: weakref.WeakSet[Mirror] = weakref.WeakSet()
_opening = threading.Lock()
Vertex = tuple[str, str, str]


def open_mirror(url: str) -> Mirror:
    """The mirror to an endpoint, one for all in this process."""
    with _opening:
        if url not in _mirrors:
            _mirrors[url] = Mirror(url)
            atexit.register(_mirrors[url].close)
        return _mirrors[url]


class Mirror:
    """A listener that mirrors executions to the Gremlin endpoint at a URL, `ws://host:8182` or `wss://...`.

    A user and password in the URL are what it is authenticated with where the endpoint asks for that.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise GraphError(
                f"A Gremlin endpoint is as ws://host:8182 or wss://host:8182/gremlin, not {veiled(url)!r}."
            )
        port = f":{parts.port}" if parts.port else ""
        self.url = urlunsplit((parts.scheme, f"{parts.hostname}{port}", parts.path.rstrip("/") or "/gremlin", "", ""))
        self._login = (parts.username or "", parts.password or "")
        hide(self._login[1])
        self._warned = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._vertices: dict[Vertex, dict[str, Any]] = {}
        self._edges: dict[tuple[Vertex, str, Vertex], None] = {}
        self._sending = False
        self._hurry = False
        self._thread: threading.Thread | None = None
        self._wire: Wire | None = None
        self._failures = 0

    def __call__(self, event: Event) -> None:
        """Note an event; it is sent later."""
        vertex, told, parents = _told(event)
        if vertex is None:
            return
        with self._changed:
            if len(self._vertices) + len(self._edges) >= _MOST and vertex not in self._vertices:
                self._warn(f"more than {_MOST:,} changes wait")
                return
            self._vertices.setdefault(vertex, {}).update(told)
            if vertex[0] == "node":
                self._edges[vertex, "part_of", ("execution", "execution_id", event.run)] = None
            for parent in parents:
                self._edges[("node", "hash", parent), "data_flow", vertex] = None
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was noted is sent; whether it is, or `timeout` seconds are over before."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not (self._vertices or self._edges or self._sending), timeout)

    def close(self) -> None:
        """Send what is left, if that can be done soon, and close the connection."""
        self.flush(_AT_THE_END)
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="twingraph-mirror", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:  # the interpreter is ending
            return

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._vertices or self._edges)
                self._changed.wait_for(lambda: self._hurry, _TOGETHER)
                self._hurry = False
                vertices, self._vertices = self._vertices, {}
                edges, self._edges = self._edges, {}
                self._sending = True
            try:
                self._send(vertices, edges)
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - whatever happens to the mirror, the run goes on
                self._failed(error, vertices, edges)
            finally:
                with self._changed:
                    self._sending = False
                    self._changed.notify_all()

    def _send(self, vertices: dict[Vertex, dict[str, Any]], edges: dict[tuple[Vertex, str, Vertex], None]) -> None:
        from twingraph.executions.graphson import Wire, edge, vertex

        if self._wire is None:
            self._wire = Wire(self.url, self._login)
        ends = {end: vertices.get(end, {}) for each in edges for end in (each[0], each[2])}
        self._wire.ask([vertex(*place, told) for place, told in {**ends, **vertices}.items()])
        self._wire.ask([edge(*each) for each in edges])

    def _failed(
        self, error: Exception, vertices: dict[Vertex, dict[str, Any]], edges: dict[tuple[Vertex, str, Vertex], None]
    ) -> None:
        """Keep what was not sent, with what was noted meanwhile, and wait before the next attempt."""
        self._warn(str(error) if isinstance(error, GraphError) else reason(error))
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        end = time.monotonic() + pause
        with self._changed:
            for place, told in self._vertices.items():
                vertices.setdefault(place, {}).update(told)
            self._vertices = vertices
            self._edges = {**edges, **self._edges}
            while (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _warn(self, what: str) -> None:
        """Say once that executions are not mirrored."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "Executions are not mirrored to %s: %s. Runs go on without.", self.url, veiled(what).rstrip(".")
            )

    def begin_anew(self) -> None:
        """Begin anew in a forked process; the connection is the parent's."""
        _inherited.append(self._wire)
        self._begin()


_inherited: list[Wire | None] = []


def _told(event: Event) -> tuple[Vertex | None, dict[str, Any], tuple[str, ...]]:
    """The vertex that an event is about, what it says of it, and the hashes that it follows."""
    match event:
        case ExecutionStarted():
            told = {"name": event.flow, "kind": event.kind, "status": "running", "started_at": event.at}
            return ("execution", "execution_id", event.run), told, ()
        case ExecutionFinished():
            told = {
                "status": event.status,
                "finished_at": event.at,
                "duration": event.seconds,
                "failed_nodes": event.failed_nodes,
                "error": veiled(event.error),
            }
            return ("execution", "execution_id", event.run), told, ()
        case NodeSubmitted() | NodeStarted() | NodeRetried() | NodeFinished() | NodeFailed():
            told, parents = _told_of_node(event)
            return ("node", "hash", event.hash), told, parents
        case _:
            return None, {}, ()


def _told_of_node(
    event: NodeSubmitted | NodeStarted | NodeRetried | NodeFinished | NodeFailed,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    place = {"execution_id": event.run, "node_id": event.node}
    match event:
        case NodeSubmitted():
            about = {"component": event.component, "platform": event.platform, "status": "pending"}
            return {**place, **about, **_labels(event)}, event.parents
        case NodeStarted():
            about = {"component": event.component, "platform": event.platform, "status": "running"}
            more = {"content_hash": event.content_hash, "code_hash": event.code_hash, "started_at": event.at}
            return {**place, **about, **more, **_labels(event)}, event.parents
        case NodeRetried():
            return {"status": "retrying", "attempts": event.attempt + 1, "error": veiled(event.error)}, ()
        case NodeFinished():
            status = "cached" if event.reused else "completed"
            return {"status": status, "error": "", **_end(event)}, ()
        case NodeFailed():
            return {"status": event.status, "error": veiled(event.error), "error_type": event.kind, **_end(event)}, ()


def _labels(event: NodeSubmitted | NodeStarted) -> dict[str, str]:
    return {f"label:{key}": veiled(str(value)) for key, value in event.labels.items()}


def _end(event: NodeFinished | NodeFailed) -> dict[str, Any]:
    return {"finished_at": event.at, "duration": event.seconds, "attempts": event.attempt + 1}


def _all_begin_anew() -> None:
    for each in list(_all):
        each.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_begin_anew)
