"""What a child tells the server of its execution: the events of the WebSocket, each when it is committed.

So whoever reads the graph after an event finds what the event said. The end of an execution comes last, with the final
count of its nodes.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from twingraph.events import Event
from twingraph.executions.changes import Change
from twingraph.executions.recorder import Recorder
from twingraph.executions.snapshot import readable
from twingraph.server.channel import Channel, Message

LARGEST = 1 << 16
"""Bytes that the outputs of a node may take in an event."""

_APART = 0.02  # seconds between two times that something is told
_PATIENCE = 10.0
_COUNTED = {"completed": "completed_nodes", "cached": "completed_nodes", "running": "running_nodes"}
_COUNTED |= {
    "retrying": "running_nodes",
    "failed": "failed_nodes",
    "skipped": "failed_nodes",
    "stopped": "failed_nodes",
}


class Telling:
    """A listener that records and tells. Once it is `silent`, nothing more is recorded or told."""

    def __init__(self, execution: str, recorder: Recorder, channel: Channel) -> None:
        self.silent = False
        self._execution = execution
        self._recorder = recorder
        self._channel = channel
        self._waiting: deque[Change] = deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._nodes: dict[str, str] = {}
        self._status = ""
        self._thread = threading.Thread(target=self._work, name="twingraph-telling", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Record an event, and tell of it."""
        if self.silent:
            return
        made = self._recorder.record(event)
        if made is None or made.log is not None:
            return
        with self._changed:
            self._waiting.append(made)
            self._changed.notify()

    def close(self) -> None:
        """Tell what is left."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed.is_set():
                    self._changed.wait()
                taken = list(self._waiting)
                self._waiting.clear()
            if not taken:
                return
            self._recorder.flush(_PATIENCE)
            if self.silent or not self._channel.send(*self._messages(taken)):
                return
            self._closed.wait(_APART)

    def _messages(self, changes: Iterable[Change]) -> list[Message]:
        told: list[Message] = []
        over: list[Message] = []
        for each in changes:
            status = each.columns.get("status")
            if not each.node and status:
                self._status = str(status)
                over = _failed(self._execution, each, self._nodes)
            elif status:
                self._nodes[each.node] = str(status)
                told += _node(self._execution, each)
        return [*told, *over, self._update()]

    def _update(self) -> Message:
        return {
            "event": "execution:update",
            "data": {"execution_id": self._execution, "status": self._status, "progress": counted(self._nodes)},
        }


def counted(nodes: dict[str, str]) -> dict[str, int]:
    """How far an execution is, from the status of each of its nodes."""
    progress = {"total_nodes": len(nodes), "completed_nodes": 0, "running_nodes": 0, "failed_nodes": 0}
    for status, count in Counter(nodes.values()).items():
        if status in _COUNTED:
            progress[_COUNTED[status]] += count
    return progress


def _node(execution: str, made: Change) -> list[Message]:
    columns = made.columns
    data: dict[str, Any] = {"execution_id": execution, "node_id": made.node, "status": columns["status"]}
    if "duration" in columns:
        data["duration"] = columns["duration"]
    if "outputs" in columns:
        data["outputs"] = outputs_of(execution, columns["outputs"])
    told: list[Message] = [{"event": "node:status", "data": data}]
    if columns["status"] == "failed":
        told.append(error_of(execution, made.node, columns["error"], columns["trace"]))
    return told


def outputs_of(execution: str, text: str) -> Any:
    """Recorded outputs as an event shows them: where they are large, where to find them."""
    told = readable(text)
    size = len(text) if len(text) <= LARGEST else len(json.dumps(told))
    if size <= LARGEST:
        return told
    return {"truncated": True, "size": size, "link": f"/api/graph/execution/{execution}"}


def _failed(execution: str, made: Change, nodes: dict[str, str]) -> list[Message]:
    """The error of an execution that failed without a node that did."""
    if made.columns["status"] != "failed" or "failed" in nodes.values():
        return []
    return [error_of(execution, None, made.columns["error"], made.columns["trace"])]


def error_of(execution: str, node: str | None, error: str, trace: str) -> Message:
    """An event that tells of an error."""
    data = {"execution_id": execution, "node_id": node, "error": error, "traceback": trace}
    return {"event": "error", "data": data}
