"""An execution's graph as JSON: the body of `GET /api/graph/execution/{id}`, and the parts that other answers share."""

from __future__ import annotations

import json
from typing import Any

from twingraph.executions.records import Execution, Node, parsed
from twingraph.executions.snapshot import readable
from twingraph.graphs.run import RunGraph, instant


def document(run: RunGraph, *, values: bool = False) -> dict[str, Any]:
    """Nodes and edges; with `values`, also what each node was given and gave."""
    nodes = [node_document(node, run.outside(node), values=values) for node in run.nodes]
    edges = [
        {"from": parent, "to": child, "label": "data_flow"}
        for child, parents in run.follows().items()
        for parent in parents
    ]
    return {"nodes": nodes, "edges": edges}


def text(run: RunGraph) -> str:
    """The same as text."""
    return json.dumps(document(run), indent=2) + "\n"


def node_document(node: Node, outside: list[str], *, values: bool = False) -> dict[str, Any]:
    """One node; `outside` are the hashes of other executions that it follows."""
    told = {
        "hash": node.hash,
        "content_hash": node.content_hash,
        "kind": node.kind,
        "within": node.within,
        "attempts": node.attempts,
        "labels": parsed(node.labels),
        "usage": parsed(node.usage),
        "resources": parsed(node.resources),
        "parents_outside": outside,
        "error": node.error,
        "error_type": node.error_type,
    }
    properties = {key: value for key, value in told.items() if value not in ("", {}, [])}
    if values:
        properties |= {"inputs": readable(node.inputs), "outputs": readable(node.outputs)}
    return {
        "id": node.node_id,
        "label": node.component,
        "status": node.status,
        "platform": node.platform,
        "started_at": instant(node.started_at),
        "completed_at": instant(node.finished_at),
        "duration": node.duration,
        "properties": properties,
    }


def execution_document(execution: Execution, progress: dict[str, int] | None = None) -> dict[str, Any]:
    """One execution; `progress` counts its nodes by status."""
    told: dict[str, Any] = {
        "execution_id": execution.id,
        "name": execution.name,
        "kind": execution.kind,
        "status": execution.status,
        "started_at": instant(execution.started_at),
        "completed_at": instant(execution.finished_at),
        "duration": execution.duration,
        "failed_nodes": execution.failed_nodes,
        "inputs": readable(execution.inputs),
        "outputs": readable(execution.outputs),
        "error": None,
        "host": execution.host,
        "pid": execution.pid,
        "user": execution.user,
        "python": execution.python,
        "git": {"commit": execution.git_commit, "branch": execution.git_branch, "dirty": execution.git_dirty},
    }
    if execution.error or execution.error_type:
        told["error"] = {"message": execution.error, "type": execution.error_type, "traceback": execution.trace}
    if progress is not None:
        told["nodes"] = progress
    return told
