"""`secret://NAME` among arguments: the function gets the secret, everybody else sees the reference.

It is looked up where the call is made, as the last thing before the function runs: what is recorded, hashed and sent to
a server is the reference. The secret itself is hidden wherever it turns up in values, logs and errors of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twingraph.errors import TwinGraphError
from twingraph.settings import secret

SCHEME = "secret://"
_DEEPEST = 4
_MOST = 256  # elements of a container that are looked at: references stand in arguments and settings, not in data


class SecretError(TwinGraphError):
    """A secret that a call refers to is not known here."""


def revealed(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with secrets in place of references."""
    return tuple(_revealed(each, 0) for each in args), {name: _revealed(each, 0) for name, each in kwargs.items()}


def travelling(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function on its way to where these secrets may not be known: with them in what its instance was made with."""
    owner: Any = getattr(fn, "__self__", None)
    if not getattr(owner, "unchanging", False) or not refers((), owner.config):
        return fn
    try:
        made = type(owner)(revealed((), owner.config)[1])
    except SecretError:  # perhaps it is known there
        return fn
    return getattr(made, fn.__name__)  # type: ignore[no-any-return]


def refers(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether there is any reference among the arguments."""
    return any(_refers(each, 0) for each in (*args, *kwargs.values()))


def _refers(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return value.startswith(SCHEME)
    if type(value) in (list, tuple, dict) and len(value) <= _MOST and depth < _DEEPEST:
        return any(_refers(each, depth + 1) for each in (value.values() if type(value) is dict else value))
    return False


def _revealed(value: Any, depth: int) -> Any:
    if not _refers(value, depth):
        return value
    if isinstance(value, str):
        return _looked_up(value.removeprefix(SCHEME))
    if isinstance(value, dict):
        return {name: _revealed(each, depth + 1) for name, each in value.items()}
    return type(value)(_revealed(each, depth + 1) for each in value)


def _looked_up(name: str) -> str:
    found = secret(name)
    if found is None:
        raise SecretError(
            f"There is no secret {name!r} where this runs: set TWINGRAPH_SECRET_{name}, or put it into a file of that "
            "name in the folder that TWINGRAPH_SECRETS names."
        )
    from twingraph.executions.secrets import hide

    hide(found)
    return found
