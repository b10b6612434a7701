"""/api/workflows: workflows that are stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response

from twingraph import wire
from twingraph.server.bodies import Route
from twingraph.server.callers import Caller
from twingraph.server.context import Cases, IfMatch, IfNoneMatch, caller, etag, needs, said, version_in
from twingraph.server.masking import masked

router = APIRouter(prefix="/api/workflows", tags=["workflows"], route_class=Route)

_ERRORS: dict[int | str, dict[str, Any]] = {404: {"model": wire.ErrorBody, "description": "There is no such workflow."}}
_CHANGED: dict[int | str, dict[str, Any]] = {
    **_ERRORS,
    409: {"model": wire.ErrorBody, "description": "There is one already, or a file that is served defines it."},
    412: {"model": wire.ErrorBody, "description": "It was changed meanwhile."},
}
_STORED: dict[int | str, dict[str, Any]] = {
    201: {"model": wire.Workflow, "description": "It is new."},
    409: _CHANGED[409],
    412: _CHANGED[412],
}

Who = Annotated[Caller, Depends(caller)]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
Size = Annotated[int, Query(ge=1)]


@router.get("", dependencies=[needs("read")], openapi_extra=said("read"))
def list_workflows(
    cases: Cases, page: Page = 1, size: Size = 20, tag: str = "", status: wire.WorkflowStatus | Literal[""] = ""
) -> wire.WorkflowPage:
    """Workflows, newest first; of a `size` beyond 100, 100 are given."""
    return cases.workflows(tag, status, page, min(size, 100))


@router.post("", status_code=201, dependencies=[needs("author")], openapi_extra=said("author"))
def create_workflow(cases: Cases, body: wire.WorkflowBody, response: Response) -> wire.Workflow:
    """Store a workflow under an id that is made for it."""
    made, _ = cases.put_workflow(None, body)
    response.headers["ETag"] = etag(made.version)
    response.headers["Location"] = f"/api/workflows/{made.id}"
    return made


@router.get("/{workflow_id}", dependencies=[needs("read")], openapi_extra=said("read"), responses=_ERRORS)
def get_workflow(cases: Cases, workflow_id: str, who: Who, response: Response) -> wire.Workflow:
    """One workflow; what is secret in it is `***` to who may not store it."""
    found = cases.workflow(workflow_id)
    if not who.may("author"):
        found = masked(found)
    response.headers["ETag"] = etag(found.version)
    return found


@router.post(
    "/{workflow_id}",
    dependencies=[needs("author")],
    openapi_extra=said("author"),
    responses=_STORED,
    operation_id="post_workflow",
)
@router.put("/{workflow_id}", dependencies=[needs("author")], openapi_extra=said("author"), responses=_STORED)
def put_workflow(
    cases: Cases,
    workflow_id: str,
    body: wire.WorkflowBody,
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> wire.Workflow:
    """Store a workflow under this id: a new one, or a new version of the one that is there."""
    made, new = cases.put_workflow(workflow_id, body, version_in(if_match, if_none_match))
    response.status_code = 201 if new else 200
    response.headers["ETag"] = etag(made.version)
    return made


@router.get("/{workflow_id}/schedule", dependencies=[needs("read")], openapi_extra=said("read"), responses=_ERRORS)
def get_schedule(cases: Cases, workflow_id: str) -> wire.Schedule:
    """When a workflow starts by itself: the next times, and what came of the last."""
    return cases.schedule(workflow_id)


@router.delete("/{workflow_id}", dependencies=[needs("author")], openapi_extra=said("author"), responses=_CHANGED)
def delete_workflow(cases: Cases, workflow_id: str, if_match: IfMatch = None) -> wire.Deleted:
    """Remove a workflow; its executions stay."""
    return cases.delete_workflow(workflow_id, version_in(if_match, None))
