"""/api/bulk: many at once, which counts against a limit of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from twingraph import wire
from twingraph.server.bodies import Route
from twingraph.server.callers import Caller
from twingraph.server.context import Cases, caller, needs, said
from twingraph.server.problems import Problem

router = APIRouter(prefix="/api/bulk", tags=["bulk"], route_class=Route)


@router.post("/executions", status_code=201, dependencies=[needs("run")], openapi_extra=said("run"))
def execute_all(cases: Cases, body: wire.BulkExecutions, who: Annotated[Caller, Depends(caller)]) -> wire.BulkAnswer:
    """Ask for several executions; the answer tells of each, in their order."""
    return cases.execute_all(body.executions, who.name)


@router.post("/executions/stop", dependencies=[needs("run")], openapi_extra=said("run"))
def stop_all(cases: Cases, body: wire.BulkIds) -> wire.BulkAnswer:
    """End several executions."""
    return _each(body.ids, cases.stop)


@router.post("/executions/get", dependencies=[needs("read")], openapi_extra=said("read"))
def get_all(cases: Cases, body: wire.BulkIds) -> wire.BulkAnswer:
    """Several executions."""
    return _each(body.ids, cases.execution)


def _each(ids: Sequence[str], do: Callable[[str], wire.Execution]) -> wire.BulkAnswer:
    made: list[wire.Execution | wire.ErrorBody] = []
    for each in ids:
        try:
            made.append(do(each))
        except Problem as problem:
            made.append(wire.ErrorBody(detail=problem.detail, code=problem.code, hint=problem.hint))
    return wire.BulkAnswer(results=made)
