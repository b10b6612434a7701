"""The engine's HTTP side: moto's services on a port of this machine, for callers whom the engine knows, counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lokki.simulate.processes import Caller

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

_CREDENTIAL = re.compile(r"Credential=([^/,\s&]+)/[^/]+/[^/]+/([^/]+)/", re.IGNORECASE)
_REFUSED = (
    b"<Error><Code>InvalidAccessKeyId</Code><Message>Only what the simulation started may call it.</Message></Error>"
)


def front(service: Callable[[str], Application], callers: Mapping[str, Caller]) -> Application:
    """An application that hands the requests of known callers to the service they are for, and counts those to S3.

    Whoever may write here makes the functions unpickle what he wrote, with the rights of the user who simulates. So an
    access key is as hard to guess as a password.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", "")) or _CREDENTIAL.search(_unquoted(environ))
        caller = callers.get(signed[1]) if signed else None
        if signed is None or caller is None:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [_REFUSED]
        if signed[2] == "s3" and caller.tally:
            caller.tally.request(caller.kind, kind(environ))
        return service(signed[2])(environ, start_response)

    return application


def _unquoted(environ: Environ) -> str:
    query: str = environ.get("QUERY_STRING", "")
    return query.replace("%2F", "/").replace("%2f", "/")


def kind(environ: Environ) -> str:
    """What AWS bills a request to S3 as, in the words of `Counts.requests`."""
    asked = {part.partition("=")[0] for part in environ.get("QUERY_STRING", "").split("&")}
    match environ["REQUEST_METHOD"]:
        case _ if "uploadId" in asked or "uploads" in asked:
            return "multipart"
        case "GET" if "/" not in environ["PATH_INFO"].strip("/"):
            return "LIST"
        case "GET" if "HTTP_RANGE" in environ:
            return "GET range"
        case "PUT" if "HTTP_X_AMZ_COPY_SOURCE" in environ:
            return "COPY"
        case "POST":
            return "DELETE"
        case method:
            return str(method)
