"""The OpenAPI document: what the routes say of themselves, and what every request passes at the door.

Answers of the door and of the database are the same everywhere, so they are described once and referred to.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from twingraph import wire
from twingraph.server.examples import EXAMPLES

Json = dict[str, Any]

_DESCRIPTION = f"""\
Workflows, executions of them, and what is known about both. What happens in executions is told, as it happens, by the
WebSocket at `/ws`.

A server without keys answers everybody on its own machine. Otherwise a key is sent in `X-API-Key`, or a token in
`Authorization: Bearer`; `x-scope` says which scope a call needs: each of read, run, author and admin may do what those
before it may.

`Accept: {wire.MEDIA_TYPE}` asks for this version, and is answered with that type; without it the type is
`application/json`. Every answer says the version in `X-API-Version`, and how much may be asked for in
`X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
"""

_ANSWERS = {
    401: ("NotAuthenticated", "The server wants to know who asks, or does not know this key or token."),
    403: ("ScopeNeeded", "The key or token is of a scope that may not do this."),
    406: ("VersionNotSupported", "The version of the API that `Accept` asks for is not spoken here."),
    413: ("BodyTooLarge", "The request is too large."),
    429: ("RateLimited", "Too many requests in this minute."),
    503: ("Unavailable", "The database cannot be reached, or the server is stopping."),
}
_EVERYWHERE = (401, 403, 406, 429, 503)
_WAIT: Json = {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 1}}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"description": "What is wanted.", "schema": {"type": "string"}}},
    429: {
        "Retry-After": _WAIT,
        "X-RateLimit-Limit": {"description": "Requests in a minute.", "schema": {"type": "integer"}},
        "X-RateLimit-Remaining": {"description": "How many are left.", "schema": {"type": "integer"}},
        "X-RateLimit-Reset": {"description": "When the minute is over (seconds).", "schema": {"type": "integer"}},
    },
    503: {"Retry-After": _WAIT},
}
_INVALID: Json = {
    "description": "What was sent is not as it should be: field by field, or in a sentence.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/HTTPValidationError"},
                    {"$ref": "#/components/schemas/ErrorBody"},
                ]
            }
        }
    },
}
_SCHEMES: Json = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


def document(app: FastAPI) -> Json:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> Json:
    told = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    told["info"]["license"] = {"name": "MIT"}
    told["tags"] = [{"name": name, "description": about} for name, about in _TAGS.items()]
    parts = told["components"]
    parts["securitySchemes"] = _SCHEMES
    parts["responses"] = {"Invalid": _INVALID, **{name: _answer(status) for status, (name, _) in _ANSWERS.items()}}
    for calls in told["paths"].values():
        for call in calls.values():
            _complete(call)
            _describe(call, parts["schemas"])
    for name, example in EXAMPLES.items():
        parts["schemas"][name]["examples"] = [example]
    return told


_TAGS = {
    "workflows": "Workflows that are stored.",
    "executions": "Executions of workflows.",
    "bulk": "Many at once; there is a limit of its own for these.",
    "monitoring": "What is known of executions, components and the server.",
}


def _answer(status: int) -> Json:
    made: Json = {
        "description": _ANSWERS[status][1],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    }
    if status in _HEADERS:
        made["headers"] = _HEADERS[status]
    return made


def _complete(call: Json) -> None:
    """Add what an operation does not say itself."""
    answers = call["responses"]
    if call["x-scope"] == "none":
        answers["503"] = _reference("Unavailable")
        answers.pop("422", None)
        return
    call["security"] = [{"ApiKey": []}, {"Token": []}, {}]
    for status in (*_EVERYWHERE, *((413,) if "requestBody" in call else ())):
        answers[str(status)] = _reference(_ANSWERS[status][0])
    answers.pop("422", None)
    if call.get("parameters") or "requestBody" in call:
        answers["422"] = _reference("Invalid")
    call["responses"] = {status: answers[status] for status in sorted(answers)}


def _describe(call: Json, schemas: Json) -> None:
    """Say of an answer what its body says of itself, where the route says nothing."""
    for answer in call["responses"].values():
        if answer.get("description") == "Successful Response":
            name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            answer["description"] = schemas[name]["description"]


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}
