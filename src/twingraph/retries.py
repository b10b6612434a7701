"""`retry_policy={...}` as the kernel's retry policy: exceptions may be named, and waits may grow in other ways.

A name is compared with every class of the exception, so that the exception's module need not be importable here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lokki.errors import GraphValidationError, nearest
from lokki.frozen import frozen
from lokki.policy import RetryConfig
from twingraph.errors import ComponentError, ComponentTypeError, RemoteError

_KEYS = ("max_attempts", "backoff", "initial_delay", "max_delay", "exceptions")
_GROWTH = ("exponential", "linear", "fixed")


@frozen
class Retries(RetryConfig):
    """When a component is tried again.

    Attributes:
        growth: how waits grow: "exponential" (1, 2, 4, ...), "linear" (1, 2, 3, ...) or "fixed".
        names: the exceptions worth a retry by the names of their classes; empty for all.
    """

    growth: str = "exponential"
    names: tuple[str, ...] = ()

    def matches(self, error: BaseException) -> bool:
        """Whether this error, or a class that it is a kind of, is named; any `Exception` when none are."""
        if not isinstance(error, Exception):
            return False
        return not self.names or not set(self.names).isdisjoint(_names(error))

    def wait(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (the first is 0)."""
        match self.growth:
            case "linear":
                return min(self.delay * (attempt + 1), self.max_delay)
            case "fixed":
                return min(self.delay, self.max_delay)
            case _:
                return super().wait(attempt)


ONCE = Retries()


def retries(policy: Mapping[str, Any] | Retries | None, where: str) -> Retries:
    """The policy that `retry_policy=` describes; without one, a component runs once. Errors begin with `where`."""
    if policy is None:
        return ONCE
    if isinstance(policy, Retries):
        return policy
    if not isinstance(policy, Mapping):
        kind = type(policy).__name__
        raise ComponentTypeError(f"{where}: it takes a dict such as {{'max_attempts': 3}}, not {kind}.")
    for key in policy:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS) or "."
            raise ComponentError(f"{where}: no key {key!r}{near} It takes {', '.join(_KEYS)}.")
    attempts = policy.get("max_attempts", 3)
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise ComponentTypeError(f"{where}: max_attempts takes a whole number, not {attempts!r}.")
    if attempts < 1:
        raise ComponentError(f"{where}: max_attempts counts the first attempt too, so it is 1 or more, not {attempts}.")
    growth = policy.get("backoff", "exponential")
    if growth not in _GROWTH:
        raise ComponentError(f"{where}: backoff is one of {', '.join(_GROWTH)}, not {growth!r}.")
    try:
        return Retries(
            retries=attempts - 1,
            delay=policy.get("initial_delay", 1),
            max_delay=policy.get("max_delay", 60),
            growth=growth,
            names=tuple(_named(policy.get("exceptions") or (), where)),
        )
    except GraphValidationError as error:
        text = str(error).replace("RetryConfig.delay", "initial_delay").replace("RetryConfig.", "")
        kind = ComponentTypeError if isinstance(error, TypeError) else ComponentError
        raise kind(f"{where}: {text}") from None


def _named(exceptions: Any, where: str) -> Iterator[str]:
    several = isinstance(exceptions, Iterable) and not isinstance(exceptions, str | type)
    for each in exceptions if several else [exceptions]:
        if isinstance(each, type) and issubclass(each, BaseException):
            yield f"{each.__module__}.{each.__qualname__}"
        elif isinstance(each, str) and each:
            yield each
        else:
            names = "names such as 'TimeoutError', or classes"
            raise ComponentTypeError(f"{where}: exceptions takes {names}, not {each!r}.")


def _names(error: BaseException) -> Iterator[str]:
    if isinstance(error, RemoteError):
        yield from error.mro
    for each in type(error).__mro__:
        yield each.__name__
        yield each.__qualname__
        yield f"{each.__module__}.{each.__qualname__}"
