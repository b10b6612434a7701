"""What events change in the execution graph: the rows that a batch writes.

`Changes` is what one event changes, taken in the thread of the event; `Batch` merges those of many events, so that a
call that begins and ends between two commits is written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, assert_never

from twingraph.events import (
    Event,
    ExecutionFinished,
    ExecutionStarted,
    NodeFailed,
    NodeFinished,
    NodeLogged,
    NodeRetried,
    NodeStarted,
    NodeSubmitted,
)
from twingraph.executions.records import LEVELS
from twingraph.executions.secrets import veiled
from twingraph.executions.snapshot import NOTHING, Snapshot, snapshot

_LONGEST_MESSAGE = 1 << 16
_LONGEST_TRACE = 1 << 16
_LONGEST_LABEL = 256
Row = dict[str, Any]


class Change(NamedTuple):
    """What one event changes: columns of its execution or, where `node` is said, of that node; and what hangs on it."""

    run: str
    node: str = ""
    columns: Row = {}  # noqa: RUF012 - never changed
    parents: tuple[str, ...] = ()
    source: str = ""
    labels: Mapping[str, Any] = {}
    values: Snapshot = NOTHING
    values_of: str = ""  # the hash of the node that made the values
    retry: Row | None = None
    log: Row | None = None

    @property
    def weight(self) -> int:
        """About how many bytes wait in it."""
        return 500 + len(self.values.text) + sum(len(frame) for _, frame in self.values.objects)


def change(event: Event, kept: bool = False) -> Change:
    """What an event changes; `kept` says that the outputs of its node must be kept whole."""
    match event:
        case NodeStarted():
            return _started(event)
        case NodeFinished():
            return _finished(event, kept)
        case NodeSubmitted():
            return _submitted(event)
        case NodeLogged():
            return _logged(event)
        case NodeRetried():
            return _retried(event)
        case NodeFailed():
            return _failed(event)
        case ExecutionStarted():
            return _execution_started(event)
        case ExecutionFinished():
            return _execution_finished(event)
        case _:
            assert_never(event)


def _submitted(event: NodeSubmitted) -> Change:
    columns = {
        "hash": event.hash,
        "component": event.component,
        "platform": event.platform,
        "status": "pending",
        "within": event.within,
        "submitted_at": event.at,
        "labels": _json(event.labels),
    }
    return Change(event.run, event.node, columns, event.parents, labels=event.labels)


def _started(event: NodeStarted) -> Change:
    taken = snapshot(event.inputs)
    columns = {
        "hash": event.hash,
        "content_hash": event.content_hash,
        "code_hash": event.code_hash,
        "kind": event.kind,
        "component": event.component,
        "platform": event.platform,
        "status": "running",
        "within": event.within,
        "started_at": event.at,
        "labels": _json(event.labels),
        "inputs": taken.text,
        "resources": _json(event.resources),
        "attempts": 1,
    }
    return Change(event.run, event.node, columns, event.parents, event.source, event.labels, taken)


def _finished(event: NodeFinished, kept: bool) -> Change:
    taken = snapshot(event.outputs, keep=kept, digests=True)
    columns: Row = {
        "hash": event.hash,
        "status": "cached" if event.reused else "completed",
        "finished_at": event.at,
        "duration": event.seconds,
        "attempts": event.attempt + 1,
        "outputs": taken.text,
        "reusable": taken.whole,
    }
    if event.form:
        columns["form"] = event.form
    if event.usage:
        columns["usage"] = _json(event.usage)
        columns["cpu_seconds"] = event.usage.get("cpu_seconds")
        columns["peak_memory_bytes"] = event.usage.get("peak_memory_bytes")
    return Change(event.run, event.node, columns, values=taken, values_of=event.hash)


def _failed(event: NodeFailed) -> Change:
    columns = {
        "hash": event.hash,
        "status": event.status,
        "finished_at": event.at,
        "duration": event.seconds,
        "attempts": event.attempt + 1,
        "error": _cut(event.error, _LONGEST_MESSAGE),
        "error_type": event.kind,
        "trace": _cut(event.trace, _LONGEST_TRACE),
    }
    return Change(event.run, event.node, columns)


def _retried(event: NodeRetried) -> Change:
    retry = {
        "execution_id": event.run,
        "node_id": event.node,
        "attempt": event.attempt,
        "error": _cut(event.error, _LONGEST_MESSAGE),
        "delay": event.delay,
        "at": event.at,
    }
    columns = {"hash": event.hash, "status": "retrying", "attempts": event.attempt + 1}
    return Change(event.run, event.node, columns, retry=retry)


def _logged(event: NodeLogged) -> Change:
    row = {
        "execution_id": event.run,
        "node_id": event.node,
        "attempt": event.attempt,
        "severity": LEVELS.get(event.level, LEVELS["info"]),
        "at": event.at,
        "message": _cut(event.message, _LONGEST_MESSAGE),
    }
    return Change(event.run, event.node, log=row)


def _execution_started(event: ExecutionStarted) -> Change:
    taken = snapshot(event.inputs)
    labels = event.config.get("labels")
    columns = {
        "kind": event.kind,
        "name": event.flow,
        "status": "running",
        "started_at": event.at,
        "finished_at": None,
        "config": snapshot(event.config).text,
        "inputs": taken.text,
        "error": "",
        "error_type": "",
        "trace": "",
    }
    return Change(event.run, "", columns, labels=labels if isinstance(labels, Mapping) else {}, values=taken)


def _execution_finished(event: ExecutionFinished) -> Change:
    outputs = event.outputs
    named = outputs if isinstance(outputs, Mapping) and all(isinstance(key, str) for key in outputs) else None
    taken = snapshot(named if named is not None else {} if outputs is None else {"result": outputs})
    columns = {
        "status": {"success": "completed", "interrupted": "stopped"}.get(event.status, event.status),
        "finished_at": event.at,
        "duration": event.seconds,
        "failed_nodes": event.failed_nodes,
        "outputs": taken.text,
        "error": _cut(event.error, _LONGEST_MESSAGE),
        "error_type": event.kind,
        "trace": _cut(event.trace, _LONGEST_TRACE),
    }
    return Change(event.run, "", columns, values=taken)


def _cut(text: Any, most: int) -> str:
    """A text that a database takes, and not too much of it."""
    told = veiled(str(text)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return told if len(told) <= most else told[: most - 1] + "…"


def _json(mapping: Mapping[str, Any]) -> str:
    return json.dumps({str(key): each for key, each in mapping.items()}, default=str) if mapping else ""


class Batch:
    """What many events change, merged."""

    def __init__(self) -> None:
        self.executions: dict[str, Row] = {}
        self.nodes: dict[tuple[str, str], Row] = {}
        self.attempts: list[Row] = []
        self.edges: list[Row] = []
        self.logs: list[Row] = []
        self.sources: dict[str, str] = {}
        self.labels: set[tuple[str, str, str]] = set()
        self.values: list[Row] = []
        self.objects: list[tuple[str, bytes]] = []

    def add(self, made: Change) -> None:
        """Merge what one event changes, later than all that is in here."""
        if made.log is not None:
            self.logs.append(made.log)
            return
        self.objects += made.values.objects
        for key, value in made.labels.items():
            self.labels.add((_cut(key, _LONGEST_LABEL), _cut(value, _LONGEST_LABEL), made.run))
        if not made.node:
            self.executions.setdefault(made.run, {"id": made.run}).update(made.columns)
            return
        place = made.run, made.node
        row = self.nodes.get(place)
        if row is None:
            row = self.nodes[place] = {"execution_id": made.run, "node_id": made.node}
        row.update(made.columns)
        self._add_what_hangs_on_it(made)

    def _add_what_hangs_on_it(self, made: Change) -> None:
        if made.parents:
            child = made.columns["hash"]
            self.edges += [{"child": child, "parent": parent} for parent in made.parents]
        if made.source:
            self.sources[made.columns["code_hash"]] = veiled(made.source)
        if made.values_of:
            self.values += [
                {"digest": identity, "hash": made.values_of, "name": name} for name, identity in made.values.made
            ]
        if made.retry is not None:
            self.attempts.append(made.retry)
