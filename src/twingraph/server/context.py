"""What routes get of the application, and what they say about themselves: the scope that a key needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from lokki.frozen import field, frozen
from twingraph.server.auth import Credentials, Gate
from twingraph.server.callers import Caller, Scope
from twingraph.server.hosts import refuse_strange
from twingraph.server.limits import Limits, Places
from twingraph.server.live import Hub
from twingraph.server.problems import Problem
from twingraph.server.service import Launcher, Service
from twingraph.server.traffic import Traffic


@frozen(eq=False)
class Context:
    """What one server is made of.

    Attributes:
        service: the use cases.
        launcher: who runs executions.
        hub: who listens to them.
        gate: finds out who asks.
        limits: how much one client may ask for.
        origins: pages of these may use the API from a browser, besides the server's own.
        here: whether it answers this machine only, and trusts whoever asks from there.
        sockets: how many WebSockets each client has open.
        traffic: what was answered so far.
        database: what the database is called.
        version: of this program.
    """

    service: Service
    launcher: Launcher
    hub: Hub
    gate: Gate
    database: str = ""
    version: str = ""
    limits: Limits = field(default_factory=Limits)
    origins: tuple[str, ...] = ()
    sockets: Places = field(default_factory=Places)
    traffic: Traffic = field(default_factory=Traffic)
    here: bool = False

    def refuse_strange(self, who: Caller, host: str) -> None:
        """Refuse who did not have to say who they are and calls the server by a name that is not this machine's."""
        if self.here and not who.known:
            refuse_strange(host, self.origins)


def open_context(
    service: Service,
    launcher: Launcher,
    *,
    told: Credentials | None = None,
    limits: Limits | None = None,
    origins: tuple[str, ...] = (),
    version: str = "",
    here: bool = False,
) -> Context:
    """The parts of a server, put together."""
    from twingraph.executions.telling import named

    gate = Gate(service.graph, told or Credentials())
    database = named(service.graph.url)
    return Context(service, launcher, Hub(), gate, database, version, limits or Limits(), origins, here=here)


def context(request: Request) -> Context:
    """The server that a request came to."""
    made: Context = request.app.state.context
    return made


async def service(request: Request) -> Service:
    """The use cases."""
    return context(request).service


async def caller(request: Request) -> Caller:
    """Who asks; the middleware found out."""
    found: Caller | None = getattr(request.state, "caller", None)
    return found or Caller(request.client.host if request.client else "unknown")


def needs(scope: Scope) -> Any:
    """A dependency: the caller must have this scope. The OpenAPI document tells it.

    Dependencies are coroutines although they wait for nothing: functions would each be sent to a thread.
    """

    async def check(who: Annotated[Caller, Depends(caller)]) -> Caller:
        if not who.may(scope):
            raise Problem(403, "scope_needed", f"This needs a key with the scope {scope!r}; yours has {who.scope!r}.")
        return who

    return Depends(check)


def said(scope: Scope) -> dict[str, Any]:
    """What a route says of itself in the OpenAPI document."""
    return {"x-scope": scope}


def version_in(if_match: str | None, if_none_match: str | None) -> int | None:
    """The version that a change expects: of `If-Match`, or none at all (0) for `If-None-Match: *`."""
    if if_none_match is not None and if_none_match.strip() == "*":
        return 0
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"').removeprefix("v")
    if not text.isdigit():
        raise Problem(412, "version_changed", f"If-Match: {if_match} is no version that this workflow has had.")
    return int(text)


def etag(version: int) -> str:
    """A version as an ETag."""
    return f'"v{version}"'


Cases = Annotated[Service, Depends(service)]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="Change only this version of it.")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="`*`: only where there is none yet.")]
Idempotency = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
Made = Callable[..., Any]
