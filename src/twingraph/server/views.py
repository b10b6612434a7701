"""The rows of the graph as bodies of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twingraph import wire
from twingraph.executions import definitions, requests
from twingraph.executions.records import Execution, Node, progress
from twingraph.executions.snapshot import readable
from twingraph.executions.statistics import Statistics
from twingraph.fields import utc

OVER = ("completed", "failed", "stopped")
"""The states of an execution that is over."""

_UNITS = ("B", "KB", "MB", "GB", "TB")


def summary_of(stored: definitions.Stored) -> wire.WorkflowSummary:
    """A workflow in a list."""
    return wire.WorkflowSummary(
        id=stored.id,
        name=stored.name,
        created_at=utc(stored.created_at),
        updated_at=utc(stored.updated_at),
        status=stored.status,  # type: ignore[arg-type]  # what is stored was checked
        tags=json.loads(stored.tags or "[]"),
    )


def execution_of(
    recorded: Execution,
    request: requests.Request | None,
    counts: Mapping[str, int],
    nodes: Mapping[str, Node],
) -> wire.Execution:
    """An execution; `nodes` are those of one that is over, where what they gave is to be told."""
    over = recorded.status in OVER
    failed = next((each for each in nodes.values() if each.status == "failed" and not each.within), None)
    outputs = {name: readable(each.outputs) for name, each in nodes.items() if each.outputs and not each.within}
    return wire.Execution(
        execution_id=recorded.id,
        workflow_id=request.workflow_id if request else None,
        name=recorded.name,
        status=recorded.status,  # type: ignore[arg-type]  # the graph knows these words only
        started_at=utc(recorded.started_at),
        completed_at=utc(recorded.finished_at),
        duration=recorded.duration,
        progress=progress_of(counts),
        outputs=_outputs(recorded) if over else None,
        node_outputs=outputs if over and nodes else None,
        error=_failure(recorded, failed),
        success=recorded.status == "completed" and not recorded.failed_nodes if over else None,
        rerun_of=(request.rerun_of or None) if request else None,
    )


def progress_of(counts: Mapping[str, int]) -> wire.Progress:
    """How far an execution is, from how many nodes of each status it has."""
    return wire.Progress(**progress(counts))


def metrics_of(component: str, made: Statistics) -> wire.ComponentMetrics:
    """How calls of a component went."""
    usage = wire.ResourceUsage(
        avg_cpu=made.avg_cpu,
        avg_memory=_size(made.avg_memory_bytes),
        peak_memory=_size(made.peak_memory_bytes),
        avg_memory_bytes=_whole(made.avg_memory_bytes),
        peak_memory_bytes=_whole(made.peak_memory_bytes),
    )
    return wire.ComponentMetrics(
        component_id=component,
        executions=made.executions,
        success_rate=made.success_rate,
        avg_duration=made.avg_duration,
        p50_duration=made.p50_duration,
        p95_duration=made.p95_duration,
        p99_duration=made.p99_duration,
        resource_usage=usage,
    )


def _outputs(recorded: Execution) -> Any:
    told = readable(recorded.outputs) if recorded.outputs else None
    return told["result"] if isinstance(told, dict) and set(told) == {"result"} else told


def _failure(recorded: Execution, node: Node | None) -> wire.Failure | None:
    if not recorded.error:
        return None
    return wire.Failure(
        message=recorded.error,
        type=recorded.error_type,
        node_id=node.node_id if node else None,
        traceback=(node.trace if node and node.trace else recorded.trace) or None,
    )


def _size(count: float | None) -> str | None:
    if count is None:
        return None
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.1f}{unit}" if unit != "B" else f"{int(count)}B"
        count /= 1024
    return None


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)
