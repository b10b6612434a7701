"""Who asks, and what they may do."""

from __future__ import annotations

from typing import Literal

from lokki.frozen import frozen

Scope = Literal["read", "run", "author", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "run", "author", "admin")
"""Each may do what the ones before it may."""


@frozen
class Caller:
    """Who asks: what limits are counted by, and how much they may do."""

    name: str
    scope: Scope = "admin"

    @property
    def known(self) -> bool:
        """Whether they said who they are."""
        return not self.name.startswith("ip:")

    def may(self, scope: Scope) -> bool:
        """Whether they may do what needs this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)
