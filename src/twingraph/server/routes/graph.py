"""/api/graph, /api/metrics, /api/components: what is known of executions and components."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from twingraph import wire
from twingraph.server.bodies import Route
from twingraph.server.context import Cases, context, needs, said

router = APIRouter(tags=["monitoring"], route_class=Route)

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": wire.ErrorBody, "description": "There is none such."}}


@router.get(
    "/api/graph/execution/{execution_id}",
    dependencies=[needs("read")],
    openapi_extra=said("read"),
    responses=_MISSING,
    response_model=wire.Graph,
)
def get_graph(cases: Cases, execution_id: str) -> Response:
    """The graph of an execution."""
    return Response(cases.graph_of(execution_id), media_type="application/json")


@router.get(
    "/api/metrics/components/{component_id}",
    dependencies=[needs("read")],
    openapi_extra=said("read"),
    responses=_MISSING,
)
def get_component_metrics(cases: Cases, component_id: str) -> wire.ComponentMetrics:
    """How calls of a component went, by its name or the id of a node."""
    return cases.metrics(component_id)


@router.get("/api/components", dependencies=[needs("read")], openapi_extra=said("read"))
def list_components(cases: Cases) -> wire.Components:
    """All that nodes can call for, with a JSON schema of its inputs."""
    return cases.components()


@router.get("/health", openapi_extra={"x-scope": "none"})
def get_health(request: Request, cases: Cases) -> wire.Health:
    """That the server is there."""
    made = context(request)
    return cases.health(made.version, made.database)
