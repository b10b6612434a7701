"""What a platform is, and the one loop that waits for a call on any of them.

A platform only starts a call, looks how it is, fetches what it printed, and ends it. Timeouts, cancelling, how often to
look and cleaning up are the business of `run`, here. Retries are the kernel's: each attempt is a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from time import monotonic
from typing import Any, Protocol

from lokki.errors import nearest
from lokki.runtime.failure import Cancelled
from twingraph.errors import ComponentError, ComponentTimeoutError
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.owners import Left, Sweeping

__all__ = [
    "Left",
    "Outcome",
    "Placed",
    "Platform",
    "Raised",
    "Returned",
    "Sweeping",
    "platform",
    "platform_names",
    "register_platform",
    "run",
]

_FIRST_LOOK = 0.02  # seconds; a platform that can wait for an event answers sooner
_LONGEST_LOOK = 1.0


class Platform(Protocol):
    """Where calls run. One object serves all calls of a process, from many threads at once.

    `options` are the keys of `config=` that it knows. Its client library is imported when a call needs it, not before.
    """

    name: str
    options: frozenset[str]

    def check(self) -> str:
        """What it would run on ("Docker 28.2 at unix:///var/run/docker.sock"), or a `PlatformUnavailableError`."""

    def start(self, call: Placed) -> Any:
        """Begin the call; returns what the other methods know it by. What it made before an error, it removes.

        A job that cannot be ended has an attribute `goes_on`, a sentence that says so when the call takes too long.
        """

    def poll(self, job: Any, seconds: float) -> Outcome | None:
        """What became of the call, or None; may wait for that, at most so many seconds. Hands on new log lines."""

    def cancel(self, job: Any) -> None:
        """End the call now, if the platform can; it is not polled again."""

    def clear(self, job: Any) -> None:
        """Remove what the call left behind; comes last in every case, also after `cancel`."""


def run(platform: Platform, call: Placed) -> Any:
    """Run the call to its end; returns what the function returned or raises what it raised."""
    limit = call.placement.timeout
    deadline = monotonic() + limit if limit else float("inf")
    job = platform.start(call)
    try:
        outcome = _wait(platform, job, call, deadline)
    finally:
        platform.clear(job)
    if isinstance(outcome, Returned):
        return outcome.value
    raise outcome.error


def _wait(platform: Platform, job: Any, call: Placed, deadline: float) -> Outcome:
    looks = _looks()
    try:
        while True:
            left = deadline - monotonic()
            outcome = platform.poll(job, max(min(next(looks), left), 0))
            if outcome is not None:
                return outcome
            if call.stop.is_set():
                raise Cancelled(f"component {call.component!r} was stopped")
            if monotonic() >= deadline:
                raise ComponentTimeoutError(
                    f"{call.who} took longer than its timeout of {call.placement.timeout:g} s "
                    f"on platform {platform.name!r}.{getattr(job, 'goes_on', '')}"
                )
    except BaseException:
        platform.cancel(job)
        raise


def _looks() -> Iterator[float]:
    seconds = _FIRST_LOOK
    while True:
        yield seconds
        seconds = min(seconds * 1.5, _LONGEST_LOOK)


_PLATFORMS: dict[str, str | Callable[[], Platform]] = {
    "local": "twingraph.platforms.local:Local",
    "docker": "twingraph.platforms.docker:Docker",
    "kubernetes": "twingraph.platforms.kubernetes:Kubernetes",
    "lambda": "twingraph.platforms.awslambda:Lambda",
    "batch": "twingraph.platforms.batch:Batch",
}


def register_platform(name: str, make: Callable[[], Platform]) -> None:
    """Add a platform, or replace one: `make` is called once, when a component first names it."""
    _PLATFORMS[name] = make
    platform.cache_clear()


def platform_names() -> tuple[str, ...]:
    """The platforms that a component may name."""
    return tuple(_PLATFORMS)


@lru_cache
def platform(name: str) -> Platform:
    """The platform of that name."""
    if name not in _PLATFORMS:
        near = nearest(str(name), _PLATFORMS) or "."
        raise ComponentError(f"There is no platform {name!r}{near} It is one of {', '.join(_PLATFORMS)}.")
    make = _PLATFORMS[name]
    if isinstance(make, str):
        from importlib import import_module

        module, _, kind = make.partition(":")
        make = getattr(import_module(module), kind)
    made: Platform = make()
    return made
