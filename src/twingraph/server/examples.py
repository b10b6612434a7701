"""Bodies as they may look, for the OpenAPI document: by the name of their schema."""

from __future__ import annotations

from typing import Any

from twingraph.executions.records import progress

_NODES = [
    {"id": "load", "type": "component", "component": "load_data", "config": {}},
    {"id": "process", "type": "component", "component": "process_data", "config": {"threshold": 0.5}},
]
_EDGES = [{"source": "load", "target": "process", "sourceHandle": "output", "targetHandle": "input"}]
_DEFINITION = {"nodes": _NODES, "edges": _EDGES}
_ABOUT = {"description": "Processes daily data feeds", "tags": ["production", "etl"]}
_SUMMARY = {
    "id": "workflow-123",
    "name": "Data Processing Pipeline",
    "created_at": "2026-01-15T10:00:00Z",
    "updated_at": "2026-01-15T14:30:00Z",
    "status": "active",
    "tags": ["production", "etl"],
}
_ASKED = {
    "workflow_id": "workflow-123",
    "inputs": {"source": "s3://bucket/input.csv", "threshold": 0.75},
    "config": {"max_parallel": 5, "timeout": 1800},
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "WorkflowBody": {"name": "Data Processing Pipeline", "definition": _DEFINITION, "metadata": _ABOUT},
    "WorkflowPage": {"workflows": [_SUMMARY], "total": 42, "page": 1, "size": 20},
    "Workflow": {
        **_SUMMARY,
        "definition": {**_DEFINITION, "metadata": _ABOUT},
        "version": 3,
        "executions": 156,
        "success_rate": 0.98,
        "warnings": [],
    },
    "ExecutionBody": _ASKED,
    "Execution": {
        "execution_id": "exec-456",
        "workflow_id": "workflow-123",
        "name": "Data Processing Pipeline",
        "status": "completed",
        "started_at": "2026-01-15T15:00:00Z",
        "completed_at": "2026-01-15T15:05:23Z",
        "duration": 323.0,
        "progress": progress({"completed": 2}),
        "outputs": {"processed_records": 15420},
        "success": True,
    },
    "Logs": {
        "execution_id": "exec-456",
        "logs": [
            {
                "timestamp": "2026-01-15T15:00:01.250000Z",
                "level": "info",
                "component_id": "load",
                "message": "15420 rows",
                "attempt": 0,
            }
        ],
        "total": 1,
    },
    "Graph": {
        "nodes": [
            {
                "id": "load",
                "label": "load_data",
                "status": "completed",
                "platform": "docker",
                "started_at": "2026-01-15T15:00:00Z",
                "completed_at": "2026-01-15T15:00:45Z",
                "duration": 45.0,
                "properties": {"attempts": 1},
            },
            {"id": "process", "label": "process_data", "status": "running", "platform": "local"},
        ],
        "edges": [{"from": "load", "to": "process", "label": "data_flow"}],
    },
    "ComponentMetrics": {
        "component_id": "load_data",
        "executions": 1542,
        "success_rate": 0.995,
        "avg_duration": 42.3,
        "p50_duration": 40.1,
        "p95_duration": 58.2,
        "p99_duration": 89.5,
        "resource_usage": {"avg_cpu": 0.75, "avg_memory": "1.2GB", "peak_memory": "2.1GB"},
    },
    "BulkExecutions": {"executions": [_ASKED]},
    "BulkIds": {"ids": ["exec-456", "exec-457"]},
    "ErrorBody": {
        "detail": "There is no workflow 'workflow-123'.",
        "code": "workflow_not_found",
        "hint": "GET /api/workflows lists them.",
    },
}
