"""/api/executions: executions of workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from twingraph import wire
from twingraph.fields import with_zone
from twingraph.server.bodies import Route
from twingraph.server.callers import Caller
from twingraph.server.context import Cases, Idempotency, caller, context, needs, said
from twingraph.server.routes.workflows import Page, Size

router = APIRouter(prefix="/api/executions", tags=["executions"], route_class=Route)

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": wire.ErrorBody, "description": "There is none such."}}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    **_MISSING,
    409: {"model": wire.ErrorBody, "description": "It is not in a state for that."},
}
_EXISTING: dict[int | str, dict[str, Any]] = {
    **_MISSING,
    200: {"model": wire.Execution, "description": "The Idempotency-Key was used before, for this execution."},
}

Who = Annotated[Caller, Depends(caller)]
Wait = Annotated[float, Query(ge=0, description="Answer when it is over, or after so many seconds (60 at most).")]


@router.post(
    "",
    status_code=201,
    dependencies=[needs("run")],
    openapi_extra=said("run"),
    responses=_EXISTING,
    response_model=wire.Execution,
)
def execute(cases: Cases, body: wire.ExecutionBody, who: Who, idempotency_key: Idempotency = None) -> Response:
    """Ask for an execution; answers at once."""
    made, new = cases.execute(body, who.name, idempotency_key or "")
    return _told(made, 201 if new else 200, {"Location": f"/api/executions/{made.execution_id}"})


@router.get("", dependencies=[needs("read")], openapi_extra=said("read"))
def list_executions(
    cases: Cases,
    page: Page = 1,
    size: Size = 20,
    workflow_id: str = "",
    status: wire.ExecutionStatus | Literal[""] = "",
) -> wire.ExecutionPage:
    """Executions, newest first; of a `size` beyond 100, 100 are given."""
    return cases.executions(workflow_id, status, page, min(size, 100))


@router.get(
    "/{execution_id}",
    dependencies=[needs("read")],
    openapi_extra=said("read"),
    responses=_MISSING,
    response_model=wire.Execution,
)
async def get_execution(request: Request, cases: Cases, execution_id: str, wait: Wait = 0) -> Response:
    """One execution; with `wait`, when it is over or so many seconds have passed."""
    if wait:
        here = context(request)
        await here.hub.over(execution_id, min(wait, here.limits.wait), lambda: cases.is_over(execution_id))
    return _told(await asyncio.to_thread(cases.execution, execution_id))


@router.post("/{execution_id}/stop", dependencies=[needs("run")], openapi_extra=said("run"), responses=_CONFLICT)
def stop_execution(cases: Cases, execution_id: str) -> wire.Execution:
    """End an execution; one that is stopped already stays so."""
    return cases.stop(execution_id)


@router.post(
    "/{execution_id}/rerun",
    status_code=201,
    dependencies=[needs("run")],
    openapi_extra=said("run"),
    responses=_CONFLICT,
)
def rerun_execution(
    cases: Cases,
    execution_id: str,
    who: Who,
    start: Annotated[list[str] | None, Query(alias="from", description="Nodes to run anew, and what follows.")] = None,
) -> wire.Execution:
    """Run an execution again: from these nodes on, or what failed; outputs of the others are used again."""
    return cases.rerun(execution_id, start or (), who.name)


@router.get("/{execution_id}/logs", dependencies=[needs("read")], openapi_extra=said("read"), responses=_MISSING)
def get_logs(
    cases: Cases,
    execution_id: str,
    component_id: str = "",
    level: wire.Level = "debug",
    exact: bool = False,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> wire.Logs:
    """Lines of the log, oldest first: of this level and above, or of exactly this one."""
    return cases.logs(
        execution_id,
        component=component_id,
        level=level,
        exact=exact,
        since=_seconds(start_time),
        until=_seconds(end_time),
        after=after,
        limit=limit,
    )


def _told(execution: wire.Execution, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An execution as an answer; the framework would check it again."""
    return Response(execution.model_dump_json(by_alias=True), status, headers, "application/json")


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else with_zone(moment).timestamp()
