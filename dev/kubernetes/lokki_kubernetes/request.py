"""A request as the server understands it, and the faults that tests ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lokki_kubernetes.resources import Resource


def flag(query: dict[str, str], name: str) -> bool:
    """Any word but `false` and `0` means yes, as in Kubernetes' own query parsing."""
    return query.get(name, "false").lower() not in ("false", "0")


@dataclass
class Fault:
    """Answer `code` to the next `times` matching requests, after `delay` seconds."""

    verb: str = "*"  # get list watch create update patch delete log
    resource: str = "*"
    namespace: str = "*"
    name: str = "*"
    code: int = 500
    reason: str = "InternalError"
    message: str = "fault injected by the test"
    times: int = 1
    delay: float = 0.0

    def matches(self, verb: str, plural: str, namespace: str, name: str) -> bool:
        """Whether this fault is for such a request."""
        wanted = (self.verb, verb), (self.resource, plural), (self.namespace, namespace), (self.name, name)
        return self.times > 0 and all(pattern in ("*", value) for pattern, value in wanted)


@dataclass
class Request:
    method: str
    resource: Resource
    namespace: str
    name: str
    sub: str
    query: dict[str, str]
    body: Any = None
    content_type: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def verb(self) -> str:
        if self.sub == "log":
            return "log"
        if self.method == "GET":
            return "watch" if flag(self.query, "watch") else "get" if self.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.method]
