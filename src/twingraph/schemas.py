"""What a function takes, as a JSON schema: its types and defaults, and what its docstring says of each parameter.

A palette lists components with it, a form asks for its fields, and `bound` holds values that came as JSON against it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

from lokki.errors import LokkiError
from lokki.params import Parameter, describe, json_schema

_LEFT_OUT = ("self", "config", "parent_hash")
_ARGUMENT = re.compile(r"(\*{0,2}\w+)(?: \([^)]*\))?: (.+)")


def inputs_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """A JSON schema of the parameters of a function."""
    try:
        parameters = [each for each in describe(fn) if each.name not in ("self", "parent_hash")]
        return described(parameters, told_of(inspect.getdoc(fn) or ""))
    except (LokkiError, ValueError, TypeError):  # what it takes cannot be told
        return {"type": "object"}


def settings_of(fn: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters of a constructor, by name."""
    return tuple(each for each in describe(fn) if each.name not in _LEFT_OUT and each.role == "named")


def described(parameters: Collection[Parameter], told: Mapping[str, str]) -> dict[str, Any]:
    """A JSON schema of parameters, with what is told of them."""
    made: dict[str, Any] = dict(json_schema([*parameters]))
    for name, held in made["properties"].items():
        if name in told:
            held["description"] = told[name]
    return made


@lru_cache(maxsize=1024)
def told_of(docstring: str) -> Mapping[str, str]:
    """What a docstring says of each argument, under `Args:`."""
    return dict(_arguments(inspect.cleandoc(docstring).splitlines()))


def _arguments(lines: list[str]) -> Iterator[tuple[str, str]]:
    name, words = "", ""
    start = lines.index("Args:") + 1 if "Args:" in lines else len(lines)
    for line in lines[start:]:
        if line and not line.startswith(" "):
            break
        found = _ARGUMENT.fullmatch(line.strip()) if line.startswith("    ") and line[4:5].strip() else None
        if found:
            if name:
                yield name, words
            name, words = found[1].lstrip("*"), found[2]
        elif line.strip():
            words += " " + line.strip()
    if name:
        yield name, words
