"""The application: routes, error bodies, headers. It is built from a `Context`, never imported ready-made."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from twingraph import wire
from twingraph.errors import GraphError
from twingraph.server import sockets
from twingraph.server.context import Context
from twingraph.server.document import document
from twingraph.server.door import Door
from twingraph.server.problems import Problem, unavailable
from twingraph.server.routes import bulk, executions, graph, metrics, pages, workflows
from twingraph.server.shortcut import ShortCut

_LONGEST_INPUT = 1_000  # characters
_log = logging.getLogger("twingraph.server")


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
        responses={422: {"model": wire.ErrorBody}},  # the document says more of it
        generate_unique_id_function=_operation,
    )
    app.state.context = context
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # which is how it is made one's own
    for each in (workflows, executions, bulk, graph, metrics, pages, sockets):
        app.include_router(each.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(GraphError, _broken)
    app.add_exception_handler(HTTPException, _nowhere)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(ShortCut, service=context.service)
    app.add_middleware(Door, context=context)
    if context.origins:  # around the door: a browser asks first whether it may, and hides what does not say so
        app.add_middleware(
            CORSMiddleware, allow_origins=context.origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["ETag", "Location", "Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset"],
        )  # fmt: skip
    return app


def _operation(route: APIRoute) -> str:
    """What an operation is called in the document."""
    return route.operation_id or route.name


async def _nowhere(request: Request, error: Exception) -> Response:
    """What the framework says of paths and methods that there are not."""
    if not isinstance(error, HTTPException):
        raise TypeError(error)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    here = f"{request.method} {request.url.path}"
    detail = f"{here} is not a call of this API." if error.status_code in (404, 405) else str(error.detail)
    body = wire.ErrorBody(detail=detail, code=code, hint="GET /openapi.json lists the calls.")
    return JSONResponse(body.model_dump(), error.status_code, error.headers)


async def _problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise TypeError(error)
    body = wire.ErrorBody(detail=error.detail, code=error.code, hint=error.hint)
    return JSONResponse(body.model_dump(exclude_none=True), error.status, error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    """What the framework says of fields, without what was sent where that is long."""
    if not isinstance(error, RequestValidationError):
        raise TypeError(error)
    told: list[dict[str, Any]] = jsonable_encoder(error.errors())
    for each in told:
        if len(json.dumps(each.get("input"))) > _LONGEST_INPUT:
            del each["input"]
        if each["type"] == "unknown_field":
            del each["ctx"]  # which is the message once more
    return JSONResponse({"detail": told}, 422)


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s", error)
    return await _problem(request, unavailable(error))
