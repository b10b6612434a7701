"""Each call of the API, said once: its method, path, query and body, and what its answer is made into."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from lokki.frozen import field, frozen
from lokki.jsonable import plain
from twingraph import wire
from twingraph.client.pages import several

T = TypeVar("T", bound=wire.Body)


@frozen
class Call(Generic[T]):
    """One request.

    Attributes:
        what: what is asked, for messages.
        method: such as "GET".
        path: below the server's address.
        answer: what the body of the answer is.
        query: what stands behind the question mark.
        body: what is sent, as JSON.
        headers: beside those that every request has.
        repeatable: whether asking twice does no more than asking once.
        wait: seconds that the server may take longer than for others, because it was told to wait.
    """

    what: str
    method: str
    path: str
    answer: type[T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    wait: float = 0.0

    @property
    def content(self) -> bytes | None:
        """What is sent."""
        return None if self.body is None else json.dumps(self.body).encode()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query without what was not said; of several values, each."""
        said = ((name, each if isinstance(each, list) else [each]) for name, each in self.query.items())
        return [(name, _text(each)) for name, several in said for each in several if each is not None and each != ""]


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def _at(*parts: str) -> str:
    """A path below /api; an id may hold anything."""
    return "/api/" + "/".join(_quoted(each) for each in parts)


def _quoted(part: str) -> str:
    made = quote(part, safe="")
    return made.replace(".", "%2E") if set(made) <= {"."} else made


# ---- Workflows


def list_workflows(tag: str | None, status: str | None, page: int | None, size: int | None) -> Call[wire.WorkflowPage]:
    """GET /api/workflows."""
    query = {"tag": tag, "status": status, "page": page, "size": size}
    return Call("The list of workflows", "GET", _at("workflows"), wire.WorkflowPage, query)


def get_workflow(workflow: str) -> Call[wire.Workflow]:
    """GET /api/workflows/{id}."""
    return Call(f"Workflow {workflow!r}", "GET", _at("workflows", workflow), wire.Workflow)


def create_workflow(body: Mapping[str, Any], workflow: str | None) -> Call[wire.Workflow]:
    """POST /api/workflows, or with an id PUT where there is none of it yet."""
    what = f"Creating workflow {workflow or body.get('name')!r}"
    if workflow is None:
        return Call(what, "POST", _at("workflows"), wire.Workflow, body=body, repeatable=False)
    headers = {"If-None-Match": "*"}
    return Call(what, "PUT", _at("workflows", workflow), wire.Workflow, body=body, headers=headers, repeatable=False)


def put_workflow(workflow: str, body: Mapping[str, Any], version: int | None) -> Call[wire.Workflow]:
    """PUT /api/workflows/{id}: a new version of it, only of this one if a version is given."""
    headers = {} if version is None else {"If-Match": f'"v{version}"'}
    return Call(
        f"Updating workflow {workflow!r}", "PUT", _at("workflows", workflow), wire.Workflow,
        body=body, headers=headers, repeatable=version is None,
    )  # fmt: skip


def delete_workflow(workflow: str) -> Call[wire.Deleted]:
    """DELETE /api/workflows/{id}."""
    return Call(f"Deleting workflow {workflow!r}", "DELETE", _at("workflows", workflow), wire.Deleted, repeatable=False)


# ---- Executions


def create_execution(
    workflow: str, inputs: Mapping[str, Any], config: Mapping[str, Any], key: str
) -> Call[wire.Execution]:
    """POST /api/executions, under a key by which the server knows it when it comes twice."""
    return Call(
        f"Executing workflow {workflow!r}", "POST", _at("executions"), wire.Execution,
        body={"workflow_id": workflow, "inputs": inputs, "config": config}, headers={"Idempotency-Key": key},
    )  # fmt: skip


def list_executions(
    workflow: str | None, status: str | None, page: int | None, size: int | None
) -> Call[wire.ExecutionPage]:
    """GET /api/executions."""
    query = {"workflow_id": workflow, "status": status, "page": page, "size": size}
    return Call("The list of executions", "GET", _at("executions"), wire.ExecutionPage, query)


def get_execution(execution: str, wait: float = 0.0) -> Call[wire.Execution]:
    """GET /api/executions/{id}, which may wait for the end of it."""
    query = {"wait": round(wait, 3)} if wait else {}
    return Call(
        f"Execution {execution!r}", "GET", _at("executions", execution), wire.Execution, query, wait=wait
    )  # fmt: skip


def stop_execution(execution: str) -> Call[wire.Execution]:
    """POST /api/executions/{id}/stop."""
    return Call(f"Stopping execution {execution!r}", "POST", _at("executions", execution, "stop"), wire.Execution)


def rerun_execution(execution: str, nodes: Iterable[str]) -> Call[wire.Execution]:
    """POST /api/executions/{id}/rerun."""
    return Call(
        f"Running execution {execution!r} again", "POST", _at("executions", execution, "rerun"), wire.Execution,
        {"from": several(nodes)}, repeatable=False,
    )  # fmt: skip


def get_logs(execution: str, query: Mapping[str, Any]) -> Call[wire.Logs]:
    """GET /api/executions/{id}/logs."""
    return Call(f"The log of execution {execution!r}", "GET", _at("executions", execution, "logs"), wire.Logs, query)


def get_graph(execution: str) -> Call[wire.Graph]:
    """GET /api/graph/execution/{id}."""
    return Call(f"The graph of execution {execution!r}", "GET", _at("graph", "execution", execution), wire.Graph)


# ---- Many at once


def execute_all(executions: Iterable[Mapping[str, Any]]) -> Call[wire.BulkAnswer]:
    """POST /api/bulk/executions."""
    body = {"executions": [{**each, "inputs": plain(dict(each.get("inputs") or {}))} for each in executions]}
    return Call("Executing many", "POST", _at("bulk", "executions"), wire.BulkAnswer, body=body, repeatable=False)


def get_all(executions: Iterable[str]) -> Call[wire.BulkAnswer]:
    """POST /api/bulk/executions/get."""
    path = _at("bulk", "executions", "get")
    return Call("Reading many executions", "POST", path, wire.BulkAnswer, body={"ids": list(executions)})


def stop_all(executions: Iterable[str]) -> Call[wire.BulkAnswer]:
    """POST /api/bulk/executions/stop."""
    path = _at("bulk", "executions", "stop")
    return Call("Stopping many executions", "POST", path, wire.BulkAnswer, body={"ids": list(executions)})


# ---- Components, health


def list_components() -> Call[wire.Components]:
    """GET /api/components."""
    return Call("The list of components", "GET", _at("components"), wire.Components)


def get_metrics(component: str) -> Call[wire.ComponentMetrics]:
    """GET /api/metrics/components/{id}."""
    path = _at("metrics", "components", component)
    return Call(f"The metrics of component {component!r}", "GET", path, wire.ComponentMetrics)


def get_health() -> Call[wire.Health]:
    """GET /health."""
    return Call("The server's health", "GET", "/health", wire.Health)
