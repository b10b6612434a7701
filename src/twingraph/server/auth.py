"""Who asks: API keys and tokens. Off until there is a key or a secret; a server beyond this machine needs one.

A key comes in `X-API-Key`, a token (JWT, HS256 and nothing else) in `Authorization: Bearer`; a WebSocket of a browser,
which can send neither, may say `?api_key=` or `?token=`. What they may do is a scope: read, run, author or admin.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lokki.errors import nearest
from lokki.frozen import field, frozen
from twingraph.errors import ComponentError
from twingraph.executions import keys
from twingraph.executions.repository import Repository
from twingraph.server.callers import SCOPES, Caller, Scope
from twingraph.server.problems import Problem
from twingraph.settings import load_settings

_KEPT = 5.0  # seconds for which what the database says of a key is believed
_MOST = 10_000
_SHORTEST_SECRET = 32
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="twingraph", ApiKey realm="twingraph"'}


@frozen
class Credentials:
    """What the environment says of who may ask.

    Attributes:
        keys: by the digest of a key its scope (`TWINGRAPH_API_KEYS`).
        secret: what tokens are signed with (`TWINGRAPH_JWT_SECRET`).
    """

    keys: Mapping[str, Scope] = field(default_factory=dict)
    secret: str = ""


def credentials(api_keys: str, jwt_secret: str) -> Credentials:
    """What `KEY` or `KEY:scope`, separated by commas, and a secret say."""
    known: dict[str, Scope] = {}
    for each in filter(None, (part.strip() for part in api_keys.split(","))):
        key, _, scope = each.rpartition(":") if each.rpartition(":")[2] in SCOPES else (each, "", "admin")
        if ":" in key:
            wrong = key.rpartition(":")[2]
            raise ComponentError(f"TWINGRAPH_API_KEYS: {wrong!r} is no scope{nearest(wrong, SCOPES) or '.'}")
        known[keys.digest(key)] = _scope(scope)
    if jwt_secret and len(jwt_secret) < _SHORTEST_SECRET:
        raise ComponentError(
            f"TWINGRAPH_JWT_SECRET is shorter than {_SHORTEST_SECRET} characters, which can be guessed."
        )
    return Credentials(known, jwt_secret)


def from_settings() -> Credentials:
    """What the environment says."""
    settings = load_settings()
    return credentials(settings.api_keys, settings.jwt_secret)


class Gate:
    """Finds out who asks."""

    def __init__(self, graph: Repository, told: Credentials) -> None:
        self._graph = graph
        self._told = told
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Caller | None]] = {}
        self._on: tuple[float, bool] = (0.0, False)

    @property
    def is_on(self) -> bool:
        """Whether anybody has to say who they are."""
        if self._told.keys or self._told.secret:
            return True
        at, known = self._on
        if time.monotonic() - at > _KEPT or not at:
            known = keys.are_there(self._graph)
            self._on = (time.monotonic(), known)
        return known

    def at_once(self, address: str) -> Caller | None:
        """Who asks, where nobody has to say it and this is known without the database."""
        at, known = self._on
        told = self._told.keys or self._told.secret or known or not at or time.monotonic() - at > _KEPT
        return None if told else Caller(f"ip:{address}")

    def caller(self, headers: Mapping[str, str], address: str, query: Mapping[str, str] | None = None) -> Caller:
        """Who asks; a `Problem` 401 for who does not say it, or not rightly."""
        if not self.is_on:
            return Caller(f"ip:{address}")
        key = headers.get("x-api-key") or (query or {}).get("api_key", "")
        if key:
            return self._by_key(key)
        told = headers.get("authorization") or (query or {}).get("token", "")
        if not told:
            raise Problem(
                401, "not_authenticated", "This server wants to know who asks.",
                "Send an API key in X-API-Key, or a token in Authorization: Bearer.", _CHALLENGE,
            )  # fmt: skip
        kind, _, token = told.strip().rpartition(" ")
        if kind and kind.lower() != "bearer":
            raise _refused(f"Authorization of kind {kind!r} is not known here; it is Bearer.")
        return self._by_token(token)

    def _by_key(self, key: str) -> Caller:
        digest = keys.digest(key)
        for known, scope in self._told.keys.items():
            if hmac.compare_digest(known, digest):
                return Caller(f"key:{digest[:12]}", scope)
        with self._lock:
            at, caller = self._known.get(digest, (0.0, None))
        if time.monotonic() - at > _KEPT or not at:
            found = keys.valid(self._graph, key)
            caller = Caller(f"key:{found.id}", _scope(found.scope)) if found else None
            with self._lock:
                if len(self._known) > _MOST:
                    self._known.clear()
                self._known[digest] = (time.monotonic(), caller)
        if caller is None:
            raise _refused("This API key is not known here, or not valid any more.")
        return caller

    def _by_token(self, token: str) -> Caller:
        if not self._told.secret:
            raise _refused("This server takes API keys, in X-API-Key, and no tokens.")
        import jwt

        try:
            claims = jwt.decode(token, self._told.secret, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.ExpiredSignatureError:
            raise _refused("This token has expired.") from None
        except jwt.InvalidTokenError:
            raise _refused("This token is not valid here.") from None
        return Caller(f"sub:{claims.get('sub', '')}", _scope_in(claims))


def _refused(detail: str) -> Problem:
    return Problem(401, "not_authenticated", detail, None, _CHALLENGE)


def _scope_in(claims: Mapping[str, Any]) -> Scope:
    """The greatest scope that a token's claims name; reading, where they name none."""
    told: list[str] = []
    for name in ("scope", "scopes", "role", "roles"):
        value = claims.get(name)
        told += value.split() if isinstance(value, str) else [str(each) for each in _several(value)]
    found = [each for each in SCOPES if each in told]
    return found[-1] if found else "read"


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _scope(name: str) -> Scope:
    for each in SCOPES:
        if each == name:
            return each
    raise ComponentError(f"There is no scope {name!r}; there are {', '.join(SCOPES)}.")
