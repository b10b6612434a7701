"""One attempt of one call on its way to a platform, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lokki.pools import Stop
from twingraph.placement import Placement


class Placed(NamedTuple):
    """One attempt of one call, on its way to a platform.

    Attributes:
        id: unique, of small letters, digits and hyphens, at most 40 long: names containers and jobs.
        run: the execution that it is part of.
        node: the call's id in it.
        component: the component's name.
        attempt: how often it was tried before.
        fn: the function to call.
        args: what it is called with, by place.
        kwargs: what it is called with, by name.
        placement: where and with what.
        log: takes what the component printed or logged: a level in small letters and a line; `unheard` when nobody
            wants to know.
        usage: takes what the call used: `cpu_seconds`, `peak_memory_bytes`.
        stop: raised when the execution is over.
        command: where there is one, it runs the whole execution in place of the function, on platforms whose jobs can
            run a program of their image; the call is over when the program is, and returns None.
    """

    id: str
    run: str
    node: str
    component: str
    attempt: int
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    placement: Placement
    log: Callable[[str, str], None]
    usage: Callable[[Mapping[str, float]], None]
    stop: Stop
    command: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """What sentences call it."""
        return f"Execution {self.run!r}" if self.command else f"Component {self.component!r}"


def unheard(_level: str, _line: str) -> None:
    """Where the lines of a call go that nobody listens to."""


class Returned(NamedTuple):
    """The call is over, and this is what the function returned."""

    value: Any


class Raised(NamedTuple):
    """The call is over, and this is what the function raised, or what became of the call."""

    error: BaseException


Outcome = Returned | Raised
