"""Which modules are one's own: neither of the standard library nor installed, so that another machine has them not."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FunctionType
from typing import Any

_STANDARD = os.path.dirname(os.__file__) + os.sep
OURS = ("lokki", "twingraph")
COMPONENTS = "twingraph.components"
_MAKERS = {"component": "twingraph.decorators", "pipeline": "twingraph.pipelines"}
_there: ContextVar[bool] = ContextVar("there", default=False)


@contextmanager
def installed_there() -> Iterator[None]:
    """Inside, the other side has this library."""
    token = _there.set(True)
    try:
        yield
    finally:
        _there.reset(token)


def is_own(module: str) -> bool:
    """Whether a module is one's own, which the other side has not: neither installed nor of the standard library."""
    if module == "__main__":
        return True
    if is_built_in(module):
        return False
    if module.partition(".")[0] in OURS:
        return not _there.get()
    path = _path(module)
    return os.path.isabs(path) and "-packages" + os.sep not in path and not path.startswith(_STANDARD)


def is_built_in(module: str) -> bool:
    """Whether a module is of the components that come with this library, which run where it is installed."""
    return module == COMPONENTS or module.startswith(COMPONENTS + ".")


def is_there() -> bool:
    """Whether the other side is known to have this library."""
    return _there.get()


def is_library(module: str, space: dict[str, Any]) -> bool:
    """Whether these are the names of a module that the other side can import."""
    return not is_own(module) and vars(sys.modules.get(module, sys)) is space


def _path(module: str) -> str:
    known = sys.modules.get(module)
    if known is None:
        with suppress(ImportError, ValueError):
            return getattr(importlib.util.find_spec(module), "origin", None) or ""
    return getattr(known, "__file__", None) or ""


def found(module: str | None, qualname: str) -> Any:
    """What has this name in a module that is loaded; None where nothing has."""
    value: Any = sys.modules.get(module or "")
    for part in qualname.split("."):
        value = getattr(value, part, None)
    return value


def decorator(fn: FunctionType) -> str:
    """Which of our decorators a function is, also with arguments; empty for any other function."""
    name = fn.__qualname__.removesuffix(".<locals>.decorate")
    return name if fn.__module__ == _MAKERS.get(name) and not is_there() else ""


def wrapped(value: Any) -> Any:
    """The function of a component or step; None for anything else."""
    library = type(value).__module__.partition(".")[0]
    if library not in OURS or (library == "lokki" and not is_own(library)):  # where lokki is, a step is made as it is
        return None
    inner = getattr(value, "fn", None)
    return inner if callable(inner) else None
