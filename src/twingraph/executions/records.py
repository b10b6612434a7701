"""Rows of the execution graph as they are read: frozen, in the order of their columns.

Values, labels and the like are the JSON that is kept; `snapshot.readable` and `snapshot.restored` make something of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

WAITING = ("pending", "running", "retrying")
"""The states of a node that is not over; an execution has the first two of them."""
OVER = ("completed", "failed", "stopped")
"""The states of an execution that is over."""

_COUNTED = {
    "completed_nodes": ("completed", "cached"),
    "running_nodes": ("running", "retrying"),
    "failed_nodes": ("failed",),
    "skipped_nodes": ("skipped",),
    "stopped_nodes": ("stopped",),
}

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""Levels of a line of the log by name, as in `logging`."""


def progress(counts: Mapping[str, int]) -> dict[str, int]:
    """How far an execution is, from how many nodes of each status it has."""
    told = {name: sum(counts.get(each, 0) for each in statuses) for name, statuses in _COUNTED.items()}
    return {"total_nodes": sum(counts.values()), **told}


class Execution(NamedTuple):
    """One run: of a pipeline, of a workflow, or a session of calls outside of both."""

    id: str
    kind: str
    name: str
    status: str
    started_at: float | None
    finished_at: float | None
    duration: float | None
    failed_nodes: int
    config: str
    inputs: str
    outputs: str
    error: str
    error_type: str
    trace: str
    host: str
    pid: int
    process: str
    user: str
    python: str
    git_commit: str
    git_branch: str
    git_dirty: bool

    @property
    def interrupted(self) -> bool:
        """Whether its process ended before it did."""
        return self.error_type == "interrupted"


class Node(NamedTuple):
    """One call of a component, or a pipeline within another."""

    key: int
    execution_id: str
    node_id: str
    hash: str
    content_hash: str
    code_hash: str
    kind: str
    component: str
    platform: str
    status: str
    within: str
    submitted_at: float | None
    started_at: float | None
    finished_at: float | None
    duration: float | None
    attempts: int
    labels: str
    inputs: str
    outputs: str
    reusable: bool
    error: str
    error_type: str
    trace: str
    cpu_seconds: float | None
    peak_memory_bytes: float | None
    usage: str
    resources: str
    form: str


class Kept(NamedTuple):
    """Outputs of a call that are used again, and the form of what it returned (`twingraph.returned`)."""

    outputs: dict[str, Any]
    form: str


class Edge(NamedTuple):
    """`child` followed `parent`; both are hashes of nodes."""

    child: str
    parent: str


class Attempt(NamedTuple):
    """An attempt that failed and was followed by another, after `delay` seconds."""

    attempt: int
    error: str
    delay: float | None
    at: float | None


class LogLine(NamedTuple):
    """What a component printed or logged; `key` grows with time."""

    key: int
    execution_id: str
    node_id: str
    attempt: int
    severity: int
    at: float
    message: str
    component: str = ""

    @property
    def level(self) -> str:
        """The level by name."""
        return level_of(self.severity)


def level_of(severity: int) -> str:
    """The name of the level that a severity reaches."""
    reached = [name for name, least in LEVELS.items() if least <= severity]
    return reached[-1] if reached else "debug"


def parsed(text: str, empty: Any = None) -> Any:
    """What a column with JSON holds; `empty` for a column with nothing in it."""
    return json.loads(text) if text else ({} if empty is None else empty)
