"""The application: routes, error bodies, headers. It is built from a `Context`, never imported ready-made."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from twingraph import wire
from twingraph.errors import GraphError
from twingraph.server.context import Context
from twingraph.server.problems import Problem
from twingraph.server.routes import bulk, executions, graph, workflows

_log = logging.getLogger("twingraph.server")
_VENDOR = "application/vnd.twingraph."

Next = Callable[[Request], Awaitable[Response]]


def create_app(context: Context, *, lifespan: Callable[[FastAPI], Any] | None = None) -> FastAPI:
    """The application that serves this context; `lifespan` is entered for as long as it runs."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            context.hub.open()
            stack.callback(context.hub.close)
            if lifespan is not None:
                await stack.enter_async_context(lifespan(app))
            yield

    app = FastAPI(
        title="TwinGraph",
        version=wire.API_VERSION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        responses={422: {"model": wire.ErrorBody}},
    )
    app.state.context = context
    for each in (workflows, executions, bulk, graph):
        app.include_router(each.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(GraphError, _broken)
    app.middleware("http")(_versioned)
    return app


async def _problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise TypeError(error)
    body = wire.ErrorBody(detail=error.detail, code=error.code, hint=error.hint)
    return JSONResponse(body.model_dump(exclude_none=True), error.status, error.headers)


async def _broken(_: Request, error: Exception) -> Response:
    _log.error("%s", error)
    body = wire.ErrorBody(detail=str(error), code="graph_unavailable", hint="Try again when the database is back.")
    return JSONResponse(body.model_dump(), 503, {"Retry-After": "5"})


async def _versioned(request: Request, call_next: Next) -> Response:
    """The version of the API, in what is asked for and in what is answered."""
    accepted = [each.split(";")[0].strip() for each in request.headers.get("accept", "").split(",")]
    wanted = [each for each in accepted if each.startswith(_VENDOR)]
    if wanted and wire.MEDIA_TYPE not in wanted and request.url.path.startswith("/api"):
        detail = f"This server speaks {wire.MEDIA_TYPE}, not {wanted[0]}."
        body = wire.ErrorBody(detail=detail, code="version_not_supported", hint=f"Accept: {wire.MEDIA_TYPE}")
        response: Response = JSONResponse(body.model_dump(), 406)
    else:
        response = await call_next(request)
        if wanted and response.headers.get("content-type", "").startswith("application/json"):
            response.headers["Content-Type"] = wire.MEDIA_TYPE
    response.headers["X-API-Version"] = wire.API_VERSION
    return response
