"""Flow parameters from a function's signature: describe, parse, coerce, bind.

`describe` reads the signature once. The command line hands its words to `parse_flags`; whoever gets JSON (the input of
an execution, the body of a request) sends it through `coerce_each`. Then `bind` adds the defaults and refuses what is
missing or unknown, and `call_arguments` puts the result as the function takes it. `json_schema` and `usage` describe
the parameters to a form and to a person. Everything here is a pure function; a wrong value is a ParameterError.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_type_hints

from lokki.errors import GraphValidationError, ParameterError, nearest
from lokki.frozen import frozen, replace
from lokki.signatures import EMPTY, Argument, Way, arguments, unwrapped

if TYPE_CHECKING:
    from lokki.kinds import Kind

RESERVED = ("run_id", "cache_enabled")
Role: TypeAlias = Literal["named", "positional", "extra"]


@frozen
class Parameter:
    """One parameter of a flow; role "extra" is its `**kwargs`, which stands for any other name."""

    name: str
    hint: object = Any
    default: object = None
    required: bool = False
    role: Role = "named"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @cached_property
    def kind(self) -> Kind:
        """What it asks for: its hint, else the type of its default."""
        from lokki.kinds import kind_of, kind_of_value

        return kind_of_value(self.default) if self.hint is Any else kind_of(self.hint)


def describe(fn: Callable[..., object]) -> tuple[Parameter, ...]:
    """The parameters of a flow function; GraphValidationError for those that a flow cannot have."""
    return tuple(_described(fn, parameter) for parameter in arguments(fn))


def _described(fn: Callable[..., object], parameter: Argument) -> Parameter:
    name, default, flow = parameter.name, parameter.default, getattr(fn, "__name__", repr(fn))
    if parameter.way is Way.ANY_POSITIONAL:
        raise GraphValidationError(f"Flow {flow!r} takes *{name}, but flow parameters are given by name; name each.")
    role = _role(parameter)
    if name in RESERVED and role != "extra":
        raise GraphValidationError(f"Flow {flow!r} has a parameter {name!r}, a name that lokki needs; rename it.")
    if default is EMPTY:
        return Parameter(name, _resolved(fn, parameter.hint), None, role != "extra", role)
    return Parameter(name, _resolved(fn, parameter.hint, optional=default is None), default, False, role)


def _role(parameter: Argument) -> Role:
    if parameter.way is Way.POSITIONAL:
        return "positional"
    return "extra" if parameter.way is Way.ANY_NAMED else "named"


def _resolved(fn: Callable[..., object], annotation: object, *, optional: bool = False) -> object:
    """One hint at a time, because a name that exists for type checkers only must not hide the other hints."""
    if annotation is EMPTY:
        return Any
    known = getattr(unwrapped(fn), "__globals__", {})
    try:
        hint = get_type_hints(SimpleNamespace(__annotations__={"hint": annotation}), globalns=known)["hint"]
        return hint | None if optional and hint is not Any else hint  # `x: int = None` means an optional int
    except (NameError, AttributeError, SyntaxError, TypeError):
        return Any


def parse_text(parameter: Parameter, text: str) -> object:
    """The value that `text`, as typed on a command line, means for this parameter."""
    from lokki.conversion import read

    return _checked(parameter, read, text)


def coerce(parameter: Parameter, value: object) -> object:
    """A value from JSON or Python as this parameter wants it; one that already fits is returned as it is."""
    from lokki.conversion import convert

    if parameter.hint is Any and not isinstance(value, str):  # nothing was promised, and the value has a type already
        return value
    return _checked(parameter, convert, value)


def coerce_each(parameters: Sequence[Parameter], given: Mapping[str, object]) -> dict[str, object]:
    """`coerce` for all given values; a name that no parameter has stays as it is, for `bind` to refuse."""
    found = {name: _find(parameters, name) for name in given}
    return {name: coerce(known, given[name]) if known else given[name] for name, known in found.items()}


def _checked(parameter: Parameter, how: Callable[[Kind, Any], object], value: object) -> object:
    from lokki.conversion import Mismatch

    try:
        return how(parameter.kind, value)
    except Mismatch as problem:
        raise ParameterError(f"Invalid value for {parameter.flag!r}: {problem}", parameter.name) from None


def parse_flags(parameters: Sequence[Parameter], argv: Sequence[str]) -> dict[str, object]:
    """Typed values by name from `--name value`, `--name=value` and, for a yes or no, `--name` and `--no-name`.

    A flag that is given again adds to a list, and replaces any other value. A value that starts with `--` is written
    with `=`.
    """
    values: dict[str, object] = {}
    words = list(reversed(argv))
    while words:
        name, value = _next_flag(parameters, words)
        earlier = values.get(name)
        values[name] = [*earlier, *value] if isinstance(earlier, list) and isinstance(value, list) else value
    return values


def _next_flag(parameters: Sequence[Parameter], words: list[str]) -> tuple[str, object]:
    """Take one flag and its value off the end of `words`."""
    word = words.pop()
    flag, equals, text = word.partition("=")
    name = flag[2:].replace("-", "_")
    if not flag.startswith("--") or not name:
        raise _stray(parameters, word)
    if negated := _negated(parameters, name):
        if equals:
            raise ParameterError(f"Parameter {flag!r} takes no value; write '{negated.flag}={text}'", negated.name)
        return negated.name, False
    parameter = _find(parameters, name)
    if parameter is None:
        raise _unexpected(parameters, flag, name)
    return name, _flag_value(parameter, text if equals else None, words)


def _flag_value(parameter: Parameter, text: str | None, words: list[str]) -> object:
    from lokki.kinds import is_switch

    if text is not None:
        return parse_text(parameter, text)
    if words and not words[-1].startswith("--"):
        return parse_text(parameter, words.pop())
    if is_switch(parameter.kind):
        return True
    raise ParameterError(f"Parameter {parameter.flag!r} needs a value", parameter.name)


def _negated(parameters: Sequence[Parameter], name: str) -> Parameter | None:
    """The yes-or-no parameter that `no_...` switches off, unless one of that very name exists."""
    from lokki.kinds import is_switch

    named = {parameter.name: parameter for parameter in parameters if parameter.role != "extra"}
    meant = named.get(name.removeprefix("no_")) if name not in named and name.startswith("no_") else None
    return meant if meant and is_switch(meant.kind) else None


def _find(parameters: Sequence[Parameter], name: str) -> Parameter | None:
    """The parameter of that name; in a flow with `**kwargs` there is one for every name that lokki does not need."""
    for parameter in parameters:
        if parameter.role == "extra":
            return replace(parameter, name=name) if name.isidentifier() and name not in RESERVED else None
        if parameter.name == name:
            return parameter
    return None


def _stray(parameters: Iterable[Parameter], word: str) -> ParameterError:
    name, _, text = word.lstrip("-").partition("=")
    meant = next((parameter for parameter in parameters if parameter.name == name.replace("-", "_")), None)
    spelling = f"'{meant.flag} {text or 'value'}'" if meant else "'--name value', a list as '--name a,b'"
    return ParameterError(f"Unexpected argument: {word!r}; a parameter is written as {spelling}", name)


def _unexpected(parameters: Iterable[Parameter], flag: str, name: str, flow: str = "") -> ParameterError:
    flags = [parameter.flag for parameter in parameters if parameter.role != "extra"]
    subject = f"flow {flow!r}" if flow else "this flow"
    known = f"; {subject} takes {', '.join(flags) or 'no parameters'}"
    hint = "; lokki needs this name itself" if name in RESERVED else _near(name, parameters) or known
    return ParameterError(f"Unexpected parameter: {flag!r}{hint}", name)


def _near(name: str, parameters: Iterable[Parameter]) -> str:
    meant = nearest(name, [parameter.name for parameter in parameters if parameter.role != "extra"])
    return re.sub(r"'(\w+)'", lambda found: f"'--{found[1].replace('_', '-')}'", meant)


def bind(parameters: Sequence[Parameter], given: Mapping[str, object], *, flow: str) -> dict[str, object]:
    """Every parameter with its given value, taken as it is, or its default; none may be missing or unknown."""
    for name in given:
        if _find(parameters, name) is None:
            raise _unexpected(parameters, f"--{name.replace('_', '-')}", name, flow)
    named = [parameter for parameter in parameters if parameter.role != "extra"]
    if missing := [parameter for parameter in named if parameter.required and parameter.name not in given]:
        flags = ", ".join(repr(parameter.flag) for parameter in missing)
        raise ParameterError(f"Missing required parameter: {flags}", missing[0].name)
    return {parameter.name: _fresh(parameter.default) for parameter in named} | dict(given)


def call_arguments(
    parameters: Iterable[Parameter], bound: Mapping[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """What `bind` gave, as the function takes it: positional-only parameters in order, the rest by name."""
    positional = [parameter.name for parameter in parameters if parameter.role == "positional"]
    by_name = {name: value for name, value in bound.items() if name not in positional}
    return tuple(bound[name] for name in positional), by_name


def _fresh(value: Any) -> Any:
    """A copy of the containers in a default, so that no call sees what another one put in; all else is shared."""
    if type(value) in (list, tuple):
        return type(value)(map(_fresh, value))
    if type(value) is dict:
        return {key: _fresh(inner) for key, inner in value.items()}
    return copy.copy(value) if isinstance(value, list | dict | set | bytearray) else value


def json_schema(parameters: Sequence[Parameter]) -> dict[str, object]:
    """JSON Schema (draft 2020-12) of the object that holds a value for each parameter."""
    from lokki.kinds import schema_of

    named = [parameter for parameter in parameters if parameter.role != "extra"]
    others = [schema_of(parameter.kind) for parameter in parameters if parameter.role == "extra"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {parameter.name: schema_of(parameter.kind) | _schema_default(parameter) for parameter in named},
        "required": [parameter.name for parameter in named if parameter.required],
        "additionalProperties": others[0] if others else False,
    }


def _schema_default(parameter: Parameter) -> dict[str, object]:
    from lokki.kinds import json_of

    try:
        return {} if parameter.required else {"default": json_of(parameter.default)}
    except TypeError:
        return {}


def usage(parameters: Iterable[Parameter]) -> list[tuple[str, str, str, bool]]:
    """A row of a help page for each parameter: flag, type, the default as it would be typed, whether it is required."""
    return [_usage_row(parameter) for parameter in parameters]


def _usage_row(parameter: Parameter) -> tuple[str, str, str, bool]:
    from lokki.kinds import label, text_of

    if parameter.role == "extra":
        return "--NAME", label(parameter.kind), "", False
    default = "" if parameter.required else text_of(parameter.default)
    return parameter.flag, label(parameter.kind), default, parameter.required
