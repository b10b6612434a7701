"""What a child tells the server of its execution: the events of the WebSocket, each when it is committed.

So whoever reads the graph after an event finds what the event said. The end of an execution comes last, with the final
count of its nodes. Lines of the log are told several together, and not more than anybody reads: what is left out is
counted, and in the graph.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from twingraph.events import Event
from twingraph.executions.changes import Change
from twingraph.executions.recorder import Recorder
from twingraph.executions.records import level_of, progress
from twingraph.executions.snapshot import readable
from twingraph.graphs.run import instant
from twingraph.server.channel import Channel, Message

LARGEST = 1 << 16
"""Bytes that the outputs of a node may take in an event."""

_APART = 0.02  # seconds between two times that something is told
_TOGETHER = 0.1  # seconds that lines of the log wait for each other, where nothing else is to be told
_MOST_LINES = 200  # that are told at a time
_ROOM = 6_000  # characters of lines in a message; PostgreSQL hands on 8,000 bytes
_PATIENCE = 10.0


class Telling:
    """A listener that records and tells. Once it is `silent`, nothing more is recorded or told."""

    def __init__(self, execution: str, recorder: Recorder, channel: Channel) -> None:
        self.silent = False
        self._execution = execution
        self._recorder = recorder
        self._channel = channel
        self._waiting: deque[Change] = deque()
        self._lines = 0
        self._missed = 0
        self._urgent = False
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
        if made is None:
            return
        with self._changed:
            if made.log is None:
                self._urgent = True
            elif self._lines < _MOST_LINES:
                self._lines += 1
            else:
                self._missed += 1
                return
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
            taken, urgent, missed = self._taken()
            if not taken:
                return
            self._recorder.flush(_PATIENCE)
            told = self._messages(taken, missed)
            if self.silent or not self._channel.send(*told, *([self._update()] if urgent else [])):
                return
            self._closed.wait(_APART)

    def _taken(self) -> tuple[list[Change], bool, int]:
        """What is to be told next, whether there is more in it than lines, and how many of these were left out."""
        with self._changed:
            while not self._waiting and not self._closed.is_set():
                self._changed.wait()
            self._changed.wait_for(lambda: self._urgent or self._closed.is_set(), _TOGETHER)
            taken, urgent, missed = list(self._waiting), self._urgent, self._missed
            self._waiting.clear()
            self._lines, self._missed, self._urgent = 0, 0, False
        return taken, urgent, missed

    def _messages(self, changes: Iterable[Change], missed: int) -> list[Message]:
        told: list[Message] = []
        over: list[Message] = []
        for each in changes:
            if each.log is not None:
                _log(told, self._execution, each.log)
                continue
            status = each.columns.get("status")
            if not each.node and status:
                self._status = str(status)
                over = _failed(self._execution, each, self._nodes)
            elif status:
                self._nodes[each.node] = str(status)
                told += _node(self._execution, each)
        if missed:
            last = next(each for each in reversed(told) if each["event"] == "node:log")
            last["data"]["missed"] = missed
        return [*told, *over]

    def _update(self) -> Message:
        return {
            "event": "execution:update",
            "data": {
                "execution_id": self._execution,
                "status": self._status,
                "progress": progress(Counter(self._nodes.values())),
            },
        }


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


def _log(told: list[Message], execution: str, row: Mapping[str, Any]) -> None:
    """Tell of a line: in the last message, where that is of lines of the same node and has room, else in a new one."""
    line = {
        "timestamp": instant(row["at"]),
        "level": level_of(row["severity"]),
        "message": row["message"],
        "attempt": row["attempt"],
    }
    if len(json.dumps(line)) > _ROOM:
        line["message"] = line["message"][: _ROOM // 12 - 1] + "…"  # a character takes twelve bytes at most
    last = told[-1]["data"] if told and told[-1]["event"] == "node:log" else {}
    if last.get("node_id") == row["node_id"] and len(json.dumps([*last["lines"], line])) <= _ROOM:
        last["lines"].append(line)
    else:
        data = {"execution_id": execution, "node_id": row["node_id"], "lines": [line]}
        told.append({"event": "node:log", "data": data})


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
