"""A component of a user's own that is made like the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from twingraph.components.built_in import BuiltIn


class Greeter(BuiltIn):
    """Greets.

    Args:
        style: how it is done.
        times: how often.
    """

    extra = "transform"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        style: Literal["short", "long"] = "short",
        times: int = 1,
        api_key: str | None = None,
    ) -> None:
        super().__init__(config)
        self.style = style
        self.times = times
        self.api_key = api_key

    def execute(self, name: str, mark: str = "!") -> dict[str, Any]:
        """Greet somebody.

        Args:
            name: who is greeted,
                by name.
            mark: what it ends with.
        """
        word = "Hi" if self.style == "short" else "Good day"
        return {"said": [f"{word} {name}{mark}"] * self.times, "key": self.revealed(self.api_key)}


class Loud(Greeter):
    """Greets louder."""

    def __init__(self, config: Mapping[str, Any] | None = None, *, louder: int = 1) -> None:
        super().__init__(config)
        self.louder = louder

    def execute(self, name: str, mark: str = "!") -> dict[str, Any]:
        """Greet somebody loudly."""
        return super().execute(name.upper(), mark * (self.louder + 1))


class Saver(BuiltIn):
    """Tells what it would save."""

    def execute(self, path: str, data: Any) -> dict[str, Any]:
        """Tell it."""
        return {"saved": data, "path": path}
