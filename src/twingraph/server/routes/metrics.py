"""/metrics: figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from twingraph.server.context import context, needs, said
from twingraph.server.measures import MEDIA_TYPE, measures

router = APIRouter(tags=["monitoring"])

_TEXT = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "In Prometheus' text format."}}


@router.get(
    "/metrics",
    dependencies=[needs("read")],
    openapi_extra=said("read"),
    response_class=PlainTextResponse,
    responses=_TEXT,  # type: ignore[arg-type]  # keys are numbers or texts
)
def get_metrics(request: Request) -> PlainTextResponse:
    """How many executions, calls, requests and WebSockets there are, and what the server uses."""
    return PlainTextResponse(measures(context(request)), media_type=MEDIA_TYPE)
